"""What the host makes of what plugins declared: reports, and refusals that name plugin, version, artifact and hook."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pilot_agent.codec import CodecError, from_json
from pilot_agent.collect import Declared, PluginReport, declared_from_json
from pilot_agent.hookspecs import DECLARATIONS
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.nursery import answer_of
from pilot_agent.ordering import needs_order
from pilot_agent.plugin_services import MissingPluginError
from pilot_agent.process import Result
from pilot_agent.spelling import nearest

PROBE_HOOK = "pilot_probes"
_OWN_KINDS = (FailureKind.CONFIG,)
"""Failures that a plugin, or its options, name themselves: the plugin is not at fault."""


def answers(names: Sequence[str], collect: Callable[[Sequence[str]], Result]) -> Iterator[tuple[str, Json]]:
    """What is known of each plugin, in their order. Where one ended what collects them all, each is asked by itself."""
    result = collect(names)
    answer, problem = answer_of(result)
    if problem is None:
        yield from zip(names, answer["plugins"], strict=True)
    elif len(names) == 1:
        yield names[0], {"reply": None, "problem": problem, "hook": "", "version": "", "place": "", "seconds": 0.0}
    else:
        for name in names:
            yield from answers([name], collect)


def understood(
    name: str, told: Json, directories: Sequence[str], artifacts: Mapping[str, str]
) -> tuple[list[Declared], PluginReport, list[Json]]:
    """The declarations, the report and the calls of hooks. Raises ``PilotError`` for a plugin that does not load."""
    reply, problem = told["reply"], told["problem"]
    report = _report(name, told, directories, artifacts)
    if reply is not None and "failure" in reply:
        try:
            failure = from_json(Failure, reply["failure"])
        except CodecError as error:
            raise PilotError(load_failure(report, f"its answer cannot be used: {error}")) from error
        if failure.kind in _OWN_KINDS:
            raise PilotError(failure)
        if "offered" in reply:
            raise MissingPluginError(load_failure(report, failure.message), reply["offered"])
        problem = failure.message
    if problem is None:
        try:
            found = [replace(one, whose=report.whole_name) for one in declared_from_json(reply["declared"])]
            return found, replace(report, hooks=tuple(reply["hooks"]), declared=len(found)), reply["calls"]
        except (CodecError, LookupError, TypeError) as error:
            problem = f"what it declared does not fit the contract: {error}"
    hook = told["hook"]
    raise PilotError(load_failure(report, f"{hook}: {problem}" if hook and hook not in problem else problem))


def _report(name: str, told: Json, directories: Sequence[str], artifacts: Mapping[str, str]) -> PluginReport:
    reply = told["reply"] or {}
    source, version = (str(reply.get(field, "")) for field in ("source", "version"))
    place = told["place"] or _place_of(name, directories)
    if place in directories and not source.startswith(os.path.join(place, "")):
        source = place  # the code may call itself as it likes
    artifact = artifacts.get(place, "")
    origin: Literal["payload", "signed", "local"] = "local" if place in directories else "payload"
    return PluginReport(
        name,
        source or "unknown",
        (),
        0,
        told["seconds"],
        version=told["version"] or version,
        origin="signed" if artifact else origin,
        artifact=artifact,
    )


def _place_of(module: str, directories: Sequence[str]) -> str:
    """The first of the directories that has the module; empty where none does. They come before all that the payload
    has, and what the module says of itself does not count."""
    top = module.partition(".")[0]
    names = (top, f"{top}.py", f"{top}.pyc")
    held = (one for one in directories if any(os.path.exists(os.path.join(one, name)) for name in names))
    return next(held, "")


def load_failure(report: PluginReport, problem: str) -> Failure:
    """Why a plugin cannot be loaded, with all that is known of it."""
    return Failure(
        FailureKind.CORRUPTION,
        "plugin.load",
        f"plugin {report.whole_name} was named and does not load: {problem}",
        hint="correct the plugin, its directory in plugins.directories, or take it out of plugins.load",
        plugin=report.name,
    )


def require_sound(declared: Sequence[Declared]) -> None:
    """Raises ``PilotError``: plugin.load where two plugins give one fact or declare one name, or one needs a fact that
    nobody gives; plugin.cycle where needs form a circle."""
    _require_one_giver(declared)
    for hook, record in DECLARATIONS.items():
        tasks = [one for one in declared if one.hook == hook]
        _require_names(hook, tasks)
        if hasattr(record, "after"):  # a record with slots has a member for each field
            needs_order(tasks)
    _require_needs(declared)


def _require_one_giver(declared: Sequence[Declared]) -> None:
    givers: dict[str, Declared] = {}
    for one in declared:
        for fact in getattr(one.record, "gives", ()):
            owner = givers.setdefault(fact, one)
            if owner.plugin != one.plugin:
                raise _refused(one, f"it gives the fact {fact}, which {_name(owner)} gives already")


def _require_names(hook: str, tasks: Sequence[Declared]) -> None:
    """Of a hook each name is one plugin's: by its name a report, a journal and other plugins speak of it. A plugin may
    have the name of one of the pilot's own probes and checks, which it cannot know all."""
    owners: dict[str, Declared] = {}
    for one in tasks:
        name = getattr(one.record, "name", "")
        if not name or hook in ("pilot_options", "pilot_attributes"):
            continue
        owner = owners.setdefault(name, one)
        shared = owner.builtin and hook in (PROBE_HOOK, "pilot_checks", "pilot_mounts")
        if owner is not one and not shared:
            raise _refused(one, f"{hook} yields the name {name!r}, which {_name(owner)} has already")
        if shared:
            owners[name] = one


def _require_needs(declared: Sequence[Declared]) -> None:
    given = {fact for one in declared if one.hook == PROBE_HOOK for fact in one.record.gives}
    for one in declared:
        for fact in getattr(one.record, "requires", ()) if one.hook == PROBE_HOOK and not one.builtin else ():
            if fact not in given:
                raise _refused(
                    one, f"{one.record.name} requires the fact {fact}, which no probe gives{nearest(fact, given)}"
                )


def _refused(one: Declared, problem: str) -> PilotError:
    failure = load_failure(PluginReport(one.plugin, "", (), 0), problem)
    message = f"plugin {_name(one)} was named and does not load: {problem}"
    return PilotError(replace(failure, message=message))


def _name(one: Declared) -> str:
    return one.whose or one.plugin
