"""Which images of the dictionary site and VO allow: sources, prefixes, digests. What any layer forbids is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.config_images import DIGEST
from pilot_agent.containers.candidates import Located, pin_of
from pilot_agent.model import Json

_TAG = re.compile(rf":\w[\w.-]{{0,127}}(@{DIGEST})?|@{DIGEST}", re.ASCII)
_UPWARDS = re.compile(r"(?:/|%2f)(?:\.|%2e){1,2}(?:[/?#]|%2f|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OfLayer:
    """What one layer allows."""

    layer: str
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.allowed) or 'nothing'} ({self.layer} layer)"


@dataclass(frozen=True, slots=True)
class Restrictions:
    """What is allowed: an image must satisfy every entry. Without entries everything is allowed."""

    sources: tuple[OfLayer, ...] = ()
    prefixes: tuple[OfLayer, ...] = ()
    digests: tuple[OfLayer, ...] = ()

    @classmethod
    def of(cls, containers: Mapping[str, Json]) -> Restrictions:
        """Those of the configuration's ``containers`` section."""
        return cls(
            sources=tuple(_layers(containers.get("sources"), lower=True)),
            prefixes=tuple(_layers(containers.get("prefixes"))),
            digests=tuple(_layers(containers.get("digests"), lower=True)),
        )

    def directories_above(self, path: str) -> list[str]:
        """The prefixes that a path of the node lies under as it is written; the look at it resolves their links too."""
        return [
            prefix
            for entry in self.prefixes
            for prefix in entry.allowed
            if prefix.startswith("/") and lies_under(os.path.normpath(path), os.path.normpath(prefix))
        ]

    def forbid(self, image: Located, physical: Mapping[str, str]) -> str | None:
        """Which restriction forbids the image, in words; None when none does.

        ``physical`` has the prefixes of ``directories_above`` with their links resolved. What counts is where an image
        really lies: a link out of a prefix leads to a place that is forbidden.
        """
        for entry in self.sources:
            if image.source not in entry.allowed:
                return f"its source is {image.source}, and containers.sources allows {entry}"
        for entry in self.prefixes:
            if not any(_allows(prefix, image, physical) for prefix in entry.allowed):
                place = "it" if image.path == image.candidate.path else f"{image.path}, where it leads,"
                return f"{place} is not under what containers.prefixes allows: {entry}"
        for entry in self.digests:
            if "required" in entry.allowed and not pin_of(image.candidate) and _needs_pin(image):
                return f"it has no digest, and containers.digests is {entry}"
        return None


def of_layers(given: Json) -> tuple[OfLayer, ...]:
    """What each layer allows, from the value of a key of which all layers' count."""
    return tuple(_layers(given))


def _layers(given: Json, *, lower: bool = False) -> Iterator[OfLayer]:
    for entry in given or ():
        value = entry["value"]
        words: Sequence[str] = [value] if isinstance(value, str) else value
        yield OfLayer(entry["layer"], tuple(word.lower() if lower else word for word in words))


def _needs_pin(image: Located) -> bool:
    """A directory has no digest that could be compared; CVMFS compares those of its files itself."""
    return image.source not in ("cvmfs", "directory")


def _allows(prefix: str, image: Located, physical: Mapping[str, str]) -> bool:
    if image.form == "remote":
        return _reference_under(image.path, prefix)
    if not prefix.startswith("/"):
        return False
    return lies_under(image.path, os.path.normpath(prefix)) or (
        prefix in physical and lies_under(image.path, physical[prefix])
    )


def lies_under(path: str, directory: str) -> bool:
    """Whether a path without ``..`` is a directory or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _reference_under(reference: str, prefix: str) -> bool:
    """Whether a reference begins with ``prefix`` up to the end of a component; what is left may be its tag or digest.

    A port is no tag: another port is another server.
    """
    if not reference.startswith(prefix) or _UPWARDS.search(reference.partition("://")[2]):
        return False
    rest = reference[len(prefix) :]
    if not rest or rest.startswith("/") or prefix.endswith("/"):
        return True
    return not prefix.startswith("https:") and _TAG.fullmatch(rest) is not None
