"""Runs the stages, keeps state and report on disk after each, and hands the node over to the keeper.

The process of the pipeline is a child of the guardian and becomes, by exec, the keeper. Every way out of it that is
not the handoff undoes what was made, writes the last report and leaves an exit code for the guardian.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pilot_agent import CVMFS, configure, host, tasks
from pilot_agent.codec import to_json
from pilot_agent.collect import declared_from_json, declared_to_json
from pilot_agent.configure import Given
from pilot_agent.environment import clean_environment
from pilot_agent.events import EventLog
from pilot_agent.facts import known_value
from pilot_agent.files import write_atomically, write_json
from pilot_agent.hookspecs import Event
from pilot_agent.inside import settled
from pilot_agent.interpreter import interpreter_command
from pilot_agent.interruption import DISK_ERRORS, FREE_SPACE, FULL, bug, preempted, unwritten
from pilot_agent.lifecycle import finish, plan
from pilot_agent.lifecycle.inherited import Teardowns
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.lock import LOCK_FD_VARIABLE, keep_across_exec, lock
from pilot_agent.lifecycle.master import start_master
from pilot_agent.lifecycle.node_list import enter
from pilot_agent.lifecycle.obituary import Obituary, hold
from pilot_agent.lifecycle.owner import own_record
from pilot_agent.lifecycle.publish import save_events
from pilot_agent.lifecycle.signals import PILOT_REQUESTS, Alarm
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.lifecycle.sweep import SPARED, SWEPT, sweep
from pilot_agent.lifecycle.uploads import StageUploads
from pilot_agent.lifetime import TOO_SHORT, require_time
from pilot_agent.model import Failure, FailureKind, PilotError, TimelineEntry, worst_failure
from pilot_agent.plugins import obituary, services, uploads
from pilot_agent.plugins.batch import hold_seconds, own_output
from pilot_agent.process import Interrupted
from pilot_agent.report import about_for_factory, build_report, for_glideinwms
from pilot_agent.service_stage import attended, handed_over
from pilot_agent.stages import STAGES, Session
from pilot_agent.state import State, load_state, save_state
from pilot_agent.workspace import Workspace

GUARDIAN_FD = "PILOT_AGENT_GUARDIAN_FD"
EVENT_HOOK = "pilot_event"
EVENT_DELIVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a pipeline is to run: from what, resumed or not, and after which stages to cut and resume itself."""

    given: Given
    resume: str | None = None
    cut_after: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def run(options: Options, environment: Mapping[str, str]) -> int:
    """The pipeline's whole life; an exit code, unless it ends by becoming the keeper."""
    descriptor = environment.get(GUARDIAN_FD)
    become_subreaper()
    alarm = Alarm.install(int(descriptor) if descriptor else None, requests=PILOT_REQUESTS)
    site_environment = {
        name: value for name, value in environment.items() if name not in (GUARDIAN_FD, LOCK_FD_VARIABLE)
    }
    try:
        state, workspace = _begin(options, site_environment, alarm)
    except PilotError as error:
        return _refuse(error, options, site_environment, alarm)
    except Interrupted:
        return preempted(alarm).exit_code
    except Exception as error:  # noqa: BLE001 - a bug must still leave a report and the right exit code
        return _refuse(PilotError(bug(error)), options, site_environment, alarm)
    return _Run(options, alarm, workspace).to_the_end(state)


def _begin(options: Options, environment: dict[str, str], alarm: Alarm) -> tuple[State, Workspace]:
    """Configure as far as the workspace, or take up a pilot that was cut."""
    if options.resume is not None:
        workspace = Workspace(os.path.abspath(options.resume))
        lock(workspace)
        state = load_state(workspace.state)
        _announce(alarm, state, workspace.root)
        return state, workspace
    config = configure.read_layers(options.given, environment, wake=alarm)
    output = own_output(config.get("upload.directory") or options.given.output, environment)
    state = configure.new_state(config, environment, output=output)
    alarm.tell({"zero_or_one": for_glideinwms(state)})
    workspace = _choose_workspace(state, alarm)
    configure.make_workspace(workspace, lambda path: _announce(alarm, state, path))
    if not config.get("upload.print_report"):
        write_atomically(workspace.unprinted, b"")
    if for_glideinwms(state):
        write_json(workspace.factory_output, about_for_factory(replace(state, workspace=workspace.root)))
    alarm.tell({"role": "pipeline"})
    return replace(state, workspace=workspace.root), workspace


def _choose_workspace(state: State, alarm: Alarm) -> Workspace:
    """Where it will be. What a dead pilot left may be what there is no room for."""
    try:
        return configure.choose_workspace(state)
    except PilotError:
        if not any(one.state == SWEPT for one in sweep(None, None, alarm)):
            raise
    return configure.choose_workspace(state)


