"""The state of a pilot between two stages: all of it, as one frozen record that is written after every stage."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from pilot_agent import __version__
from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.collect import PluginReport
from pilot_agent.config import Config
from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.hookspecs import ContainerRequest
from pilot_agent.lifecycle.deadline import Deadline
from pilot_agent.light import dumps
from pilot_agent.model import (
    BenchmarkScore,
    CheckResult,
    ContainerDecision,
    Fact,
    Failure,
    FailureKind,
    Finding,
    ImageCandidate,
    Json,
    Limit,
    PilotError,
    ServiceState,
    TimelineEntry,
    Verdict,
)
from pilot_agent.services.taken import ServiceShare
from pilot_agent.startd.choice import CondorChoice


class BadFinding(ValueError):  # noqa: N818 - it names what is wrong
    """A fact or limit that cannot be taken as it is."""


@dataclass(frozen=True, slots=True)
class State:
    """What the pilot knows and has decided so far. Stages return a new one; nothing is changed in place."""

    pilot_id: str
    started: float
    host: str
    user: str
    config: Config
    environment: dict[str, str]
    version: str = __version__
    workspace: str | None = None
    output: str = "."
    finished_stages: tuple[str, ...] = ()
    facts: dict[str, Fact] = field(default_factory=dict)
    inside: str = ""
    """The mount namespace of its own that the pilot went into; empty while it is in the node's."""
    outside: dict[str, Fact] | None = None
    """What facts were in the node's namespaces, where they differ from those inside; None until they were looked at
    inside."""
    limits: tuple[Limit, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    failures: tuple[Failure, ...] = ()
    cvmfs: Json = None
    """What the report says of the ways to CVMFS, where anybody asks for it and once they were judged."""
    container: ContainerDecision | None = None
    contributed: tuple[ContainerRequest, ...] = ()
    """What setups gave for jobs' environment and containers, each under the name of who asked."""
    images: tuple[ImageCandidate, ...] = ()
    setup_attributes: dict[str, Json] = field(default_factory=dict)
    setup_expressions: dict[str, str] = field(default_factory=dict)
    services: tuple[ServiceState, ...] = ()
    service_plans: Json = None
    """What the keeper goes on with: the services' plans and how they stood at the end of their stage."""
    shares: tuple[ServiceShare, ...] = ()
    """What services take from what jobs get, once that is decided."""
    benchmarks: tuple[BenchmarkScore, ...] = ()
    attributes: dict[str, Json] = field(default_factory=dict)
    startd: Json = None
    """What the report says of slots, policies and transfer plugins, once they are planned."""
    declared: Json = None
    plugins: tuple[PluginReport, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    leftovers: tuple[Json, ...] = ()
    deadline: Deadline | None = None
    condor: CondorChoice | None = None

    @property
    def job_environment(self) -> dict[str, str]:
        """The variables that setups gave, as far as the stages have come; a later one counts."""
        return {name: value for request in self.contributed for name, value in request.environment.items()}

    def with_findings(self, findings: Iterable[Finding]) -> State:
        """This state with further facts and limits. The first source of a fact stands; later ones of the same name
        replace it only if it was not known."""
        facts = dict(self.facts)
        limits = list(self.limits)
        for finding in findings:
            if isinstance(finding, Limit):
                limits.append(finding)
            elif finding.name not in facts or not facts[finding.name].known:
                facts[finding.name] = finding
        return replace(self, facts=facts, limits=tuple(limits))

    def with_changed(self, facts: Iterable[Fact]) -> State:
        """This state with facts that are true now, whatever was found before the pilot changed it."""
        return replace(self, facts={**self.facts, **{fact.name: fact for fact in facts}})

    def require_comparable(self, findings: Iterable[Finding]) -> None:
        """Raises ``BadFinding`` for a limit below zero, and for one in another unit than others gave for its resource:
        their numbers must not be compared."""
        units = {limit.resource: limit.unit for limit in self.limits}
        for finding in findings:
            if not isinstance(finding, Limit):
                continue
            if finding.number < 0:
                raise BadFinding(f"{finding.resource} is limited to {finding.number:g}, which is less than nothing")
            known = units.setdefault(finding.resource, finding.unit)
            if known != finding.unit:
                raise BadFinding(f"{finding.resource} is limited in {known} elsewhere, here in {finding.unit}")

    def with_further_limits(self, limits: Collection[Limit]) -> State:
        """This state with limits that a stage after the probes gives, in the place of those from the same sources; the
        smallest of all is the value."""
        if not limits:
            return self
        told = {(limit.resource, limit.source) for limit in limits}
        kept = (limit for limit in self.limits if (limit.resource, limit.source) not in told)
        return replace(self, limits=(*kept, *limits)).with_resolved_limits()

    def with_resolved_limits(self) -> State:
        """This state with one fact per limited resource: the smallest limit is the value, and all are kept."""
        facts = dict(self.facts)
        by_resource: dict[str, list[Limit]] = {}
        for limit in self.limits:
            by_resource.setdefault(limit.resource, []).append(limit)
        for resource, limits in by_resource.items():
            smallest = min(limits, key=lambda limit: limit.number)
            number = smallest.number
            value = int(number) if float(number).is_integer() else number
            facts[resource] = Fact(resource, value, smallest.unit, source=smallest.source, limits=tuple(limits))
        return replace(self, facts=facts)


def save_state(state: State, path: str) -> None:
    """Write the state in one step, mode 0600. Raises ``OSError``."""
    # In one line: only programs read it, and it is written after every stage.
    write_atomically(path, dumps(to_json(state)).encode() + b"\n")


def load_state(path: str) -> State:
    """The state saved at ``path``. Raises ``PilotError`` (state.unreadable) when it is missing or damaged."""
    try:
        return from_json(State, json.loads(read_bounded(path, limit_bytes=64 << 20)))
    except (OSError, ValueError, CodecError) as error:
        raise PilotError(
            Failure(
                FailureKind.USAGE,
                "state.unreadable",
                f"no pilot can be resumed from {path}: {error}",
                hint="name the workspace of a pilot that was cut between two stages",
            )
        ) from error
