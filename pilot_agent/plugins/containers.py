"""Containers: the configuration's image dictionary as candidates, the container stage's decision, and programs of
plugins inside the images that were taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent.containers.decision import NoContainersError, decide
from pilot_agent.containers.images import dictionary
from pilot_agent.containers.inside import Interior, JobContainer, image_facts, never_ran, script_inside
from pilot_agent.containers.surroundings import settle
from pilot_agent.hookspecs import hookimpl
from pilot_agent.model import ImageCandidate, Json

__all__ = [
    "Interior",
    "JobContainer",
    "NoContainersError",
    "decide",
    "image_facts",
    "never_ran",
    "pilot_images",
    "script_inside",
    "settle",
]


@hookimpl
def pilot_images(config: Mapping[str, Json]) -> Iterable[ImageCandidate]:
    """The candidates of the configuration's ``images``, in its order."""
    yield from dictionary(config["images"])
