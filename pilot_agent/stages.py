"""The stages between configure and handoff: each takes the state and returns the next one.

A stage knows how to run what was declared for it and what its outcome means; how a child is run and kept in
bounds is the host's business, what a probe reads or how an image is proven that of the packages behind the plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pilot_agent import host, tasks
from pilot_agent.codec import CodecError
from pilot_agent.collect import Declared
from pilot_agent.events import EventLog
from pilot_agent.facts import known_value
from pilot_agent.hookspecs import ContainerRequest, Context, SetupResult
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifetime import check_time, deadline_of
from pilot_agent.model import (
    CheckResult,
    CheckStatus,
    Fact,
    Failure,
    FailureKind,
    Finding,
    ImageCandidate,
    Json,
    PilotError,
)
from pilot_agent.ordering import in_order
from pilot_agent.outcomes import (
    check_result,
    decoded,
    judged,
    requirement_result,
    spoilt,
    timeline_entry,
    with_good_expressions,
)
from pilot_agent.plugins import containers, cvmfs, services
from pilot_agent.plugins.attributes import feature_attributes
from pilot_agent.programs import is_program
from pilot_agent.service_stage import kept, start_services
from pilot_agent.state import BadFinding, State
from pilot_agent.workspace import Workspace

T = TypeVar("T")
BETTER_ELSEWHERE = (FailureKind.NODE_RESOURCE, FailureKind.NETWORK)
"""The kinds that another node or a later hour may not have: the site acts, and the same pilot is tried again."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a stage works with beside the state: how children are run, what was declared, where things are."""

    around: host.Surroundings
    loaded: host.Loaded
    events: EventLog
    workspace: Workspace
    root: str = "/"
    journal: Journal | None = None
    """Where what must be undone is recorded before it is made; None where nobody would undo it."""
    mounts: bool = False
    """Whether the mount stage mounts what the site did not; otherwise it says what it would do."""
    beside: services.Beside | None = None
    """What looks after the services from their start on, whenever the pipeline waits; None where nobody goes on."""
    enters: bool = True
    """Whether the mount stage may take this process into namespaces of its own, for good."""
    record: str | None = None
    """The directory that keeps what probes and mounts read, to become a recording."""

    def context(self, state: State) -> Context:
        """What a plugin's function is given at this point."""
        return Context(
            facts=state.facts,
            config=state.config.values,
            environment=state.environment,
            root=self.root,
            workspace=self.workspace.root,
            interpreter=self.around.interpreter,
            record=self.record,
            pilot_id=state.pilot_id,
        )

    def context_for(self, declared: Declared, state: State) -> Context:
        """The same for the function of one declared record."""
        return replace(self.context(state), task=declared.record.name)


def probe(session: Session, state: State) -> State:
    """Run the probes by their needs, take the smallest limit of every resource, and decide how long the pilot lives.

    Nobody lives on a recording of a node.
    """
    state = gather(session, state, "probe", session.loaded.of("pilot_probes")).with_resolved_limits()
    return state if session.root.strip("/") else replace(state, deadline=deadline_of(state))


def mount(session: Session, state: State) -> State:
    """Find or mount file systems, and tell by which way jobs get CVMFS."""
    state = gather(session, state, "mount", session.loaded.of("pilot_mounts"))
    context = session.context(state)
    if session.mounts and not session.root.strip("/"):
        taken = cvmfs.take(
            context,
            environment=session.around.environment,
            enters=session.enters,
            journal=session.journal,
            services=[declared.record for declared in in_order(session.loaded.of("pilot_services"))],
            tell=session.events.write,
            wake=session.around.wake,
        )
        ladder, failure = taken.ladder, taken.failure
        state = state.with_changed(taken.facts).with_further_limits(taken.limits)
        if taken.namespaces is not None:
            state = replace(state, inside=cvmfs.go_inside(taken.namespaces))
    else:
        ladder, failure = cvmfs.decide(context)
    failures = (replace(failure, stage="mount"),) if failure is not None else ()
    return replace(state, cvmfs=ladder, failures=(*state.failures, *failures))


def setup_early(session: Session, state: State) -> State:
    """VO customisation that the container choice depends on."""
    return _setup(session, state, "early")


def setup_late(session: Session, state: State) -> State:
    """Files, libraries and job environment."""
    before, state = state.contributed, _setup(session, state, "late")
    if state.container is None or state.contributed == before:
        return state
    settled = containers.settle(
        session.context(state),
        tasks.container_requests(session, state),
        contained=state.container.runtime is not None,
        wake=session.around.wake,
    )
    return replace(state, container=replace(state.container, surroundings=settled))


