"""Which entries may be asked for which jobs: by size, by the pilot's own rules, and by a policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pilot_agent.containers.negotiation import negotiate
from pilot_agent.model import CheckStatus, FactStatus, PilotError
from pilot_agent.requirement_text import Requirement
from pilot_agent.requirements import evaluate as judge
from server_stub.frontend.expressions import UNDEFINED, Expression, evaluate, parse_expression
from server_stub.frontend.groups import Borders, JobGroup
from server_stub.frontend.jobs import Demand, Scalar
from server_stub.frontend.offers import Offer

Allowed = npt.NDArray[np.bool_]
Ranks = npt.NDArray[np.float64]

FIXED = ("RequestCpus", "RequestMemory", "RequestDisk", "RequestGPUs", "JobLength", "WantContainer")
"""What a policy always sees of a job, beside the attributes that it names itself. ``JobLength`` is in seconds."""
FACTS_VALID_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Where jobs may go (``match``) and where first (``rank``, the larger). An entry is MY, a job TARGET."""

    match: Expression
    rank: Expression
    more: frozenset[str] = frozenset()

    @property
    def job_attributes(self) -> tuple[str, ...]:
        """The attributes of jobs to read, beyond the fixed ones: those that it names as TARGET's, and ``more``."""
        fixed = {name.lower() for name in FIXED}
        return tuple(sorted((self.match.other | self.rank.other | self.more) - fixed))


def policy(match: str = "true", rank: str = "0", more: Iterable[str] = ()) -> Policy:
    """The policy of two ClassAd expressions; ``more`` are attributes that requirements of jobs read of the job itself.
    Raises ``PilotError`` (config.invalid)."""
    named = frozenset(name.lower() for name in more)
    return Policy(parse_expression(match, "policy.match"), parse_expression(rank, "policy.rank"), named)


@dataclass(frozen=True, slots=True)
class Vo:
    """What the VO whose jobs these are wants of every node: its word for containers, and what it requires."""

    name: str
    containers: str = "OPTIONAL"
    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class Matches:
    """For each group (row) and entry (column): whether it may be asked, and its rank. ``refused`` says of entries that
    are asked for nothing why."""

    allowed: Allowed
    rank: Ranks
    refused: Mapping[str, str] = field(default_factory=dict)


def borders(offers: Iterable[Offer]) -> Borders:
    """The sizes that decide which groups fit where."""
    listed = list(offers)
    return Borders(
        frozenset(offer.memory_mib for offer in listed),
        frozenset(offer.disk_mib for offer in listed if offer.disk_mib),
        frozenset(offer.walltime_seconds for offer in listed),
    )


def match(groups: Sequence[JobGroup], offers: Sequence[Offer], by: Policy, vo: Vo, now: float) -> Matches:
    """Which entries may be asked for which groups."""
    refused = {offer.name: reason for offer in offers if (reason := refusal(offer, vo, now))}
    allowed = _fits(groups, offers, vo)
    allowed[:, [offer.name in refused for offer in offers]] = False
    rank = np.zeros(allowed.shape)
    rows, columns = np.flatnonzero(allowed.any(axis=1)), np.flatnonzero(allowed.any(axis=0))
    if not len(rows):
        return Matches(allowed, rank, refused)
    entries = [offers[int(column)].ad() for column in columns]
    demands = [groups[int(row)].demand for row in rows]
    jobs = [job_ad(demand, by.job_attributes) for demand in demands]
    block = np.ix_(rows, columns)
    with np.errstate(invalid="ignore"):
        allowed[block] &= evaluate(by.match, entries, jobs).T > 0
    allowed[block] &= _wanted(demands, jobs, entries)
    rank[block] = np.nan_to_num(evaluate(by.rank, entries, jobs).T, nan=0.0, neginf=0.0)
    return Matches(allowed, rank, refused)


