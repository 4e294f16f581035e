"""``check`` and ``probe``: the stages that look at a node, without a guardian, a startd or anything left behind."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from pilot_agent import configure, host
from pilot_agent.config import Config
from pilot_agent.config_check import nearest
from pilot_agent.environment import clean_environment
from pilot_agent.events import EventLog
from pilot_agent.interpreter import interpreter_command
from pilot_agent.interruption import preempted
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.processes import kill_descendants
from pilot_agent.lifecycle.removal import remove_tree
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.model import Failure, FailureKind, PilotError, TimelineEntry
from pilot_agent.process import Interrupted
from pilot_agent.progress import Progress
from pilot_agent.stages import STAGES, Session
from pilot_agent.state import State
from pilot_agent.workspace import WORKSPACE_PREFIX, Workspace

END_SECONDS = 3.0
CHECK_STAGES = ("probe", "mount", "setup_early", "container", "validate")


def look(
    config: Config,
    environment: Mapping[str, str],
    *,
    stages: Iterable[str],
    root: str = "/",
    only: frozenset[str] = frozenset(),
) -> State:
    """The state after ``stages`` on this node (or on the recording at ``root``); every stage runs whatever the
    earlier ones found. ``only`` restricts the probe stage to probes of these names.

    Raises ``PilotError`` when there is no place to work in, ``root`` is no directory, a plugin does not load, or
    ``only`` names no probe, or a signal said to stop. Whatever happens nothing is left behind.
    """
    if not os.path.isdir(root):
        raise PilotError(Failure(FailureKind.USAGE, "usage", f"--root {root}: there is no such directory"))
    become_subreaper()
    state = configure.new_state(config, environment, output=".")
    alarm = Alarm.install()
    try:
        return _look(state, environment, alarm, stages=stages, root=root, only=only)
    except Interrupted:
        raise PilotError(preempted(alarm)) from None


def _look(
    state: State,
    environment: Mapping[str, str],
    alarm: Alarm,
    *,
    stages: Iterable[str],
    root: str,
    only: frozenset[str],
) -> State:
    config = state.config
    with _temporary_workspace(state) as workspace, Progress() as progress:
        around = host.Surroundings(
            interpreter=tuple(interpreter_command()),
            environment=clean_environment(environment, home=workspace.temporary, temporary=workspace.temporary),
            directories=tuple(configure.absolute(path) for path in config.get("plugins.directories")),
            wake=alarm,
        )
        loaded, config = configure.load_plugins(config, around)
        if only:
            loaded = _restricted(loaded, only)
        state = replace(state, config=config, workspace=workspace.root, plugins=loaded.plugins)
        session = Session(around, loaded, EventLog(workspace.events, state.started), workspace, root)
        for name in stages:
            progress.say(name)
            state = _stage(session, name, state)
    return state


def _stage(session: Session, name: str, state: State) -> State:
    began = session.events.seconds()
    try:
        state = STAGES[name](session, state)
        status = "ok"
    except PilotError as error:
        state = replace(state, failures=(*state.failures, error.at(stage=name).failure))
        status = "failed"
    entry = TimelineEntry(name, "agent", "stage", began, round(session.events.seconds() - began, 4), status)
    return replace(state, timeline=(*state.timeline, entry))


def _restricted(loaded: host.Loaded, only: frozenset[str]) -> host.Loaded:
    """Only the probes named; everything else of the declarations stays. Raises ``PilotError`` (usage)."""
    names = {declared.record.name for declared in loaded.of("pilot_probes")}
    if unknown := sorted(only - names):
        near = "".join(nearest(name, names) for name in unknown)
        message = f"there is no probe {', '.join(unknown)}{near}; known: {', '.join(sorted(names))}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message))
    kept = tuple(d for d in loaded.declared if d.hook != "pilot_probes" or d.record.name in only)
    return host.Loaded(kept, loaded.plugins)


@contextmanager
def _temporary_workspace(state: State) -> Iterator[Workspace]:
    """A workspace that is gone at the end, with every process that was started in it."""
    workspace = configure.choose_workspace(state, here=False)
    configure.make_workspace(workspace, lambda path: None)
    try:
        yield workspace
    finally:
        budget = Budget(END_SECONDS)
        kill_descendants(budget)
        remove_tree(workspace.root, budget, prefix=WORKSPACE_PREFIX)
