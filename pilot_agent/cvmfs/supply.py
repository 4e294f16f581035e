"""A client of CVMFS for the pilot's own rungs where none is named by its path: one of the published, in the workspace.

It is fetched once, and only where facts say that a rung which needs it would be taken. The rungs make their private
copies of it, as of a distribution that the configuration names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.codec import to_json
from pilot_agent.cvmfs.distribution import require_trusted
from pilot_agent.cvmfs.ladder import OWN, Ladder
from pilot_agent.cvmfs.obtaining import (
    DistributionVerdict,
    NoDistributionError,
    consider,
    distribution_request,
    nothing_fits,
    obtain_distribution,
)
from pilot_agent.cvmfs.rungs import Judged
from pilot_agent.model import Fact, Failure, Json, PilotError
from pilot_agent.tarballs.index import node_system

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp

NAME = "cvmfs-client"
TAKEN, LOOKED_AT = FACTS = ("cvmfs.distribution", "cvmfs.distributions")
"""The client that is used, and what became of every published one."""


def without_client(ladder: Ladder, failure: Failure | None) -> dict[str, Judged]:
    """What becomes of the rungs that were not refused before, where ``failure`` is why there is no client."""
    if failure is None:
        return {}
    judged = Judged(False, f"{failure.message}; {failure.hint}")
    return {rung.name: judged for rung in ladder.rungs if rung.name in OWN and rung.state != "refused"}


@dataclass(frozen=True, slots=True)
class Client:
    """``source`` is the directory of the distribution or its archive, ``fetched`` whether the pilot brought it. Empty
    where there is none: ``failure`` says why none could be had. ``facts`` are those of ``FACTS`` that are known."""

    source: str = ""
    fetched: bool = False
    facts: tuple[Fact, ...] = ()
    failure: Failure | None = None

    def discard(self) -> None:
        """Remove it once the rungs have their copies."""
        if self.fetched:
            shutil.rmtree(self.source, ignore_errors=True)


def published_client(
    ladder: Ladder,
    config: Mapping[str, Json],
    facts: Mapping[str, Fact],
    environment: Mapping[str, str],
    artifacts: str,
    *,
    wake: WakeUp | None = None,
) -> Client:
    """The client for the rung that ``ladder`` takes by facts alone; nothing where that needs none.

    ``config`` is the whole configuration, ``environment`` that of the site, ``artifacts`` a directory of the pilot's
    own. May take minutes. Raises ``Interrupted``.
    """
    if ladder.taken is None or ladder.taken.name not in OWN:
        return Client()
    request = distribution_request(config, node_system(facts), environment, artifacts)
    if request is None:
        return Client()
    os.makedirs(artifacts, mode=0o700, exist_ok=True)
    place = os.path.join(os.path.realpath(artifacts), NAME)
    try:
        choice = obtain_distribution(request, place, wake=wake)
    except NoDistributionError as error:
        told = Fact(LOOKED_AT, to_json(error.choice.why), source=request.index)
        return Client(facts=(told,), failure=error.failure)
    assert choice.taken is not None, "what was obtained is told"
    taken = {name: value for name, value in to_json(choice.taken).items() if name not in ("state", "reason")}
    taken |= {"sha256": choice.sha256, "seconds": choice.seconds}
    told = Fact(LOOKED_AT, to_json(choice.why), source=request.index)
    return Client(place, True, (Fact(TAKEN, taken, source=request.index), told))


@dataclass(frozen=True, slots=True)
class Considered:
    """What became of every published client in ``place``, an index, or none where a client is named by its path;
    ``failure`` says why none could be taken."""

    place: str
    why: tuple[DistributionVerdict, ...]
    failure: Failure | None = None


def needs_client(ladder: Ladder, config: Mapping[str, Json]) -> bool:
    """Whether a published client may be needed: none is named by its path, and a rung of the pilot's own is open."""
    settings = config["cvmfs"]
    if settings["distribution"] or not settings["distributions"]:
        return False
    return any(rung.name in OWN and rung.state != "refused" for rung in ladder.rungs)


def named_client(config: Mapping[str, Json]) -> Considered | None:
    """The client that ``cvmfs.distribution`` names by its path, where a pilot that started here would refuse it."""
    named = config["cvmfs"]["distribution"]
    if not named:
        return None
    place = os.path.abspath(named)
    try:
        require_trusted(place)
    except PilotError as error:
        return Considered(place, (), error.failure)
    return None


def considered(
    config: Mapping[str, Json],
    facts: Mapping[str, Fact],
    environment: Mapping[str, str],
    directory: str,
    *,
    fetch: bool,
) -> Considered:
    """Every published client with what the index says of it for this node; with ``fetch`` they are tried as by a pilot.
    ``directory`` is the caller's own, for what is fetched. Raises ``Interrupted``."""
    request = distribution_request(config, node_system(facts), environment, directory)
    assert request is not None, "the caller asked needs_client"
    try:
        choice = obtain_distribution(request, os.path.join(directory, NAME)) if fetch else consider(request)
    except NoDistributionError as error:
        return Considered(request.index, error.choice.why, error.failure)
    except PilotError as error:
        verdict = DistributionVerdict(request.index, "", "", "", "refused", error.failure.message)
        return Considered(request.index, (verdict,), error.failure)
    if not any(one.state != "refused" for one in choice.why):
        return Considered(request.index, choice.why, nothing_fits(request, choice.why))
    return Considered(request.index, choice.why)
