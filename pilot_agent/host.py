"""The plugin host: loads plugins, runs what they declare in children, in the order their needs dictate.

Built-in code is forked from the pipeline, which has it loaded; anything else gets an interpreter of its own. Either
way a callable that raises, hangs, exits or prints megabytes is one failed line in the timeline.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pilot_agent import child, loading
from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.collect import Declared, PluginReport, declarations, fits, implemented_hooks
from pilot_agent.config import Config
from pilot_agent.config_check import Problem, invalid
from pilot_agent.hookspecs import Context, Event
from pilot_agent.model import Fact, Failure, FailureKind, Json, Limit, PilotError
from pilot_agent.nursery import answer_of
from pilot_agent.ordering import key_of, needs_order
from pilot_agent.plugin_services import place_of_option
from pilot_agent.plugins.recordings import files_root
from pilot_agent.process import OUTPUT_LIMIT_BYTES, Result, Runner, WakeUp
from pilot_agent.programs import is_program, read_answer
from pilot_agent.spelling import nearest
from pilot_agent.trust.local import code_writable_by_others

BUILTIN_PLUGINS = (
    "probes",
    "cvmfs",
    "containers",
    "services",
    "benchmarks",
    "checks",
    "profile",
    "setups",
    "attributes",
)
CONCURRENT_CHILDREN = 8
LOG_LETTERS = 2000
NURSERY_SECONDS = 30.0
"""What the interpreter in which plugins are collected needs itself, on a node that is busy."""
NURSERY_BYTES = 3 * OUTPUT_LIMIT_BYTES
_AUTHOR_ACTS = "whoever wrote the plugin must act; its log is in events.jsonl"
_CONFIGURER_ACTS = "whoever configured it must act, the VO for vo., the site for site.; its log is in events.jsonl"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything that all plugins declared, and what is known of each plugin."""

    declared: tuple[Declared, ...]
    plugins: tuple[PluginReport, ...]

    def of(self, hook: str) -> list[Declared]:
        """The declarations made through one hook, in plugin order."""
        return [declared for declared in self.declared if declared.hook == hook]

    def giver(self, fact: str) -> str | None:
        """The plugin whose probe or mount gives a fact."""
        tasks = [*self.of("pilot_probes"), *self.of("pilot_mounts")]
        return next((task.plugin for task in tasks if fact in task.record.gives), None)