def _announce(alarm: Alarm, state: State, workspace: str) -> None:
    """Tell the guardian what it needs for an end without this process."""
    budget_seconds = state.config.get("time.teardown_seconds")
    about = {"workspace": workspace, "output": state.output, "started": state.started, "budget_seconds": budget_seconds}
    about["zero_or_one"] = for_glideinwms(state)
    alarm.tell(about)
    enter(workspace, own_record())


class _Run:
    """One pipeline run: the things that stay the same from stage to stage."""

    def __init__(self, options: Options, alarm: Alarm, workspace: Workspace) -> None:
        self.options = options
        self.alarm = alarm
        self.workspace = workspace
        self.journal = Journal(workspace.journal)
        self.beside = services.Beside(alarm)
        self.slow_observers: set[str] = set()
        self.uploads = StageUploads(workspace)

    def to_the_end(self, state: State) -> int:
        """Run every stage that is left. Failures and interruptions end in teardown and an exit code."""
        events = EventLog(self.workspace.events, state.started)
        try:
            state, session = self._prepare(state, events)
            for name, stage in STAGES.items():
                if name in state.finished_stages:
                    continue
                state = _with_time_left(self._stage(session, name, stage, state), beginning=name == "probe")
                if worst_failure(list(state.failures)) or os.path.lexists(self.workspace.drain):
                    return self._end(state, events)
                went_inside = name == "mount" and state.inside
                if went_inside or name in self.options.cut_after or "every" in self.options.cut_after:
                    self._cut(session, state)
            state = self._hand_over(session, state)
        except Interrupted:
            state = replace(state, failures=(*state.failures, preempted(self.alarm)))
        except PilotError as error:
            failure = error.at(stage="configure" if state.declared is None else "").failure
            state = replace(state, failures=(*state.failures, failure))
        except Exception as error:  # noqa: BLE001 - a bug must still undo everything and say what it was
            state = replace(state, failures=(*state.failures, bug(error)))
        return self._end(state, events)

    def _prepare(self, state: State, events: EventLog) -> tuple[State, Session]:
        """What every stage needs; on a first run this is the rest of the configure stage."""
        around = host.Surroundings(
            interpreter=tuple(interpreter_command()),
            environment=clean_environment(
                state.environment, home=self.workspace.temporary, temporary=self.workspace.temporary
            ),
            wake=self.beside,
        )
        if state.declared is None:
            began, ticks = time.time(), time.monotonic()
            uploads.prepare(
                state.config,
                self.workspace,
                pilot_id=state.pilot_id,
                version=state.version,
                interpreter=around.interpreter,
                environment=around.environment,
            )
            events.write("pilot.started", id=state.pilot_id, version=state.version, host=state.host, user=state.user)
            began = time.time()
            try:
                around = self._with_plugins(around, state)
                loaded, config = configure.load_plugins(state.config, around)
            except PilotError:
                self._sweep(state, events, None)
                raise
            seconds = round(time.monotonic() - ticks, 4)
            entry = TimelineEntry("configure", "agent", "plugins", _since(state, began), seconds, "ok")
            state = replace(
                state,
                config=config,
                declared=declared_to_json(list(loaded.declared)),
                plugins=loaded.plugins,
                timeline=(*state.timeline, entry),
            )
            session = self._session(around, loaded, events)
            state = self._sweep(state, events, tasks.own_teardowns(session, state))
            self._save(state, "configure")
        else:
            around = self._with_plugins(around, state)
            loaded = host.Loaded(tuple(declared_from_json(state.declared)), state.plugins)
            events.write("pilot.resumed", finished=list(state.finished_stages))
            session = self._session(around, loaded, events)
            state = settled(session, state)
            if state.service_plans:
                plans = [services.ServicePlan.from_json(item) for item in state.service_plans]
                self.beside.go_on(plans, events, self.journal)
        return state, session

    def _session(self, around: host.Surroundings, loaded: host.Loaded, events: EventLog) -> Session:
        return Session(around, loaded, events, self.workspace, journal=self.journal, mounts=True, beside=self.beside)

    def _with_plugins(self, around: host.Surroundings, state: State) -> host.Surroundings:
        """What plugins are run with, once the signed ones are here. Raises ``PilotError``, ``Interrupted``."""
        return configure.with_plugin_places(around, state.config, self.workspace, state.environment)

    def _sweep(self, state: State, events: EventLog, teardowns: Teardowns | None) -> State:
        """Undo what killed pilots of this account left on this node."""
        began = time.time()
        found = sweep(self.workspace.root, teardowns, self.alarm)
        results = [one for one in found if one.state in (SWEPT, SPARED)]
        for one in results:
            told = {
                "workspace": one.workspace,
                "processes": one.processes,
                "teardowns": one.teardowns,
                "leftovers": one.leftovers,
            }
            if one.state == SWEPT:
                events.write("pilot.swept", **told)
            else:
                events.write("pilot.spared", workspace=one.workspace, reason=one.reason)
        if not any(one.state == SWEPT for one in results):
            return state
        seconds = round(time.time() - began, 4)
        status = "warn" if any(one.leftovers for one in results) else "ok"
        entry = TimelineEntry("configure", "agent", "sweep", _since(state, began), seconds, status)
        return replace(state, timeline=(*state.timeline, entry))

    def _stage(self, session: Session, name: str, stage: Callable[[Session, State], State], state: State) -> State:
        began, ticks = time.time(), time.monotonic()
        session.events.write("stage.started", stage=name)
        try:
            state = stage(session, state)
        except PilotError as error:
            state = replace(state, failures=(*state.failures, error.at(stage=name).failure))
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            # Wherever a stage writes, it is below the workspace.
            state = replace(state, failures=(*state.failures, unwritten(error, name)))
        state = attended(session, state, name)
        failure = worst_failure(list(state.failures))
        seconds = round(time.monotonic() - ticks, 4)
        status = "failed" if failure else "ok"
        entry = TimelineEntry(name, "agent", "stage", _since(state, began), seconds, status)
        state = replace(state, timeline=(*state.timeline, entry), finished_stages=(*state.finished_stages, name))
        session.events.write("stage.finished", stage=name, status=status, took_seconds=seconds)
        self._deliver(session, name, seconds, status)
        self._save(state, name)
        self.uploads.begin()
        return state

    def _deliver(self, session: Session, name: str, seconds: float, status: str) -> None:
        for plugin in session.loaded.plugins:
            if EVENT_HOOK in plugin.hooks:
                if plugin.name in self.slow_observers:
                    continue
                event = Event(name="stage.finished", seconds=seconds, data={"stage": name, "status": status})
                problem = host.deliver_events(plugin.name, [event], session.around, EVENT_DELIVERY_SECONDS)
                if problem:
                    # An observer must not delay: who was slow or failed once hears no more.
                    self.slow_observers.add(plugin.name)
                    session.events.write("event.not_delivered", plugin=plugin.name, problem=problem)

    def _save(self, state: State, stage: str) -> None:
        try:
            save_state(state, self.workspace.state)
            write_json(self.workspace.report, build_report(state))
        except OSError as error:
            raise PilotError(unwritten(error, stage)) from error

    def _cut(self, session: Session, state: State) -> None:
        """Go on in a new process image that knows only what was saved (the way into cvmfsexec, section 9)."""
        if self.beside.plans:
            self._save(handed_over(session, state), state.finished_stages[-1])
        arguments = ["_pipeline", *self.options.arguments, "--resume", self.workspace.root]
        self._become(arguments)

    def _hand_over(self, session: Session, state: State) -> State:
        """The handoff stage: write the startd's configuration, start HTCondor, then become its keeper.

        Comes back only when it failed, with the state that says why.
        """
        from pilot_agent.handoff import NoCondorError, keeper_plan, service_plans

        began, ticks = time.time(), time.monotonic()
        session.events.write("stage.started", stage="handoff")
        try:
            the_plan, state = keeper_plan(session, state)
            state = handed_over(session, state)
            if not state.failures:
                the_plan.services = tuple(service_plans(state))
                _start_condor(the_plan, self.journal)
        except PilotError as error:
            condor = error.choice if isinstance(error, NoCondorError) else None
            state = replace(state, condor=condor, failures=(*state.failures, error.at(stage="handoff").failure))
            return replace(state, timeline=(*state.timeline, _handoff_entry(state, began, ticks, "failed")))
        if state.failures:
            return replace(state, timeline=(*state.timeline, _handoff_entry(state, began, ticks, "failed")))
        if _held(state) > 0:
            self._prepare_obituary(state, session.events, started=True)
        state = replace(state, timeline=(*state.timeline, _handoff_entry(state, began, ticks, "ok")))
        self._save(state, "handoff")
        try:
            write_json(self.workspace.keeper_plan, plan.to_json(the_plan))
        except OSError as error:
            raise PilotError(unwritten(error, "handoff")) from error
        self._become(["_keeper", self.workspace.root])
        return state

    def _become(self, arguments: list[str]) -> None:
        self.alarm.keep_across_exec()
        keep_across_exec()
        command = [*interpreter_command(), *arguments]
        os.execv(command[0], command)

    def _end(self, state: State, events: EventLog) -> int:
        """Teardown without a keeper: report, undo, and the exit code for the guardian."""
        self.beside.close()
        failure = worst_failure(list(state.failures))
        code = failure.exit_code if failure else 0
        if failure is None:
            events.write("pilot.drained", jobs=0)
        events.write("pilot.ending", failure=to_json(failure))
        report = build_report(state, finished=True)
        leftovers = finish.conclude(
            self.workspace,
            output=state.output,
            report=report,
            exit_code=code,
            budget_seconds=state.config.get("time.teardown_seconds"),
            alarm=self.alarm,
            started=state.started,
        )
        if failure is not None:
            say(failure)
            if failure.kind is not FailureKind.PREEMPTED and failure.code != TOO_SHORT:
                self._hold(state, events, failure)
        outcome = finish.Outcome(code, report["outcome"], leftovers)
        finish.remove_if_alone(self.workspace, outcome, state.output, self.alarm)
        return code

    def _hold(self, state: State, events: EventLog, failure: Failure) -> None:
        """Keep the slot as configured; the pool is told meanwhile."""
        seconds = _until_the_end(state, _held(state))
        if seconds <= 0:
            return
        self._prepare_obituary(state, events, started=False)
        told = Obituary(
            self.workspace, state.output, events, to_json(failure), exit_code=failure.exit_code, seconds=seconds
        )
        hold(self.alarm, seconds, told)

    def _prepare_obituary(self, state: State, events: EventLog, *, started: bool) -> None:
        """What it takes to tell the pool of a failure. Where it cannot be told that is said, and nothing fails."""
        release = state.condor.release if state.condor is not None else ""
        pilot = obituary.Deceased(
            state.pilot_id,
            state.host,
            state.config,
            state.environment,
            state.attributes,
            release=release,
            mount_point=str(known_value(state.facts, "cvmfs.mount_point", CVMFS)),
        )
        try:
            obituary.prepare(pilot, self.workspace, started=started, wake=self.alarm)
        except PilotError as error:
            events.write("obituary.not_sent", message=error.failure.message)
            if not started and state.output is not None:
                save_events(self.workspace, state.output)
        except Interrupted:
            return


