"""Ads as HTCondor's library gives them, read although something in one cannot be.

Users write their jobs' ads and nodes their slots'. A text that is no UTF-8 raises when it is looked at; one such ad
must not hide all others, as nothing may be decided on a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")


class ReadableAd(Mapping[str, Any]):
    """An ad in which there is only what can be read."""

    def __init__(self, ad: Mapping[str, Any]) -> None:
        self._ad = ad

    def __getitem__(self, name: str) -> Any:
        try:
            value = self._ad.get(name)
            str(value)  # an expression is read only when it is written
        except Exception as error:
            raise KeyError(name) from error
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def eval(self, name: str) -> Any:
        """The value of an expression; None for one that cannot be evaluated."""
        try:
            return self._ad.eval(name)  # type: ignore[attr-defined]  # of the library's ads
        except Exception:  # noqa: BLE001 - whatever the library raises
            return None


def read_each(ads: Iterable[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    """What ``read`` makes of each ad, or of what can be read of it."""
    for ad in ads:
        try:
            found = read(ad)
        except Exception:  # noqa: BLE001 - whatever the library raises
            found = read(ReadableAd(ad))
        yield found


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number. What is undefined, or an error, the library gives as a kind of integer."""
    return type(value) in (int, float)
