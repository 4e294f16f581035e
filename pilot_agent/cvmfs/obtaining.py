"""The client of CVMFS that a pilot brings along: the first published distribution whose programs load on this node.

Those that cannot fit are left by what the index says, the others are tried in their order: fetched, verified, unpacked,
and asked of the node's own loader. Each one that was not taken has its reason in the report and in ``cvmfs plan``.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilot_agent.cvmfs.loading import load_problem
from pilot_agent.cvmfs.offer import ANY_SOURCE, DISTRIBUTIONS, Offer, choose_distributions
from pilot_agent.environment import clean_environment
from pilot_agent.model import Failure, FailureKind, Json, PilotError, worst_failure
from pilot_agent.tarballs.index import Choice, NodeSystem
from pilot_agent.tarballs.source import TarballSource
from pilot_agent.trust.bundle import Trust

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp

UNUSABLE = "cvmfs.no_distribution"
HINT = (
    "the factory adds a distribution for this platform to cvmfs.distributions (packaging/cvmfs_distributions.py), or "
    "the site installs what its programs lack here"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionRequest:
    """Which distribution is wanted and where they are. ``artifacts`` is a directory of this pilot's own, ``cache`` one
    that it shares with other pilots of its account (empty: none)."""

    artifacts: str
    environment: Mapping[str, str]
    index: str
    index_sha256: str = ""
    trust: Trust = field(default_factory=Trust)
    node: NodeSystem = field(default_factory=NodeSystem)
    source: str = ANY_SOURCE
    cache: str = ""
    cache_mib: int = 512
    fetch_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class DistributionVerdict:
    """What became of one distribution: ``file`` is its name in the index, or the index itself; ``state`` is ``taken``,
    ``possible`` (not tried) or ``refused``."""

    file: str
    version: str
    machine_type: str
    source: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DistributionChoice:
    """``taken`` is the one that the pilot uses, with its digest; ``why`` has every one that was looked at."""

    taken: DistributionVerdict | None = None
    sha256: str = ""
    seconds: float = 0.0
    why: tuple[DistributionVerdict, ...] = ()


class NoDistributionError(PilotError):
    """None can be used on this node; ``choice`` says why not."""

    def __init__(self, failure: Failure, choice: DistributionChoice) -> None:
        super().__init__(failure)
        self.choice = choice


def distribution_request(
    config: Mapping[str, Json], node: NodeSystem, environment: Mapping[str, str], artifacts: str
) -> DistributionRequest | None:
    """What the configuration says; None where it names no published distributions."""
    cvmfs = config["cvmfs"]
    if not cvmfs["distributions"]:
        return None
    return DistributionRequest(
        artifacts=artifacts,
        environment=environment,
        index=cvmfs["distributions"],
        index_sha256=cvmfs["distributions_sha256"] or "",
        trust=Trust.of(config),
        node=node,
        source=cvmfs["distribution_source"],
        cache=cvmfs["distribution_cache"] or "",
        cache_mib=cvmfs["distribution_cache_mib"],
        fetch_seconds=cvmfs["distribution_seconds"],
    )


def consider(request: DistributionRequest, *, wake: WakeUp | None = None) -> DistributionChoice:
    """What the index says of every distribution, without fetching one: those that are ``possible`` in the order in
    which they would be tried, then the refused. Raises ``PilotError`` where there is no index to be had."""
    choice = _listed(request, wake)
    possible = [_verdict(offer, "possible", _told(offer)) for offer in choice.fitting]
    return DistributionChoice(why=(*possible, *_refused(choice)))


def obtain_distribution(
    request: DistributionRequest, directory: str, *, wake: WakeUp | None = None
) -> DistributionChoice:
    """Unpack the first distribution that works here to ``directory``, which must not exist.

    Raises ``NoDistributionError`` with all that was tried, and nothing is left then: cvmfs.no_distribution where none
    fits, otherwise the failure of whoever must act first (artifact.*, disk.full, cvmfs.hung); ``Interrupted``.
    """
    began = time.monotonic()
    try:
        choice = _listed(request, wake)
    except PilotError as error:
        verdict = DistributionVerdict(request.index, "", "", "", "refused", error.failure.message)
        raise NoDistributionError(error.failure, DistributionChoice(why=(verdict,))) from error
    why, failures = _refused(choice), []
    for number, offer in enumerate(choice.fitting):
        try:
            _try(request, offer, directory, wake)
        except PilotError as error:
            why.append(_verdict(offer, "refused", error.failure.message))
            failures.append(error.failure)
            continue
        taken = _verdict(offer, "taken", "its programs load on this node")
        seconds = round(time.monotonic() - began, 3)
        others = [
            _verdict(other, "possible", f"not needed beside {offer.file}") for other in choice.fitting[number + 1 :]
        ]
        return DistributionChoice(taken, offer.sha256, seconds, (*why, taken, *others))
    raise NoDistributionError(_failure(request, why, failures), DistributionChoice(why=tuple(why)))


def _listed(request: DistributionRequest, wake: WakeUp | None) -> Choice[Offer]:
    offers = _source(request).listed(Offer, wake=wake)
    return choose_distributions(offers, request.node, request.source)


def _try(request: DistributionRequest, offer: Offer, directory: str, wake: WakeUp | None) -> None:
    """Raises ``PilotError`` where it cannot be had or does not load here; nothing is left then."""
    try:
        _source(request).unpack(offer, directory, wake=wake)
        environment = clean_environment(request.environment, home=request.artifacts, temporary=request.artifacts)
        problem = load_problem(directory, environment, wake=wake)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    if problem:
        shutil.rmtree(directory, ignore_errors=True)
        failure = Failure(FailureKind.NODE_RESOURCE, UNUSABLE, problem, HINT, stage=DISTRIBUTIONS.stage, retry=True)
        raise PilotError(failure)


def _source(request: DistributionRequest) -> TarballSource:
    return TarballSource(
        publication=DISTRIBUTIONS,
        place=request.index,
        index_sha256=request.index_sha256,
        environment=request.environment,
        artifacts=request.artifacts,
        trust=request.trust,
        cache=request.cache,
        cache_mib=request.cache_mib,
        seconds=request.fetch_seconds,
    )


def _refused(choice: Choice[Offer]) -> list[DistributionVerdict]:
    return [_verdict(offer, "refused", reason) for offer, reason in choice.refused]


def _verdict(offer: Offer, state: str, reason: str) -> DistributionVerdict:
    return DistributionVerdict(offer.file, offer.version, offer.machine_type, offer.source, state, reason)


def _told(offer: Offer) -> str:
    return f"built for {offer.machine_type}, needs glibc {offer.glibc}; whether its programs load is tried at the start"


def _tried(request: DistributionRequest, why: Sequence[DistributionVerdict]) -> str:
    return "; ".join(f"{one.file}: {one.reason}" for one in why) or f"{request.index} lists none"


def nothing_fits(request: DistributionRequest, why: Sequence[DistributionVerdict]) -> Failure:
    """The failure where every distribution was refused for what the node is."""
    message = f"no published CVMFS client works on this node: {_tried(request, why)}"
    return Failure(FailureKind.NODE_RESOURCE, UNUSABLE, message, HINT, stage=DISTRIBUTIONS.stage, retry=True)


def _failure(request: DistributionRequest, why: Sequence[DistributionVerdict], failures: list[Failure]) -> Failure:
    decisive = worst_failure([failure for failure in failures if failure.code != UNUSABLE])
    if decisive is None:
        return nothing_fits(request, why)
    return decisive if len(why) == 1 else replace(decisive, message=f"{decisive.message} (all: {_tried(request, why)})")
