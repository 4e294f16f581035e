"""Where declarations of plugins are collected: an interpreter with the contract loaded, forked once for each plugin.

A plugin's code never runs in the agent, nor where another plugin's did. A new interpreter for each would cost twenty
bare starts of Python; a fork of one that has everything imported costs less than one.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from pilot_agent.child import NoPluginError, limit_memory, load_plugin, offered_plugins
from pilot_agent.codec import to_json
from pilot_agent.collect import declarations, declared_to_json, implemented_hooks
from pilot_agent.hookspecs import CONTRACT_VERSION
from pilot_agent.lifecycle.subreaper import die_with_parent
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.process import Result, Runner

if TYPE_CHECKING:
    from pilot_agent.child import Offered

MEMORY_MIB = 1024
"""What the declarations of one plugin may take of the address space."""
WIDTH = 4
CONTRACT_NAME = "PILOT_CONTRACT"
_CONTRACT_LINE = re.compile(rf"^{CONTRACT_NAME}\s*(?::[^=\n]+)?=\s*(\d+)\s*(?:#.*)?$", re.MULTILINE)
_HOOK_BYTES = 64
_SAID_CHARACTERS = 300


@dataclass(slots=True)
class _Kept:
    """What is known of a plugin even when its child says nothing: the hook that was called last."""

    name: str
    hook: mmap.mmap


def collect_all(request: Json) -> Json:
    """What each of ``request["plugins"]`` declares, in their order: ``reply`` (None where there is none), ``problem``,
    ``hook`` (the one that was called last), ``version``, ``place`` (the directory of the distribution), ``seconds``."""
    offered = offered_plugins(request["directories"])
    kept = [_Kept(name, mmap.mmap(-1, _HOOK_BYTES)) for name in request["plugins"]]
    results = _run(kept, offered, request)
    return {"plugins": [_told(one, results[one.name], offered) for one in kept]}


def _run(kept: Sequence[_Kept], offered: Sequence[Offered], request: Json) -> dict[str, Result]:
    results: dict[str, Result] = {}
    waiting = list(kept)
    running: dict[int, str] = {}
    with Runner() as runner:
        while waiting or running:
            while waiting and len(running) < WIDTH:
                one = waiting.pop(0)
                handle = runner.start_call(
                    lambda one=one: _answer(one, offered, request),  # type: ignore[misc]
                    name=f"plugin {one.name}",
                    deadline_seconds=request["seconds"],
                )
                running[handle] = one.name
            handle, result = runner.wait_any()
            results[running.pop(handle)] = result
    return results


def _answer(one: _Kept, offered: Sequence[Offered], request: Json) -> bytes:
    """In the child: what the plugin declares, as bytes of JSON; a failure where it does not load."""
    die_with_parent(signal.SIGKILL)
    limit_memory(request.get("memory_mib", MEMORY_MIB))
    try:
        reply = _collect(one, offered, request)
    except PilotError as error:
        reply = {"failure": to_json(error.failure)}
    except NoPluginError as error:
        failure = Failure(FailureKind.CORRUPTION, "plugin.load", str(error))
        reply = {"failure": to_json(failure), "offered": [name for name in (error.path or "").split(",") if name]}
    except SystemExit as error:
        _exit(error)
    return json.dumps(reply).encode()


def _exit(error: SystemExit) -> NoReturn:
    """End as the interpreter would."""
    if isinstance(error.code, str):
        sys.stderr.write(f"{error.code}\n")
        sys.stderr.flush()
    os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))


def _collect(one: _Kept, offered: Sequence[Offered], request: Json) -> Json:
    module = _loaded(one.name, offered)
    calls: list[Json] = []

    def note(hook: str) -> None:
        one.hook.seek(0)
        one.hook.write(hook.encode()[: _HOOK_BYTES - 1].ljust(_HOOK_BYTES, b"\0"))

    trace = calls.append if request.get("trace") else None
    found = declarations(one.name, module, request["config"], builtin=False, note=note, trace=trace)
    source = getattr(module, "__file__", None) or "unknown"
    version = str(getattr(module, "__version__", ""))
    hooks = list(implemented_hooks(module))
    return {
        "declared": declared_to_json(found),
        "hooks": hooks,
        "source": source,
        "version": version,
        "calls": calls,
    }


def _loaded(name: str, offered: Sequence[Offered]) -> ModuleType:
    """The plugin's module. Raises what the import raises; ``PilotError`` (plugin.contract) for one that was written for
    a newer contract, also where it cannot even be imported here."""
    try:
        module = load_plugin(name, offered)
    except NoPluginError:
        raise
    except Exception as error:
        _require_contract(name, _stated(name, offered))
        place = _place(error)
        if not place:
            raise
        said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())[:_SAID_CHARACTERS]
        message = f"{type(error).__name__}: {said} ({place})"
        raise PilotError(Failure(FailureKind.CORRUPTION, "plugin.load", message, plugin=name)) from error
    _require_contract(name, getattr(module, CONTRACT_NAME, CONTRACT_VERSION))
    return module


def _place(error: Exception) -> str:
    """File and line at which an import failed: its author looks there first. Nothing where no plugin's line did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    own, frame, found = os.path.join(os.path.dirname(__file__), ""), error.__traceback__, ""
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not file.startswith(("<", own)):
            found = f"{file}, line {frame.tb_lineno}"
        frame = frame.tb_next
    return found


