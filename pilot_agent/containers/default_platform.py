"""Which platform jobs get that name none: a fixed one, the dictionary's first, or one that each pilot draws."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.config_images import weights
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.spelling import nearest

USUAL = "default"
"""A platform of this name is the default one where the configuration names none."""


@dataclass(frozen=True, slots=True)
class DefaultPlatform:
    """``order``: the platforms that may be the default one; the first that has an image here is it. ``wanted``: the
    configured name, None when any will do. ``drawn_from``: the weights in words, empty without a draw."""

    order: tuple[str, ...]
    wanted: str | None = None
    drawn_from: str = ""

    @classmethod
    def of(
        cls, configured: str | Mapping[str, float] | None, platforms: Sequence[str], pilot_id: str
    ) -> DefaultPlatform:
        """What ``containers.default`` means for a dictionary with these platforms.

        Raises ``PilotError`` (image.not_in_dictionary) when it names one that the dictionary does not have.
        """
        if configured is None:
            return cls(tuple(sorted(platforms, key=lambda platform: platform != USUAL)))
        weighted = weights(configured)
        for platform in weighted:
            if platform not in platforms:
                raise _unknown(platform, platforms)
        if len(weighted) == 1:
            (only,) = weighted
            return cls((only,), only)
        told = ", ".join(f"{weight:g}% {platform}" for platform, weight in weighted.items())
        return cls(draw(weighted, pilot_id), drawn_from=told)

    def settle(self, taken: Collection[str]) -> tuple[str | None, str]:
        """The default platform, None when there is none, and what is to be said of it; ``taken`` have an image here."""
        default = next((platform for platform in self.order if platform in taken), None)
        if self.wanted is not None and default is None:
            return None, f"the default platform {self.wanted} has no image here, so jobs must name another"
        if not self.drawn_from:
            return default, ""
        if default is None:
            return (
                None,
                f"no platform of containers.default ({self.drawn_from}) has an image here, so jobs must name one",
            )
        said = f"the default platform {default} was drawn from {self.drawn_from} by the pilot's id"
        passed = self.order[: self.order.index(default)]
        return default, said + (f" ({', '.join(passed)} came before it and has no image here)" if passed else "")


def draw(weighted: Mapping[str, float], pilot_id: str) -> tuple[str, ...]:
    """Platforms in the order in which they are drawn, the same for the same id.

    Each gets an exponentially distributed time with its weight as the rate, and the earliest is first. Whichever
    platforms have an image in the end, each of them is then the first with the probability that their weights give
    (P. Efraimidis and P. Spirakis, Weighted random sampling with a reservoir, 2006).
    """
    import hashlib
    import math

    def time_of(platform: str) -> float:
        words = f"{pilot_id}\0{platform}".encode()
        number = int.from_bytes(hashlib.sha256(words).digest()[:8], "big")
        return -math.log((number + 1) / (1 << 64)) / weighted[platform]

    return tuple(sorted(weighted, key=lambda platform: (time_of(platform), platform)))


def _unknown(platform: str, platforms: Sequence[str]) -> PilotError:
    known = ", ".join(platforms) or "nothing"
    message = f"containers.default is {platform!r}, and the image dictionary has {known}{nearest(platform, platforms)}"
    hint = "the VO adds the platform to images, or corrects containers.default"
    return PilotError(Failure(FailureKind.CONFIG, "image.not_in_dictionary", message, hint))