def _start_condor(the_plan: plan.KeeperPlan, journal: Journal) -> None:
    """Raises ``PilotError`` (condor.start, disk.full)."""
    try:
        start_master(the_plan.master, the_plan.time, journal)
    except OSError as error:
        message = f"{the_plan.master.argv[0]} could not be started: {error.strerror}"
        code, hint = "condor.start", "the site looks at the limits of the account and at the node's memory"
        if error.errno in FULL:
            code, hint = "disk.full", FREE_SPACE
        failure = Failure(FailureKind.NODE_RESOURCE, code, message, hint, stage="handoff", retry=True)
        raise PilotError(failure) from error


def _with_time_left(state: State, *, beginning: bool) -> State:
    """The state, with a failure when too little time is left to go on."""
    if state.deadline is None or state.failures:
        return state
    try:
        require_time(state.deadline, beginning=beginning)
    except PilotError as error:
        return replace(state, failures=(*state.failures, error.at(stage=state.finished_stages[-1]).failure))
    return state


def say(failure: Failure) -> None:
    """One line a person can act on, on standard error; a closed one is no reason to fail."""
    hint = f" - {failure.hint}" if failure.hint else ""
    line = f"pilot-agent: {failure.kind}: {failure.code}: {failure.message}{hint}\n"
    try:
        os.write(2, line.encode())
    except OSError:
        return