def container(session: Session, state: State) -> State:
    """Find the runtime, decide, and prove images. Where it fails, the state still says what was looked at."""
    offered = [declared.record for declared in session.loaded.of("pilot_images")]
    requests = tasks.container_requests(session, state)
    candidates: list[ImageCandidate] = [*state.images, *offered]
    failures = state.failures
    try:
        decision = containers.decide(session.context(state), candidates, requests, session.around.wake)
    except containers.NoContainersError as error:
        decision = error.decision
        failures += (error.at(stage="container").failure,)
    state = state.with_changed(cvmfs.unseen(state.facts, contained=decision.runtime is not None))
    for verdict in decision.verdicts:
        session.events.write("image.judged", path=verdict.path, taken=verdict.taken, reason=verdict.reason)
    return replace(state, container=decision, failures=failures)


def validate(session: Session, state: State) -> State:
    """Requirements of all layers, then the checks of plugins; a required one that fails ends the pilot."""
    state, results = _shared_out(session, state)
    results += [requirement_result(entry, state) for entry in state.config.get("requirements")]
    if state.deadline is not None:
        # Again, as a node is checked for several VOs after one look at it.
        results.append(check_time(deadline_of(state)))
    checks = session.loaded.of("pilot_checks")
    ran = _run(session, state, checks)
    entries = [timeline_entry(state, "validate", ended) for ended in ran]
    # In the order in which they were declared, so that two runs can be compared line by line.
    results += [check_result(ended) for task in checks for ended in ran if ended.declared is task]
    failures = _failures_of(results, "validate")
    return replace(
        state,
        checks=(*state.checks, *results),
        failures=(*state.failures, *failures),
        timeline=(*state.timeline, *entries),
    )


def _failures_of(results: Sequence[CheckResult], stage: str, plugin: str = "") -> list[Failure]:
    """What the checks that failed mean for the pilot."""
    return [
        Failure(
            result.kind,
            result.code or f"check.{result.name}",
            result.message,
            result.hint,
            stage=stage,
            plugin=plugin,
            retry=result.kind in BETTER_ELSEWHERE,
        )
        for result in results
        if result.status is CheckStatus.FAIL
    ]


def _shared_out(session: Session, state: State) -> tuple[State, list[CheckResult]]:
    """The state with the node as jobs have it beside the services, and the verdict on that where services take any."""
    records = [declared.record for declared in in_order(session.loaded.of("pilot_services"))]
    found = services.share_out(records, state.facts)
    limits = tuple(limit for fact in found.facts for limit in fact.limits if limit not in state.limits)
    state = replace(state, shares=found.shares, limits=(*state.limits, *limits)).with_changed(found.facts)
    return state, [] if found.check is None else [found.check]


def service(session: Session, state: State) -> State:
    """Start the services, and wait until each is ready."""
    return start_services(session, state)


def benchmark(session: Session, state: State) -> State:
    """Run the benchmarks one at a time; a failure is recorded and never fatal."""
    from pilot_agent.benchmark_stage import run_before  # late: a pilot without benchmarks needs none of it

    return run_before(session, state)


def advertise(session: Session, state: State) -> State:
    """Everything above as attributes of the machine ad; later sources override earlier ones."""
    attributes = feature_attributes(known_value(state.facts, "batch.features"))
    for declared in session.loaded.of("pilot_attributes"):
        record = declared.record
        value = record.value
        if record.fact is not None:
            value = known_value(state.facts, record.fact)
        if value is not None:
            attributes[record.name] = value
    for score in state.benchmarks:
        attributes |= score.attributes
    attributes |= state.setup_attributes | dict(state.config.get("startd.attributes"))
    return replace(_with_service_variables(session, state), attributes=attributes)


def _with_service_variables(session: Session, state: State) -> State:
    """The state with what jobs get of the services that are not given up."""
    if state.container is None or not session.loaded.of("pilot_services"):
        return state
    there = kept(session, state)
    settled = services.settle_variables(state.container.surroundings, there, state.config.values)
    return replace(state, container=replace(state.container, surroundings=settled))


def _run(session: Session, state: State, declared: Sequence[Declared], *, width: int = 8) -> list[host.Ended]:
    ended: list[host.Ended] = []

    def note(one: host.Ended) -> None:
        ended.append(one)
        status = one.failure.message if one.failure else "ok"
        session.events.write("task.ended", plugin=one.declared.plugin, name=one.declared.record.name, status=status)
        if one.log.strip():
            session.events.write("task.log", plugin=one.declared.plugin, name=one.declared.record.name, text=one.log)

    host.run_all(
        declared,
        lambda one: session.context_for(one, state),
        session.around,
        note,
        width=width,
        command_of=tasks.command_of(session, state),
    )
    return ended


