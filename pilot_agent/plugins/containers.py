"""Containers: the configuration's image dictionary as candidates, and the container stage's decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent.containers.decision import decide
from pilot_agent.containers.images import dictionary
from pilot_agent.hookspecs import hookimpl
from pilot_agent.model import ImageCandidate, Json

__all__ = ["decide", "pilot_images"]


@hookimpl
def pilot_images(config: Mapping[str, Json]) -> Iterable[ImageCandidate]:
    """The candidates of the configuration's ``images``, in its order."""
    yield from dictionary(config["images"])
