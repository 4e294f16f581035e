"""Programs that plugins and configuration name in place of functions: what they may be, and what their answer means."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pilot_agent.benchmarks.declaration import problem_of
from pilot_agent.hookspecs import Benchmark, Check, Probe, Service, Setup
from pilot_agent.model import CheckStatus, Failure, FailureKind, Json
from pilot_agent.process import Result
from pilot_agent.service_entry import declared_problems
from pilot_agent.trust.local import writable_by_others

SCRIPT = "{script}"
TEXT_MARK = "#!"
"""What a script begins with that is given as its text, and not as a path."""
_DIRECTORY = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*)?")
FACT_FIELDS = frozenset({"value", "unit", "status", "source", "detail"})
NAGIOS_UNKNOWN = 3
_NAGIOS = {0: CheckStatus.PASS, 1: CheckStatus.WARN, 2: CheckStatus.FAIL}
_METRIC = re.compile(r"('[^'=]+'|[^\s'=]+)=(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
"""One of the numbers after the |: 'label'=value, whatever unit and limits follow."""
CHECK_FIELDS = ("status", "message", "hint", "code")
_NEITHER = "it names neither a function (run) nor a program (command, script)"
_NO_PYTHON = (
    "run={run!r} is a function of Python, which cannot run inside an image, where the pilot's Python is not; "
    "name a program: command or script"
)


class ProgramError(ValueError):
    """A record whose program cannot be run as declared; the message says why."""


def is_program(record: Any) -> bool:
    """Whether a declared record names a program, and not a function."""
    return bool(getattr(record, "command", ()) or getattr(record, "script", None))


def is_text(script: str | None) -> bool:
    """Whether a record's script is its text, and not a path."""
    return script is not None and script.startswith(TEXT_MARK)


def settled(record: Any, directory: str | None) -> Any:
    """The record with its script's absolute path (``directory`` holds the plugin's files) or text, and its whole
    command.

    Raises ``ProgramError`` for what can never run: neither a function nor a program, both, a function inside an image,
    a script that is missing, not executable, or for others to change.
    """
    if not hasattr(record, "command") and not hasattr(record, "run"):
        return record
    _require_one_way(record)
    if isinstance(record, Setup) and not _DIRECTORY.fullmatch(record.directory):
        raise ProgramError(f"directory={record.directory!r} is no name: letters, digits and . _ - are")
    if isinstance(record, Benchmark) and (problem := problem_of(record)):
        raise ProgramError(problem)
    if isinstance(record, Service) and (problems := declared_problems(record)):
        raise ProgramError("; ".join(problems))
    if not is_program(record):
        return record
    if getattr(record, "protocol", "pilot") == "nagios" and not isinstance(record, Check):
        raise ProgramError('protocol="nagios" is one of checks; others answer as protocol="pilot" or "json"')
    words = (*record.command, *getattr(record, "teardown", ()))
    if record.script is None:
        if any(SCRIPT in word for word in words):
            raise ProgramError(f"its command has {SCRIPT}, and script names no file")
        return record
    command = record.command or (SCRIPT,)
    if is_text(record.script):
        if isinstance(record, Service):
            raise ProgramError("the script of a service is a file, and not a text")
        return replace(record, command=command)
    path = _script(record.script, directory)
    if command[0] == SCRIPT and not os.access(path, os.X_OK):
        raise ProgramError(f"the script {path} cannot be executed: `chmod +x` it, or name its interpreter in command")
    return replace(record, script=path, command=command)


def _require_one_way(record: Any) -> None:
    run, program = getattr(record, "run", ""), is_program(record)
    where = getattr(record, "where", "host")
    if run and program:
        raise ProgramError(f"it names both the function {run} and a program; one of them does the work")
    if where == "image" and run:
        raise ProgramError(_NO_PYTHON.format(run=run))
    if not run and not program:
        raise ProgramError(_NEITHER if hasattr(record, "run") else "its command is empty")
    if run:
        module, _, function = run.partition(":")
        if not (module and function):
            raise ProgramError(f"run={run!r} names no function; module:function is needed")
    if where == "host" and getattr(record, "platform", None) is not None:
        raise ProgramError('platform names an image, and only what has where="image" runs in one')
    if isinstance(record, Setup) and where == "image" and record.stage == "early":
        raise ProgramError('no image is chosen before the container stage: inside one a setup is stage="late"')


def _script(name: str, directory: str | None) -> str:
    if os.path.isabs(name):
        path = name
    elif directory is None:
        raise ProgramError(f"script {name!r} is beside nothing; an absolute path is needed")
    else:
        path = os.path.join(directory, name)
        if os.path.commonpath((os.path.realpath(directory), os.path.realpath(path))) != os.path.realpath(directory):
            raise ProgramError(f"script {name!r} leads out of the plugin's directory {directory}")
    if not os.path.isfile(path):
        raise ProgramError(f"there is no script {path}")
    reason = writable_by_others(path)
    if reason:
        raise ProgramError(f"the script is not run: {reason}")
    return path