def _require_contract(name: str, version: object) -> None:
    if isinstance(version, int) and 1 <= version <= CONTRACT_VERSION:
        return
    if not isinstance(version, int) or version < 1:
        message = f"{name}: {CONTRACT_NAME} is {version!r}; the number of a version, from 1 on, is needed"
        raise PilotError(Failure(FailureKind.CORRUPTION, "plugin.load", message, plugin=name))
    message = (
        f"the plugin {name} is written for version {version} of the plugin contract, and this pilot has version "
        f"{CONTRACT_VERSION}"
    )
    hint = "the factory sends a newer pilot, or whoever named the plugin takes an older release of it"
    raise PilotError(Failure(FailureKind.CONFIG, "plugin.contract", message, hint, plugin=name))


def _stated(name: str, offered: Iterable[Offered]) -> int:
    """The contract that the plugin's source states, for one that cannot be imported."""
    import importlib.util

    module = next((one.module for one in offered if one.name == name), name)
    try:
        spec = importlib.util.find_spec(module)
        source = spec.loader.get_source(module) if spec is not None else None  # type: ignore[union-attr]
    except (ImportError, AttributeError, SyntaxError, ValueError, OSError):
        return CONTRACT_VERSION
    stated = _CONTRACT_LINE.search(source or "")
    return int(stated[1]) if stated else CONTRACT_VERSION


def _told(one: _Kept, result: Result, offered: Sequence[Offered]) -> Mapping[str, Json]:
    reply, problem = answer_of(result)
    own = next((each for each in offered if each.name == one.name), None)
    one.hook.seek(0)
    hook = one.hook.read(_HOOK_BYTES).rstrip(b"\0").decode("ascii", "replace")
    one.hook.close()
    return {
        "reply": reply,
        "problem": problem,
        "hook": hook,
        "version": own.version if own is not None else "",
        "place": own.place if own is not None else "",
        "seconds": result.seconds,
    }


def answer_of(result: Result) -> tuple[Json, str | None]:
    """The answer of a child and None, or what went wrong."""
    if not result.ok:
        return None, result.explain()
    try:
        answer = json.loads(result.answer)
    except (ValueError, RecursionError):
        cut = "its answer was cut at the limit" if result.truncated else "it ended without an answer (os._exit?)"
        return None, cut
    # A plugin's code may write to the descriptor of the answer itself.
    return (answer, None) if isinstance(answer, dict) else (None, "its answer is no JSON object")