@dataclass(frozen=True, slots=True)
class Traced:
    """One call of a plugin's code: of a hook, or of ``what``, the function or program that it declared through one.
    ``problem`` says why there is no result."""

    plugin: str
    hook: str
    what: str
    arguments: Json
    result: Json
    seconds: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every child needs: the interpreter, its environment, the plugin directories, the wake-up. ``artifacts`` maps
    those of the directories that hold a signed plugin to the name under which it was signed; ``trace`` is told of each
    call of a plugin's code."""

    interpreter: tuple[str, ...]
    environment: Mapping[str, str]
    directories: tuple[str, ...] = ()
    wake: WakeUp | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)
    trace: Callable[[Traced], None] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A declared program, ready to be run in ``directory``. ``never_ran`` tells from its end why something else kept it
    from running (a container that was not made), None when it ran; ``clear`` removes what was made for it. It reads
    ``standard_input``. ``program`` is whose end people are told, where ``argv`` begins with what only starts it."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    never_ran: Callable[[Result], Failure | None]
    clear: Callable[[], None]
    standard_input: bytes | None = None
    program: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one declared callable ended: its answer as plain data, or why there is none."""

    declared: Declared
    answer: Json
    failure: Failure | None
    started: float
    seconds: float
    log: str = ""


def load_plugins(
    names: Sequence[str], config: Mapping[str, Json], around: Surroundings, timeout_seconds: float
) -> Loaded:
    """Collect from the built-in plugins and from ``names``. Raises ``PilotError`` (plugin.load, a corruption) for a
    plugin that was named and does not load, (config.invalid) for one that refuses the value of an option."""
    declared: list[Declared] = []
    reports: list[PluginReport] = []
    for name in BUILTIN_PLUGINS:
        module = importlib.import_module(f"pilot_agent.plugins.{name}")
        found = declarations(f"builtin.{name}", module, config, builtin=True)
        declared += found
        reports.append(PluginReport(f"builtin.{name}", "payload", implemented_hooks(module), len(found)))
    names = list(dict.fromkeys(names))  # a factory and a VO may name the same one
    _require_own_code(around.directories if names else ())
    for found, report in _collect_external(names, config, around, timeout_seconds):
        declared += found
        reports.append(report)
    loaded = Loaded(tuple(declared), tuple(reports))
    loading.require_sound(loaded.declared)
    return loaded


def _require_own_code(directories: Sequence[str]) -> None:
    """Raises ``PilotError`` (plugin.load) when others on this node can change what would be imported."""
    for directory in directories:
        reason = code_writable_by_others(directory)
        if reason:
            message = f"the plugins in {directory} are not loaded: {reason}"
            hint = "make it root's or this account's, `chmod -R go-w` it, and keep it where only they may rename"
            raise PilotError(Failure(FailureKind.CORRUPTION, "plugin.load", message, hint))


def _collect_external(
    names: Sequence[str], config: Mapping[str, Json], around: Surroundings, timeout_seconds: float
) -> Iterable[tuple[list[Declared], PluginReport]]:
    if not names:
        return
    asked = {"directories": list(around.directories), "config": to_json(config), "seconds": timeout_seconds}
    asked["trace"] = around.trace is not None

    def collect(some: Sequence[str]) -> Result:
        request = {"plugins": list(some), **asked}
        seconds = timeout_seconds * len(some) + NURSERY_SECONDS
        return _run_child("collect", request, around, seconds, output_limit_bytes=len(some) * NURSERY_BYTES)

    for name, answer in loading.answers(names, collect):
        found, report, calls = loading.understood(name, answer, around.directories, around.artifacts)
        if around.trace is not None:
            for one in calls:
                around.trace(Traced(name, one["hook"], "", one["arguments"], one["result"], one["seconds"]))
        yield found, report


def run_all(
    tasks: Sequence[Declared],
    context_of: Callable[[Declared], Context],
    around: Surroundings,
    on_end: Callable[[Ended], None],
    *,
    width: int = CONCURRENT_CHILDREN,
    command_of: Callable[[Declared], Command | Failure] | None = None,
) -> None:
    """Run every task as soon as what it needs has ended, ``width`` at a time; ``on_end`` is told of each. A program is
    run as ``command_of`` says, or ends with the failure that it gives.

    Raises ``Interrupted`` when the pilot must stop, ``PilotError`` (plugin.cycle) when needs form a circle.
    """
    on_end = _with_trace(on_end, context_of, around)
    order = needs_order(tasks)
    by_key = {key_of(task): task for task in tasks}
    waiting: list[str] = []
    running: dict[int, tuple[Declared, float, Command | None]] = {}
    with Runner(around.wake) as runner:
        while order.is_active():
            waiting += order.get_ready()
            while waiting and len(running) < width:
                task = by_key[waiting.pop(0)]
                started = time.time()
                command = command_of(task) if command_of and is_program(task.record) else None
                if isinstance(command, Failure):
                    on_end(Ended(task, None, replace(command, plugin=task.plugin), started, 0.0))
                    order.done(key_of(task))
                    continue
                handle = _start(runner, task, context_of(task), around, command)
                if isinstance(handle, Result):
                    on_end(_ended(task, handle, started, command))
                    order.done(key_of(task))
                else:
                    running[handle] = (task, started, command)
            if running:
                handle, result = runner.wait_any()
                task, started, command = running.pop(handle)
                on_end(_ended(task, result, started, command))
                order.done(key_of(task))


def _with_trace(
    on_end: Callable[[Ended], None], context_of: Callable[[Declared], Context], around: Surroundings
) -> Callable[[Ended], None]:
    """``on_end``, and where somebody traces they are told first."""
    trace = around.trace
    if trace is None:
        return on_end

    def both(ended: Ended) -> None:
        one, problem = ended.declared, ended.failure.message if ended.failure else ""
        arguments = to_json({"context": context_of(one)})
        trace(Traced(one.plugin, one.hook, one.record.name, arguments, ended.answer, ended.seconds, problem))
        on_end(ended)

    return both


def _start(
    runner: Runner, task: Declared, context: Context, around: Surroundings, command: Command | None
) -> int | Result:
    record = task.record
    if command is not None:
        return runner.start(
            command.argv,
            deadline_seconds=record.timeout_seconds,
            environment=command.environment,
            directory=command.directory,
            standard_input=command.standard_input,
        )
    memory_mib = getattr(record, "memory_mib", None)
    if task.builtin:

        def answer() -> bytes:
            child.limit_memory(memory_mib)
            return json.dumps({"result": child.call(record.run, context)}).encode()

        return runner.start_call(
            answer,
            name=record.run,
            deadline_seconds=record.timeout_seconds,
        )
    context = replace(context, root=files_root(context.root))
    request = {"directories": list(around.directories), "run": record.run, "context": to_json(context)}
    request["memory_mib"] = memory_mib
    return runner.start(
        [*around.interpreter, "_child", "call", "{give}", "{answer}"],
        deadline_seconds=record.timeout_seconds,
        environment=around.environment,
        give=json.dumps(request).encode(),
    )


def deliver_events(plugin: str, events: Sequence[Event], around: Surroundings, timeout_seconds: float) -> str | None:
    """Hand a stage's events to one observing plugin; None, or what went wrong."""
    request = {"plugin": plugin, "directories": list(around.directories), "events": to_json(list(events))}
    return _answer(_run_child("events", request, around, timeout_seconds))[1]


