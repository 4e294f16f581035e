"""The stages of a pilot up to one of them, run for a plugin under test, and everything that came of it.

They run in a forked child: signals, namespaces and the processes that a pilot adopts are that child's, and whoever
rehearses is afterwards what it was before. Nothing is left on the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilot_agent.calls import call
from pilot_agent.codec import from_json, to_json
from pilot_agent.collect import Declared, PluginReport, declared_from_json, declared_to_json
from pilot_agent.config import Layer, load_config
from pilot_agent.files import read_bounded
from pilot_agent.host import Traced
from pilot_agent.model import (
    CheckResult,
    ContainerDecision,
    Fact,
    Failure,
    FailureKind,
    Json,
    PilotError,
    ServiceState,
    TimelineEntry,
)
from pilot_agent.progress import Progress
from pilot_agent.report import build_report
from pilot_agent.spelling import nearest
from pilot_agent.stages import STAGES, Session
from pilot_agent.standalone import View, look
from pilot_agent.state import State

DEADLINE_SECONDS = 300.0
LIMIT_BYTES = 32 << 20
_RECORDED_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What is rehearsed: these ``plugins`` from these ``directories``, from the first stage ``through`` the named one
    (None: they are loaded, and no stage runs).

    ``root`` is the recording that is looked at, ``/`` this machine. ``config`` is a configuration as a factory's file
    has it, ``options`` the plugins' own (plugin -> option -> value); ``environment`` are the site's variables on this
    machine, a recording has its own.
    """

    plugins: Sequence[str] = ()
    directories: Sequence[str] = ()
    through: str | None = "validate"
    root: str = "/"
    config: Mapping[str, Json] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    trace: bool = False
    """Whether each call of a plugin's code is kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a rehearsal. ``events`` are the lines of ``events.jsonl``, ``journal`` those of the journal, and
    ``report`` is the report as a pilot would write it."""

    facts: Mapping[str, Fact]
    checks: tuple[CheckResult, ...]
    failures: tuple[Failure, ...]
    timeline: tuple[TimelineEntry, ...]
    services: tuple[ServiceState, ...]
    container: ContainerDecision | None
    plugins: tuple[PluginReport, ...]
    attributes: Mapping[str, Json]
    environment: Mapping[str, str]
    """The variables that setups give jobs."""
    leftovers: tuple[Json, ...]
    report: Mapping[str, Json]
    events: tuple[Mapping[str, Json], ...]
    journal: tuple[Mapping[str, Json], ...]
    declared: tuple[Declared, ...] = ()
    """What plugins declared that are not the pilot's own."""
    calls: tuple[Traced, ...] = ()
    """Each call of a plugin's code, in order, where they were traced."""

    def of_plugin(self, plugin: str) -> list[TimelineEntry]:
        """What was run for one plugin, and how it ended."""
        return [entry for entry in self.timeline if entry.plugin == plugin]

    def log(self, plugin: str, name: str | None = None) -> str:
        """What the functions and programs of one plugin, or the one of this ``name``, said that was not their
        answer."""
        own = (event for event in self.events if event.get("plugin") == plugin)
        told = (event for event in own if name is None or event.get("name") == name)
        return "".join(str(event.get("log") or event.get("text") or "") for event in told)


def rehearse(wish: Rehearsal, *, seconds: float = DEADLINE_SECONDS) -> Outcome:
    """Run the stages.

    Raises ``PilotError`` as a pilot would end: plugin.load where a plugin does not load, config.invalid, and
    rehearsal.failed where the child itself was lost or took longer than ``seconds``.
    """
    stages = _stages(wish.through)
    called = call(
        lambda: _told(wish, stages),
        name="rehearsal",
        deadline_seconds=seconds,
        output_limit_bytes=LIMIT_BYTES,
    )
    told = called.value
    if told is None:
        said = called.ended.stderr.decode("utf-8", "replace").strip()
        message = f"the rehearsal came to no end: {called.ended.explain()}" + (f"\n{said}" if said else "")
        raise PilotError(Failure(FailureKind.INTERNAL, "rehearsal.failed", message))
    if "failure" in told:
        raise PilotError(from_json(Failure, told["failure"]))
    return _outcome(told)


def _stages(through: str | None) -> list[str]:
    names = list(STAGES)
    if through is None:
        return []
    if through not in names:
        message = f"no stage {through} can be rehearsed{nearest(through, names)}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, f"known: {', '.join(names)}"))
    return names[: names.index(through) + 1]


def _told(wish: Rehearsal, stages: Sequence[str]) -> Json:
    """In the child: what came of it as plain data."""
    kept: dict[str, Json] = {"events": [], "journal": [], "declared": [], "calls": []}

    def trace(one: Traced) -> None:
        kept["calls"].append(to_json(one))

    def keep(session: Session, state: State, progress: Progress) -> None:
        kept["events"] = _lines(session.workspace.events)
        kept["journal"] = _lines(session.workspace.journal)
        kept["declared"] = declared_to_json([one for one in session.loaded.declared if not one.builtin])

    try:
        config = load_config([Layer("factory", _document(wish), "the rehearsal")])
        here = not wish.root.strip("/")
        environment = {**os.environ, **wish.environment}
        view = View(wish.root, mounts=here, enters=False, trace=trace if wish.trace else None)
        state = look(config, environment, stages=stages, view=view, act=keep)
    except PilotError as error:
        return {"failure": to_json(error.failure)}
    whole: dict[str, Any] = {
        name: to_json(getattr(state, name))
        for name in ("facts", "checks", "failures", "timeline", "services", "container", "plugins", "attributes")
    }
    whole |= {"leftovers": to_json(state.leftovers), "environment": state.job_environment}
    return {**whole, "report": build_report(state, finished=True), **kept}


def _document(wish: Rehearsal) -> dict[str, Json]:
    plugins = {"load": [], "directories": [], "options": {}, **wish.config.get("plugins", {})}
    plugins["load"] = [*plugins["load"], *(name for name in wish.plugins if name not in plugins["load"])]
    plugins["directories"] = [*plugins["directories"], *wish.directories]
    plugins["options"] = {**plugins["options"], **{name: dict(given) for name, given in wish.options.items()}}
    return {**wish.config, "plugins": plugins}


def _lines(path: str) -> list[Json]:
    try:
        content = read_bounded(path, limit_bytes=_RECORDED_BYTES)
    except OSError:
        return []
    return [json.loads(line) for line in content.splitlines() if line.endswith(b"}")]


def _outcome(told: Mapping[str, Json]) -> Outcome:
    return Outcome(
        facts={name: from_json(Fact, fact) for name, fact in told["facts"].items()},
        checks=tuple(from_json(CheckResult, one) for one in told["checks"]),
        failures=tuple(from_json(Failure, one) for one in told["failures"]),
        timeline=tuple(from_json(TimelineEntry, one) for one in told["timeline"]),
        services=tuple(from_json(ServiceState, one) for one in told["services"]),
        container=from_json(ContainerDecision, told["container"]) if told["container"] is not None else None,
        plugins=tuple(from_json(PluginReport, one) for one in told["plugins"]),
        attributes=told["attributes"],
        environment=told["environment"],
        leftovers=tuple(told["leftovers"]),
        report=told["report"],
        events=tuple(told["events"]),
        journal=tuple(told["journal"]),
        declared=tuple(declared_from_json(told["declared"])),
        calls=tuple(from_json(Traced, one) for one in told["calls"]),
    )