def _refuse(error: PilotError, options: Options, environment: Mapping[str, str], alarm: Alarm) -> int:
    """A pilot that ends before it has a workspace still leaves a report where its output goes, and holds its slot."""
    failure = error.at(stage="configure").failure
    say(failure)
    if failure.kind is not FailureKind.USAGE:
        finish.leave_note(own_output(options.given.output, environment), to_json(failure))
        alarm.hear(signal.SIGUSR1)  # there is no workspace in which a drain could be left
        hold(alarm, hold_seconds(_configured_hold(options, environment), environment))
        alarm.ignore(signal.SIGUSR1)
    return failure.exit_code


def _configured_hold(options: Options, environment: Mapping[str, str]) -> int | None:
    """The configured time, as far as the configuration can be read at all."""
    try:
        held: int | None = configure.read_local_layers(options.given, environment).get("on_failure.hold_seconds")
    except PilotError:
        return None
    return held


def _held(state: State) -> int:
    """How long this pilot keeps its slot if it fails, seconds."""
    return hold_seconds(state.config.get("on_failure.hold_seconds"), state.environment)


def _until_the_end(state: State, seconds: float) -> float:
    """``seconds``, or less where the pilot must be gone before."""
    leaves = state.deadline.leaves if state.deadline is not None else None
    return seconds if leaves is None else min(seconds, leaves - time.time())


def _handoff_entry(state: State, began: float, ticks: float, status: str) -> TimelineEntry:
    return TimelineEntry("handoff", "agent", "stage", _since(state, began), round(time.monotonic() - ticks, 4), status)


def _since(state: State, moment: float) -> float:
    return round(moment - state.started, 4)