def filled(words: Sequence[str], script: str | None) -> tuple[str, ...]:
    """The words of a command with the path at which its script is found."""
    return tuple(words) if script is None else tuple(word.replace(SCRIPT, script) for word in words)


def read_answer(record: Any, result: Result) -> tuple[Json, Failure | None]:
    """What a program's end means for its record, as the function's answer would be; or why there is no answer."""
    if result.timed_out or result.code is None:
        code = "plugin.timeout" if result.timed_out else "plugin.crashed"
        return None, Failure(FailureKind.PLUGIN, code, f"{record.name}: {result.explain()}")
    protocol = getattr(record, "protocol", "pilot")
    if protocol == "nagios":
        return _nagios_answer(record, result), None
    document, problem = _whole_document(result) if protocol == "json" else _document(result)
    if problem:
        return None, Failure(FailureKind.PLUGIN, "plugin.answer", f"{record.name}: {problem}")
    if isinstance(record, Check):
        return _check_answer(record, result, document)
    if not result.ok:
        return None, Failure(FailureKind.PLUGIN, "plugin.crashed", f"{record.name}: {result.explain()}")
    return (_findings(record, document) if isinstance(record, Probe) else document), None


def _document(result: Result) -> tuple[dict[str, Json], str]:
    """The JSON object that is all that the program said, or its last line; empty when there is none; and what is wrong
    with what looks like one."""
    text = result.text
    last = next(iter(text.splitlines()[-1:]), "")
    problem = ""
    for said in (text, last):
        if not said.startswith("{"):
            continue
        try:
            document: dict[str, Json] = json.loads(said)
        except (ValueError, RecursionError) as error:
            problem = f"its answer begins like a JSON object and is none: {error}"
        else:
            return document, ""
    if not (last.startswith("{") or text.endswith("}")):
        return {}, ""
    return {}, "its output was cut at the limit" if problem and result.truncated else problem


def _whole_document(result: Result) -> tuple[dict[str, Json], str]:
    """The JSON object that standard output is; and what is wrong with one that is none."""
    if result.truncated:
        return {}, "its output was cut at the limit"
    try:
        document = json.loads(result.stdout)
    except (ValueError, RecursionError) as error:
        # One that failed may have said nothing: then its end is what counts.
        return {}, "" if not result.ok and not result.text else f"its standard output is no JSON: {error}"
    return (document, "") if isinstance(document, dict) else ({}, "its standard output is no JSON object")


def _findings(record: Probe, document: Mapping[str, Json]) -> list[Json]:
    """What a probe that is a program found, in the form of what a function yields; whoever decodes it refuses what is
    no fact."""
    limits = document.get("limits", [])
    found = [{"type": "Limit", "value": limit} for limit in (limits if isinstance(limits, list) else [limits])]
    for name, value in document.items():
        if name != "limits":
            fields = value if isinstance(value, dict) and value and FACT_FIELDS.issuperset(value) else {"value": value}
            found.append({"type": "Fact", "value": {"source": record.name, **fields, "name": name}})
    return found


def _nagios_answer(record: Check, result: Result) -> Json:
    """The verdict of a program that answers as Nagios' plugins do."""
    lines = result.stdout.decode("utf-8", "replace").splitlines()
    message, _, numbers = (lines[0] if lines else "").partition("|")
    told = message.strip()[:300]
    status = _NAGIOS.get(NAGIOS_UNKNOWN if result.code is None else result.code)
    if status is None:
        status = CheckStatus.FAIL
        told = told if result.code == NAGIOS_UNKNOWN and told else result.explain()
    code = "" if result.code in _NAGIOS else "check.unknown"
    found = {name.strip("'"): float(number) for name, number in _METRIC.findall(numbers)}
    metrics = {name: number for name, number in found.items() if math.isfinite(number)}
    answer = {"name": record.name, "status": str(status), "message": told or "it said nothing", "where": record.where}
    return {**answer, "hint": "", "code": code, "metrics": metrics}


def _check_answer(record: Check, result: Result, document: dict[str, Json]) -> tuple[Json, Failure | None]:
    wrong = sorted(set(document) - set(CHECK_FIELDS)) or [
        name for name, value in document.items() if not isinstance(value, str)
    ]
    status = document.get("status", "pass" if result.ok else "fail")
    if wrong or status not in list(CheckStatus):
        problem = f"{wrong[0]!r} is no text of {', '.join(CHECK_FIELDS)}" if wrong else f"status {status!r} is unknown"
        message = f"{record.name}: its answer cannot be used: {problem}"
        return None, Failure(FailureKind.PLUGIN, "plugin.answer", message)
    if not result.ok and status == CheckStatus.PASS:
        status = CheckStatus.FAIL
    return {
        "name": record.name,
        "status": str(status),
        "message": document.get("message", _last_line(result, document)),
        "hint": document.get("hint", ""),
        "where": record.where,
        "code": document.get("code", ""),
    }, None


def _last_line(result: Result, document: dict[str, Json]) -> str:
    if not result.ok:
        return result.explain()
    lines = [] if document else result.text.splitlines()
    return lines[-1][:300] if lines else "it passed"