def refusal(offer: Offer, vo: Vo, now: float) -> str:
    """Why an entry is asked for nothing; empty when it may be."""
    if offer.downtime:
        return "it is in downtime"
    if offer.vos and vo.name not in offer.vos:
        return f"it takes no pilots of {vo.name}; it takes those of {', '.join(sorted(offer.vos))}"
    negotiation = negotiate(vo.containers, offer.containers)
    if negotiation.decision == "FAIL":
        return f"a pilot there would end with container.conflict: {negotiation.reason}"
    return _unmet(offer, vo, now)


def _unmet(offer: Offer, vo: Vo, now: float) -> str:
    """What every node seen there lately lacks. What no pilot has told yet is no reason: the next one will."""
    lately = [node for node in offer.seen if now - node.at <= FACTS_VALID_SECONDS]
    messages = []
    for node in lately:
        known = {name: fact for name, fact in node.facts.items() if fact.status is not FactStatus.UNKNOWN}
        results = [judge(requirement, known) for requirement in vo.requirements if _known(requirement, known)]
        failed = [result.message for result in results if result.status is CheckStatus.FAIL]
        if not failed:
            return ""
        messages += failed
    if not messages:
        return ""
    nodes = "the node" if len(lately) == 1 else f"all {len(lately)} nodes"
    return f"{nodes} seen there lately would be refused: {messages[-1]}"


def _known(requirement: Requirement, facts: Mapping[str, object]) -> bool:
    names = [step for step in requirement.steps if isinstance(step, str)]
    return any(".".join(names[:count]) in facts for count in range(1, len(names) + 1))


def _fits(groups: Sequence[JobGroup], offers: Sequence[Offer], vo: Vo) -> Allowed:
    """Whether a pilot there is large enough, lives long enough, and runs containers where the jobs need them."""
    need = np.array([group.demand[:5] for group in groups], np.int64).reshape(-1, 5)
    sizes = [[o.cores, o.memory_mib, o.disk_mib or 1 << 60, o.gpus, o.walltime_seconds] for o in offers]
    have = np.array(sizes, np.int64).reshape(-1, 5)
    fits = np.ones((len(groups), len(offers)), np.bool_)
    for column in range(5):
        fits &= need[:, None, column] <= have[None, :, column]
    without = np.array([negotiate(vo.containers, offer.containers).decision == "NEVER" for offer in offers], np.bool_)
    contained = np.array([group.demand.container for group in groups], np.bool_)
    return fits & ~(contained[:, None] & without[None, :])


def _wanted(
    demands: Sequence[Demand], jobs: Sequence[Mapping[str, Scalar]], entries: Sequence[Mapping[str, Scalar]]
) -> Allowed:
    """Whether the jobs' own requirements leave the entry possible. What depends on attributes that only a running pilot
    has, or on its size (judged already), stays possible; what is no expression to HTCondor matches nowhere there."""
    possible = np.ones((len(demands), len(entries)), np.bool_)
    by_text: dict[str, list[int]] = {}
    for place, demand in enumerate(demands):
        by_text.setdefault(demand.requirements, []).append(place)
    sizes = {name.lower() for name in FIXED}
    for text, places in by_text.items():
        if not text:
            continue
        try:
            expression = parse_expression(text, "the requirements of a job")
        except PilotError:
            continue
        ours = [{name: value for name, value in jobs[place].items() if name.lower() not in sizes} for place in places]
        outcomes = evaluate(expression, ours, entries)
        with np.errstate(invalid="ignore"):
            possible[places] = (outcomes > 0) | (outcomes == UNDEFINED)
    return possible


def job_ad(demand: Demand, names: Sequence[str]) -> dict[str, Scalar]:
    """What a policy sees of a job; ``names`` are those of ``demand.attributes``."""
    fixed: tuple[Scalar, ...] = (
        demand.cores,
        demand.memory_mib,
        demand.disk_mib * 1024,
        demand.gpus,
        demand.walltime_seconds or None,
        demand.container,
    )
    return {**dict(zip(FIXED, fixed, strict=True)), **dict(zip(names, demand.attributes, strict=False))}