def gather(session: Session, state: State, stage: str, declared: Sequence[Declared]) -> State:
    """The state after probes or mounts, whose results are findings; each sees the facts of those that ended before."""
    current = state

    def note(ended: host.Ended) -> None:
        nonlocal current
        try:
            found = host.findings(ended.answer)
            _require_own(session.loaded, ended.declared, found)
            current.require_comparable(found)
        except (CodecError, KeyError, TypeError, BadFinding) as error:
            found = []
            ended = spoilt(ended, f"its answer cannot be used: {error}")
        reason = ended.failure.message if ended.failure else "the probe did not say"
        given = {finding.name for finding in found if isinstance(finding, Fact)}
        limited = {finding.resource for finding in found if not isinstance(finding, Fact)}
        missing = [name for name in ended.declared.record.gives if name not in given | limited]
        unknown = [Fact.unknown(name, reason, source=ended.declared.plugin) for name in missing]
        current = current.with_findings([*found, *unknown])
        current = replace(current, timeline=(*current.timeline, timeline_entry(state, stage, ended)))
        session.events.write(
            "task.ended",
            plugin=ended.declared.plugin,
            name=ended.declared.record.name,
            status="failed" if ended.failure else "ok",
            detail=reason if ended.failure else "",
            log=ended.log,
        )

    def command_of(one: Declared) -> host.Command | Failure:
        if session.root.strip("/"):
            message = f"{one.record.name}: a program looks at this machine, and not at a recording"
            return Failure(FailureKind.PLUGIN, "plugin.recording", message)
        return tasks.command_of(session, current)(one)

    host.run_all(declared, lambda one: session.context_for(one, current), session.around, note, command_of=command_of)
    return current


def _require_own(loaded: host.Loaded, declared: Declared, found: Sequence[Finding]) -> None:
    """Raises ``BadFinding`` for a fact that another plugin, or nobody, said it would give; limits are open to all."""
    if declared.builtin and not is_program(declared.record):
        return
    for finding in found:
        if isinstance(finding, Fact) and finding.name not in declared.record.gives:
            owner = loaded.giver(finding.name)
            whose = f"it belongs to {owner}" if owner else "`gives` does not name it"
            raise BadFinding(f"the fact {finding.name} is not this one's to give: {whose}")


def _setup(session: Session, state: State, when: str) -> State:
    setups = [task for task in session.loaded.of("pilot_setups") if task.record.stage == when]
    for task in in_order(setups):
        ended = _set_up(session, state, task)
        result, ended = with_good_expressions(*decoded(ended, SetupResult))
        checks = [judged(one, required=task.record.required) for one in result.checks] if result is not None else []
        failures = _failures_of(checks, f"setup {when}", task.plugin)
        if failures:
            ended = replace(ended, failure=failures[0])
        state = replace(state, timeline=(*state.timeline, timeline_entry(state, f"setup {when}", ended)))
        if result is not None:
            state = replace(
                state,
                contributed=(*state.contributed, _contribution(task, result)),
                setup_attributes=_without(state.setup_attributes, result.expressions) | result.attributes,
                setup_expressions=_without(state.setup_expressions, result.attributes) | result.expressions,
                images=(*state.images, *result.images),
                checks=(*state.checks, *checks),
                failures=(*state.failures, *failures),
            )
            if failures:
                return state
        elif ended.declared.record.required and ended.failure is not None:
            # The pilot ends: what comes after could only build on what is not there.
            return replace(state, failures=(*state.failures, replace(ended.failure, stage=f"setup {when}")))
    return state


def _without(given: Mapping[str, T], later: Mapping[str, Json]) -> dict[str, T]:
    """What was given before, but for what is given anew as something else; names of attributes have no case."""
    names = {name.lower() for name in later}
    return {name: value for name, value in given.items() if name.lower() not in names}


def _contribution(task: Declared, result: SetupResult) -> ContainerRequest:
    who = f"the setup {task.record.name} of {task.plugin}"
    return ContainerRequest(name=who, binds=result.binds, environment=result.environment)


def _set_up(session: Session, state: State, task: Declared) -> host.Ended:
    try:
        tasks.journal_teardown(session, state, task.record)
    except PilotError as error:
        now = state.started + session.events.seconds()
        return host.Ended(task, None, error.at(plugin=task.plugin).failure, now, 0.0)
    return _run(session, state, [task])[0]


STAGES: dict[str, Callable[[Session, State], State]] = {
    "probe": probe,
    "mount": mount,
    "setup_early": setup_early,
    "container": container,
    "validate": validate,
    "setup_late": setup_late,
    "service": service,
    "benchmark": benchmark,
    "advertise": advertise,
}
"""The stages between configure and handoff, in the order of design section 3."""

__all__ = ["STAGES", "PilotError", "Session"]
