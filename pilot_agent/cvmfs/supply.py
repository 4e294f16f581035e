"""Where a pilot's own CVMFS client comes from: the one that the configuration names, or of the published ones the first
that works on the node; a private copy in the workspace either way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.codec import to_json
from pilot_agent.cvmfs.distribution import EMPTIED, Distribution, lay_out, place_problem
from pilot_agent.model import Fact, Failure, FailureKind, Json, PilotError
from pilot_agent.tarballs.index import node_system

if TYPE_CHECKING:
    from pilot_agent.cvmfs.obtaining import DistributionChoice
    from pilot_agent.process import WakeUp

NAMED_NOWHERE = (
    "no distribution of CVMFS's client is configured; the factory names one in cvmfs.distribution, or published ones "
    "in cvmfs.distributions"
)
LOCAL, PUBLISHED = "local", "published"


@dataclass(frozen=True, slots=True)
class Supplied:
    """The distribution that is used. ``origin`` is local or published, ``place`` what the configuration names, and
    ``choice`` what became of the published ones."""

    distribution: Distribution
    origin: str
    place: str
    choice: DistributionChoice | None = None


def is_configured(config: Mapping[str, Json]) -> bool:
    """Whether the pilot could bring a client of its own. ``config`` is the whole configuration."""
    return bool(config["cvmfs"]["distribution"] or config["cvmfs"]["distributions"])


def supply(
    config: Mapping[str, Json],
    facts: Mapping[str, Fact],
    environment: Mapping[str, str],
    *,
    artifacts: str,
    directory: str,
    wake: WakeUp | None = None,
) -> Supplied:
    """Make a private copy in ``directory``, which must not exist. ``artifacts`` is a directory of the pilot's own for
    what is fetched, ``environment`` that of the site.

    ``cvmfs.distribution`` is taken as it is; without it the published ones are tried in their order. A relative path
    begins at the start directory, into which a batch system puts the files of a job. May take minutes. Raises
    ``PilotError`` as ``lay_out``, ``NoDistributionError`` as ``obtain_distribution``, ``Interrupted``.
    """
    if local := config["cvmfs"]["distribution"]:
        path = os.path.abspath(local)
        return Supplied(lay_out(path, directory), LOCAL, path)
    # Late: this loads what reads archives and addresses.
    from pilot_agent.cvmfs.obtaining import distribution_request, obtain_distribution

    request = distribution_request(config, node_system(facts), environment, artifacts)
    if request is None:
        raise PilotError(Failure(FailureKind.CONFIG, "cvmfs.distribution", NAMED_NOWHERE, stage="mount"))
    if problem := place_problem(directory):
        hint = "the site puts another directory first in site.scratch"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "cvmfs.distribution", problem, hint, stage="mount"))
    real = os.path.realpath(directory)
    choice = obtain_distribution(request, real, wake=wake)
    for name in (*EMPTIED, "log"):
        os.makedirs(os.path.join(real, name), mode=0o755, exist_ok=True)
    return Supplied(Distribution(real), PUBLISHED, request.index, choice)


def facts_of(supplied: Supplied) -> Iterator[Fact]:
    """``cvmfs.distribution``, which the pilot uses, and ``cvmfs.distributions`` that were looked at, with reasons."""
    value: dict[str, Json] = {"origin": supplied.origin, "place": supplied.place, "root": supplied.distribution.root}
    if supplied.choice is not None and supplied.choice.taken is not None:
        taken = supplied.choice.taken
        value |= {"file": taken.file, "version": taken.version, "machine_type": taken.machine_type}
        value |= {"source": taken.source, "sha256": supplied.choice.sha256, "seconds": supplied.choice.seconds}
    yield Fact("cvmfs.distribution", value, source=supplied.place)
    if supplied.choice is not None:
        yield from choice_facts(supplied.choice, supplied.place)


def choice_facts(choice: DistributionChoice, place: str) -> Iterator[Fact]:
    """``cvmfs.distributions``: what became of each published one, also where none could be taken."""
    yield Fact("cvmfs.distributions", to_json(choice.why), source=place)
