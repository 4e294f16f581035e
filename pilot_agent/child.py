"""The child in which code that is not part of the payload runs: it imports one plugin, does one thing, answers.

Called as ``_child <verb> <given> <answer>``: ``given`` is the path of a JSON request, ``answer`` the number of the
descriptor for the JSON answer. Whatever the plugin prints is only its log. The keeper, which has no descriptors to
give, calls ``_child periodic <reference> <name> <state> <directories>``, or ``_child bench <job> <state> <score>``, and
reads standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from pilot_agent.codec import from_json, to_json
from pilot_agent.hookspecs import Context, Event
from pilot_agent.interpreter import payload_archive
from pilot_agent.model import Json, PilotError
from pilot_agent.services.variables import PORTS_VARIABLE

ENTRY_POINT_GROUP = "pilot_agent"


def main(argv: list[str]) -> int:
    """Do what the request asks for; 0, or 1 with the reason on standard error."""
    if argv[0] == "periodic":
        return _periodic(*argv[1:])
    if argv[0] == "bench":
        return _bench(*argv[1:])
    verb, given, answer = argv
    with open(given, encoding="utf-8") as stream:
        request = json.load(stream)
    for directory in reversed(request.get("directories", [])):
        sys.path.insert(0, directory)
    verbs: dict[str, Callable[[Json], Json]] = {"collect": _collect, "call": _call, "events": _events}
    try:
        reply = verbs[verb](request)
    except PilotError as error:
        reply = {"failure": to_json(error.failure)}
    content = memoryview(json.dumps(reply).encode())
    while content:
        content = content[os.write(int(answer), content) :]
    return 0


class NoPluginError(ModuleNotFoundError):
    """Nothing has the plugin's name; ``path`` are the entry points that there are, with commas."""


@dataclass(frozen=True, slots=True)
class Offered:
    """An entry point of a distribution: the plugin's ``name``, its module, and the distribution's version and place."""

    name: str
    module: str
    version: str
    place: str


def offered_plugins(directories: Iterable[str]) -> list[Offered]:
    """The plugins that distributions in ``directories`` and in the payload offer. The node's site-packages are never
    searched."""
    # Costs 30 ms, and the pipeline imports this module for ``call`` alone.
    import importlib.metadata

    archive = payload_archive()
    found = []
    for place in (*directories, *((archive,) if archive is not None else ())):
        for distribution in importlib.metadata.distributions(path=[place]):
            points = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
            found += [Offered(point.name, point.value, distribution.version, place) for point in points]
    return found


def load_plugin(name: str, offered: Iterable[Offered]) -> ModuleType:
    """The module of a plugin: that of an entry point among those ``offered``, else a module of that name. Raises what
    the import raises."""
    offered = list(offered)
    for one in offered:
        if one.name == name:
            if ":" in one.module:
                raise TypeError(f"the entry point {name} names {one.module}, and a module is needed")
            return importlib.import_module(one.module)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the plugin is there, and something that it imports is not
        names = sorted(one.name for one in offered)
        found = ", ".join(names) or "none"
        message = f"no module {name} was found; entry points in plugins.directories and in the payload: {found}"
        raise NoPluginError(message, name=error.name, path=",".join(names)) from None


def resolve(reference: str) -> Any:
    """The object that ``module:qualname`` names. Raises what the import or the look-up raises."""
    module, _, qualname = reference.partition(":")
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def call(reference: str, context: Context) -> Json:
    """What the named function returns, as plain data; what a generator yields becomes a list of tagged findings."""
    result = resolve(reference)(context)
    if isinstance(result, Iterable) and not isinstance(result, str | bytes | dict):
        return [{"type": type(item).__name__, "value": to_json(item)} for item in result]
    return to_json(result)


def limit_memory(mib: int | None) -> None:
    """Bound this process's address space; more than that raises ``MemoryError`` where it is asked for."""
    if mib is not None:
        resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))


def _periodic(reference: str, name: str, state_path: str, directories: str) -> int:
    """Run a periodic task on the facts that the pipeline saved; its attributes as JSON on standard output."""
    for directory in reversed(directories.split(":") if directories else []):
        sys.path.insert(0, directory)
    # What the plugin prints must not mix with the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    context = replace(_saved_context(state_path, name), services=json.loads(os.environ.get(PORTS_VARIABLE, "{}")))
    os.write(answer, json.dumps(to_json(resolve(reference)(context))).encode())
    return 0


def _bench(job_path: str, state_path: str, score_path: str) -> int:
    """Run a benchmark beside the jobs: its score as a file for the report, and in brief on standard output."""
    from pilot_agent.files import write_json
    from pilot_agent.plugins.measuring import Job, explain, measure

    with open(job_path, encoding="utf-8") as stream:
        job = from_json(Job, json.load(stream))

    def own() -> Json:
        return call(job.record.run, replace(_saved_context(state_path, job.record.name), workspace=job.directory))

    score = measure(job, own, explain if job.image is not None else lambda _: "").score
    write_json(score_path, to_json(score))
    brief = {name: getattr(score, name) for name in ("status", "score", "unit", "cached", "message", "attributes")}
    os.write(1, json.dumps(to_json(brief)).encode())
    return 0


def _saved_context(state_path: str, task: str) -> Context:
    """What a function is given while jobs run: the facts that the pipeline saved."""
    from pilot_agent.state import load_state

    state = load_state(state_path)
    return Context(
        facts=state.facts,
        config=state.config.values,
        environment=state.environment,
        workspace=state.workspace,
        pilot_id=state.pilot_id,
        task=task,
    )


def _collect(request: Json) -> Json:
    from pilot_agent.nursery import collect_all

    return collect_all(request)


def _call(request: Json) -> Json:
    limit_memory(request.get("memory_mib"))
    return {"result": call(request["run"], from_json(Context, request["context"]))}


def _events(request: Json) -> Json:
    from pilot_agent.collect import new_manager

    manager = new_manager()
    manager.register(load_plugin(request["plugin"], offered_plugins(request["directories"])))
    events = [from_json(Event, event) for event in request["events"]]
    for implementation in manager.hook.pilot_event.get_hookimpls():
        implementation.function(**dict.fromkeys(implementation.argnames, events))
    return {}
