"""``check`` and ``probe``: the stages that look at a node, without a guardian, a startd or anything left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pilot_agent import configure, host
from pilot_agent.config import Config
from pilot_agent.environment import clean_environment
from pilot_agent.events import EventLog
from pilot_agent.inside import settled
from pilot_agent.interpreter import interpreter_command
from pilot_agent.interruption import preempted
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.journal import Journal, read_journal
from pilot_agent.lifecycle.mounts import unmount_all
from pilot_agent.lifecycle.node_list import enter
from pilot_agent.lifecycle.owner import own_record
from pilot_agent.lifecycle.processes import kill_descendants
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.lifecycle.teardown import remove_workspace, run_commands
from pilot_agent.model import Fact, Failure, FailureKind, PilotError, TimelineEntry, Verdict, worst_failure
from pilot_agent.plugins import recordings, services
from pilot_agent.process import Interrupted
from pilot_agent.progress import Progress
from pilot_agent.spelling import nearest
from pilot_agent.stages import STAGES, Session
from pilot_agent.state import State
from pilot_agent.workspace import Workspace

KILL_SECONDS = 2.0
UNMOUNT_SECONDS = 10.0
REMOVE_SECONDS = 10.0
PROBE_STAGES = ("probe", "mount")
CHECK_STAGES = ("mount", "setup_early", "container", "validate")
"""What ``check`` runs for each VO, after the probes, which run once."""


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at: the node itself or a recording below ``root``; ``only`` probes of these names; ``record`` is
    the directory that becomes a recording. With ``mounts`` the mount stage mounts what the site did not, for
    which this process goes into namespaces of its own if it ``enters`` them. ``trace`` is told of each call of a
    plugin's code."""

    root: str = "/"
    only: frozenset[str] = frozenset()
    record: str | None = None
    mounts: bool = False
    enters: bool = True
    trace: Callable[[host.Traced], None] | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A VO that the node is checked for, with its configuration; without a name whoever asked."""

    vo: str
    config: Config


Act = Callable[[Session, State, Progress], None]
"""What is done with the state after the stages, while the workspace and the services are there."""


def look(
    config: Config, environment: Mapping[str, str], *, stages: Sequence[str], view: View, act: Act | None = None
) -> State:
    """The state after ``stages``, and after ``act``; every stage runs whatever the earlier ones found.

    Raises ``PilotError`` when there is no place to work in, the view's root is no directory, its recording damaged or
    in the way, a plugin does not load, ``only`` names no probe, or a signal said to stop. Nothing is left behind.
    """

    def work(bench: _Bench, state: State) -> State:
        return bench.run(config, stages, state, act)

    return _at_the_bench(config, environment, view, work)


def work_in(config: Config, environment: Mapping[str, str], *, stages: Sequence[str], act: Act) -> State:
    """The state after ``stages`` on this node, whose file systems are mounted, after ``act`` did its work.

    Raises as ``look`` does, and what ``act`` raises.
    """
    return look(config, environment, stages=stages, view=View(mounts=True), act=act)


def check(
    config: Config, subjects: Sequence[Subject], environment: Mapping[str, str], *, stages: Sequence[str], view: View
) -> State:
    """The state after the probes, run once with ``config``, and after ``stages`` for each subject: its checks and
    failures say whose they are, and ``verdicts`` has one entry for each. Raises as ``look`` does."""

    def work(bench: _Bench, state: State) -> State:
        state = probed = bench.run(config, ("probe",), state)
        for subject in subjects:
            state = _judged(bench, state, subject, stages, probed, several=len(subjects) > 1)
        return state

    return _at_the_bench(config, environment, replace(view, mounts=True, enters=len(subjects) == 1), work)


def _judged(
    bench: _Bench, state: State, subject: Subject, stages: Sequence[str], probed: State, *, several: bool
) -> State:
    """The state with what one subject's stages added to it. They begin with what was ``probed``: what was found for
    another one is not theirs."""
    fresh = replace(state, config=subject.config, checks=(), timeline=(), cvmfs=None, container=None, images=())
    fresh = replace(fresh, contributed=(), failures=(), facts=probed.facts, limits=probed.limits)
    after = bench.run(subject.config, stages, fresh)
    timeline = tuple(
        replace(entry, what=f"{entry.what} for {subject.vo}") if several else entry for entry in after.timeline
    )
    failure = worst_failure([*probed.failures, *after.failures])
    verdict = Verdict(subject.vo, failure is None, failure, after.container, after.cvmfs)
    return replace(
        after,
        config=state.config,
        facts=_together(state.facts, after.facts),
        limits=state.limits + tuple(limit for limit in after.limits if limit not in state.limits),
        checks=(*state.checks, *(replace(result, vo=subject.vo) for result in after.checks)),
        timeline=(*state.timeline, *timeline),
        failures=(*state.failures, *after.failures),
        cvmfs=state.cvmfs or after.cvmfs,
        container=state.container or after.container,
        plugins=(*state.plugins, *(plugin for plugin in after.plugins if plugin not in state.plugins)),
        verdicts=(*state.verdicts, verdict),
    )


def _together(ours: Mapping[str, Fact], theirs: Mapping[str, Fact]) -> dict[str, Fact]:
    """The facts of both; of a list that is longer for one of them, such as ``cvmfs.repositories``, what either has."""
    facts = dict(ours)
    for name, fact in theirs.items():
        known = facts.get(name)
        if known is None or not known.known:
            facts[name] = fact
        elif isinstance(known.value, list) and isinstance(fact.value, list):
            facts[name] = replace(known, value=known.value + [item for item in fact.value if item not in known.value])
    return facts


@dataclass(frozen=True, slots=True)
class _Bench:
    """Where stages are run one after another."""

    around: host.Surroundings
    workspace: Workspace
    events: EventLog
    progress: Progress
    view: View

    def run(
        self,
        config: Config,
        stages: Sequence[str],
        state: State,
        act: Act | None = None,
    ) -> State:
        around = self.around_of(config, state)
        loaded, config = configure.load_plugins(config, around)
        if self.view.only:
            loaded = _restricted(loaded, self.view.only)
        state = replace(state, config=config, plugins=loaded.plugins)
        session = Session(
            around,
            loaded,
            self.events,
            self.workspace,
            self.view.root,
            journal=Journal(self.workspace.journal),
            mounts=self.view.mounts,
            enters=self.view.enters,
            record=self.view.record,
        )
        for name in stages:
            self.progress.say(name)
            state = settled(session, _stage(session, name, state))
        if act is not None:
            act(session, state, self.progress)
        _stop_services(session, state)
        return state

    def around_of(self, config: Config, state: State) -> host.Surroundings:
        return configure.with_plugin_places(self.around, config, self.workspace, state.environment)


def _at_the_bench(
    config: Config, environment: Mapping[str, str], view: View, work: Callable[[_Bench, State], State]
) -> State:
    if not os.path.isdir(view.root):
        raise PilotError(Failure(FailureKind.USAGE, "usage", f"--root {view.root}: there is no such directory"))
    if view.record is not None:
        recordings.make_directory(view.record)
    become_subreaper()
    seen = recordings.recorded_environment(view.root, environment)
    state = configure.new_state(config, environment, output=".")
    if view.root.strip("/"):
        state = replace(state, host=f"the recording {os.path.basename(os.path.normpath(view.root))}")
    alarm = Alarm.install()
    try:
        state = _in_workspace(state, seen, alarm, view, work)
    except Interrupted:
        raise PilotError(preempted(alarm)) from None
    if view.record is not None:
        recordings.finish(view.record, state.environment, state.version)
    return state


def _in_workspace(
    state: State,
    seen: Mapping[str, str],
    alarm: Alarm,
    view: View,
    work: Callable[[_Bench, State], State],
) -> State:
    """The state after ``work`` in a workspace that is gone at the end, with every process that was started in it; what
    could not be ended or removed is in its leftovers. ``seen`` are the variables of the node that is looked at."""
    workspace = configure.choose_workspace(state, here=False)
    configure.make_workspace(workspace, lambda path: enter(path, own_record()))
    leftovers: list[dict[str, object]] = []
    try:
        with Progress() as progress:
            around = host.Surroundings(
                interpreter=tuple(interpreter_command()),
                environment=clean_environment(
                    state.environment, home=workspace.temporary, temporary=workspace.temporary
                ),
                wake=alarm,
                trace=view.trace,
            )
            bench = _Bench(around, workspace, EventLog(workspace.events, state.started), progress, view)
            state = work(bench, replace(state, workspace=workspace.root, environment=configure.without_secrets(seen)))
    finally:
        # Each step has its own time: a process that cannot be ended must not keep the workspace from being removed.
        run_commands(workspace, Budget(state.config.get("time.teardown_seconds")))
        leftovers += kill_descendants(Budget(KILL_SECONDS))
        leftovers += unmount_all(workspace.root, read_journal(workspace.journal).mounts, Budget(UNMOUNT_SECONDS))
        leftovers += remove_workspace(workspace, Budget(REMOVE_SECONDS))
    return replace(state, leftovers=tuple(leftovers))


def _stage(session: Session, name: str, state: State) -> State:
    began, failed = session.events.seconds(), len(state.failures)
    try:
        state = STAGES[name](session, state)
    except PilotError as error:
        state = replace(state, failures=(*state.failures, error.at(stage=name).failure))
    status = "failed" if len(state.failures) > failed else "ok"
    entry = TimelineEntry(name, "agent", "stage", began, round(session.events.seconds() - began, 4), status)
    return replace(state, timeline=(*state.timeline, entry))


def _stop_services(session: Session, state: State) -> None:
    """End the services that a check started by the signals they asked for, each before what it needs."""
    plans = [services.ServicePlan.from_json(item) for item in state.service_plans or ()]
    services.stop_all(plans, session.events)


def _restricted(loaded: host.Loaded, only: frozenset[str]) -> host.Loaded:
    """Only the probes named; everything else of the declarations stays. Raises ``PilotError`` (usage)."""
    names = {declared.record.name for declared in loaded.of("pilot_probes")}
    if unknown := sorted(only - names):
        near = "".join(nearest(name, names) for name in unknown)
        message = f"there is no probe {', '.join(unknown)}{near}; known: {', '.join(sorted(names))}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message))
    kept = tuple(d for d in loaded.declared if d.hook != "pilot_probes" or d.record.name in only)
    return host.Loaded(kept, loaded.plugins)