def _run_child(
    verb: str,
    request: Json,
    around: Surroundings,
    timeout_seconds: float,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
) -> Result:
    with Runner(around.wake) as runner:
        handle = runner.start(
            [*around.interpreter, "_child", verb, "{give}", "{answer}"],
            deadline_seconds=timeout_seconds,
            environment=around.environment,
            output_limit_bytes=output_limit_bytes,
            give=json.dumps(request).encode(),
        )
        return handle if isinstance(handle, Result) else runner.wait(handle)


def _answer(result: Result) -> tuple[Json, str | None]:
    """The answer of a child and None, or what went wrong, with the failure that it answered where it did."""
    answer, problem = answer_of(result)
    if problem is None and "failure" in answer:
        try:
            return answer, from_json(Failure, answer["failure"]).message
        except CodecError as error:
            return None, f"its answer cannot be used: {error}"
    return answer, problem


def _ended(task: Declared, result: Result, started: float, command: Command | None = None) -> Ended:
    if command is not None:
        return _program_ended(task, result, started, command)
    answer, problem = _answer(result)
    failure = None
    if problem is not None:
        code = "plugin.timeout" if result.timed_out else "plugin.crashed"
        message = f"{task.record.name}: {problem}" + (f" ({task.hook} of {task.whose})" if task.whose else "")
        failure = Failure(FailureKind.PLUGIN, code, message, hint=_AUTHOR_ACTS, plugin=task.plugin)
    log = (result.stdout + result.stderr).decode("utf-8", "replace")[-LOG_LETTERS:]
    result_value = answer.get("result") if isinstance(answer, dict) else None
    return Ended(task, result_value, failure, started, result.seconds, log)


def _program_ended(task: Declared, result: Result, started: float, command: Command) -> Ended:
    command.clear()
    failure = command.never_ran(result)
    answer = None
    if failure is None:
        answer, failure = read_answer(task.record, _named(result, command))
    if failure is not None and task.whose:
        failure = replace(failure, message=f"{failure.message} ({task.hook} of {task.whose})")
    if failure is not None:
        # The pilot has no programs of its own: what a built-in plugin declares, VO and site configured.
        hint = _CONFIGURER_ACTS if task.builtin else _AUTHOR_ACTS
        failure = replace(failure, plugin=task.plugin, hint=failure.hint or hint)
    log = result.stderr.decode("utf-8", "replace")[-LOG_LETTERS:]
    return Ended(task, answer, failure, started, result.seconds, log)


def _named(result: Result, command: Command) -> Result:
    """The same, of the program itself; what did not even start is what starts it."""
    named = command.program and result.error is None
    return replace(result, argv=(command.program, *result.argv[1:])) if named else result


def complete_options(
    loaded: Loaded, given: Mapping[str, Json], config: Config, switched_on: Collection[str] = ()
) -> dict[str, dict[str, Json]]:
    """Plugin -> option -> value: what was given, else the option's default. Of plugins that were ``switched_on``, they
    were given as ``services.PLUGIN``.

    Raises ``PilotError`` (config.invalid) for options that no plugin declared and values of the wrong type.
    """
    known = {(declared.plugin, declared.record.name): declared.record for declared in loaded.of("pilot_options")}
    problems: list[Problem] = []
    for plugin, options in given.items():
        for name, value in options.items() if isinstance(options, dict) else [("", options)]:
            path, layer = place_of_option(config, plugin, name, switched_on)
            option = known.get((plugin, name))
            if option is None:
                problems.append(Problem(path, layer, _unknown_option(plugin, name, known)))
            elif not fits(option, value):
                problems.append(Problem(path, layer, f"expected {option.type}, found {type(value).__name__}"))
    if problems:
        raise invalid(problems)
    complete: dict[str, dict[str, Json]] = {}
    for (plugin, name), option in known.items():
        complete.setdefault(plugin, {})[name] = given.get(plugin, {}).get(name, option.default)
    return complete


def _unknown_option(plugin: str, name: str, known: Iterable[tuple[str, str]]) -> str:
    own = [option for owner, option in known if owner == plugin]
    if own:
        return "no loaded plugin declared this option" + (nearest(name, own) or f"; {plugin} has {', '.join(own)}")
    return f"no loaded plugin declared this option: none of the name {plugin}" + nearest(plugin, {o for o, _ in known})


def findings(answer: Json) -> list[Fact | Limit]:
    """Facts and limits from what a probe or mount yielded. Raises ``CodecError``."""
    kinds: dict[str, Any] = {"Fact": Fact, "Limit": Limit}
    found: list[Fact | Limit] = []
    if answer is not None and not isinstance(answer, list):
        raise CodecError("a function that finds facts yields or returns several, this one returned a single value")
    for item in answer or []:
        kind = kinds.get(item["type"])
        if kind is None:
            raise CodecError(f"a {item['type']} is neither a fact nor a limit")
        finding = from_json(kind, item["value"])
        to_json(finding)  # no report could hold what is no number
        found.append(finding)
    return found
