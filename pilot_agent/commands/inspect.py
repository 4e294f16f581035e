"""``images inspect``: what an image is, from its own files, and from a run where that is the only way."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace

from pilot_agent import configure
from pilot_agent.codec import from_json, to_json
from pilot_agent.commands.trial import own_environment, prove, runtime_of, setting_of
from pilot_agent.config import Config
from pilot_agent.configure import Given
from pilot_agent.containers.candidates import is_remote, source_of
from pilot_agent.containers.images import dictionary
from pilot_agent.containers.inspection import Inspected, inspect
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.printing import print_page, print_text
from pilot_agent.process import Runner
from pilot_agent.progress import Progress
from pilot_agent.render import paragraph, table
from pilot_agent.spelling import nearest

READ_SECONDS = 600.0
MIB = 1 << 20


def run_inspect(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Print what the image is. Raises ``PilotError`` for one that is not there or no image."""
    config = configure.read_layers(given, environment)
    path = _path(parsed.image, config)
    with Progress() as progress:
        progress.say(f"reading {path}")
        found = inspected(path)
        if found.form == "unknown":
            message = f"{path} is neither a directory nor a SIF, squashfs or ext3 file"
            raise _error(FailureKind.CONFIG, "image.format", message)
        if found.form == "directory" and not (found.system or found.architecture or found.labels or found.definition):
            message = f"{path} is a directory with neither /etc/os-release nor a program to run: no image"
            raise _error(FailureKind.CONFIG, "image.format", message, "name the directory that is / inside")
        if "header" in found.unknown:
            hint = "whoever publishes it does so again, or copy it again"
            message = f"{path} is a damaged SIF file: {found.unknown['header']}"
            raise _error(FailureKind.CORRUPTION, "image.damaged", message, hint)
        if found.form != "directory":
            progress.say("running a program in it")
            found = _with_run(found, config, environment)
    if parsed.json:
        print_text(_json(path, found))
    else:
        print_page(page(path, found))
    return 0


def _path(named: str, config: Config) -> str:
    """The path of an image, or of the first candidate of a platform that is on the node."""
    candidates = list(dictionary(config.get("images")))
    own = [one.path for one in candidates if one.platform.lower() == named.lower()]
    if not own:
        if is_remote(named):
            message = f"{named} is fetched when it is used, and not on this node"
            raise _error(FailureKind.USAGE, "usage", message, f"`apptainer pull x.sif {named}`, then inspect x.sif")
        if "/" not in named and not os.path.lexists(named):
            known = sorted({one.platform for one in candidates})
            message = f"there is no file or directory {named}, and the dictionary has {', '.join(known) or 'nothing'}"
            raise _error(FailureKind.CONFIG, "image.not_in_dictionary", message + nearest(named, known))
        return os.path.abspath(named)
    there = [path for path in own if path.startswith("/") and _exists(path)]
    if not there:
        message = f"no candidate of {named} is on this node: {', '.join(own)}"
        raise _error(FailureKind.CONFIG, "image.missing", message, "inspect a path, or a node that has it")
    return there[0]


def _exists(path: str) -> bool:
    with Runner() as runner:
        handle = runner.start_call(
            lambda: b"1" if os.path.exists(path) else b"", name="image paths", deadline_seconds=10
        )
        return runner.wait(handle).answer == b"1"


def inspected(path: str) -> Inspected:
    """``inspect`` in a child, as a look at a dead mount never returns. Raises ``PilotError``."""

    def look() -> bytes:
        try:
            return json.dumps(to_json(inspect(path))).encode()
        except OSError as error:
            return json.dumps({"error": error.strerror or str(error)}).encode()

    with Runner() as runner:
        handle = runner.start_call(look, name=f"a look at {path}", deadline_seconds=READ_SECONDS)
        result = runner.wait(handle)
    if not result.ok:
        dead = result.timed_out or result.abandoned is not None
        code = "image.mount_dead" if dead else "image.unreadable"
        raise _error(FailureKind.NODE_RESOURCE, code, result.explain())
    answer: dict[str, Json] = json.loads(result.answer)
    if "error" in answer:
        raise _error(FailureKind.CONFIG, "image.missing", f"{path}: {answer['error']}")
    return from_json(Inspected, answer)


def _with_run(found: Inspected, config: Config, environment: Mapping[str, str]) -> Inspected:
    """What only a program inside can tell of a file; without a runtime the reason why it is not known."""
    with tempfile.TemporaryDirectory(prefix="pilot-agent-", ignore_cleanup_errors=True) as temporary:
        try:
            program = runtime_of(config, environment, temporary)
            proof = prove(setting_of(program, own_environment(environment, temporary), temporary), found.path)
        except PilotError as error:
            return _not_run(found, error.failure.message)
    if proof.diagnosis is not None and not proof.facts:
        return _not_run(found, f"{proof.diagnosis.code}: {proof.diagnosis.message}")
    facts = proof.facts
    names = {"id": "os.id", "version": "os.version"}
    return replace(
        found,
        system={key: str(facts[name]) for key, name in names.items() if name in facts},
        glibc=str(facts.get("os.glibc", "")),
        architecture=found.architecture or str(facts.get("os.arch", "")),
    )


def _not_run(found: Inspected, reason: str) -> Inspected:
    told = f"only a program inside can tell, and none ran: {reason}"
    return replace(found, unknown={**found.unknown, "system": told, "glibc": told})


def _json(path: str, found: Inspected) -> str:
    answer = to_json(found)
    answer["real_path"] = answer.pop("path")
    answer["deffile"] = answer.pop("definition")
    source = source_of(found.path, "directory" if found.form == "directory" else "file")
    return json.dumps({"path": path, "source": source, **answer}, indent=2) + "\n"


def page(path: str, found: Inspected) -> str:
    """The page for people."""
    size = "" if found.size_bytes is None else f"{found.size_bytes / MIB:.1f} MiB"
    system = found.system.get("pretty_name") or " ".join(
        found.system[name] for name in ("id", "version") if name in found.system
    )
    rows = [
        ("path", path + (f" -> {found.path}" if found.path != path else "")),
        ("form", found.form + (f", {found.signatures} signatures" if found.signatures else "")),
        ("architecture", found.architecture),
        ("system", system),
        ("glibc", found.glibc),
        ("size", size if found.size_complete else f"more than {size}"),
        ("digest", found.digest),
    ]
    told = [(name, printable(value)) for name, value in rows if value and name not in found.unknown]
    lines = [table(told)]
    reasons = dict.fromkeys(found.unknown.values())
    for reason in reasons:
        names = " and ".join(name for name, value in found.unknown.items() if value == reason)
        lines.append(paragraph(f"{names} not known: {printable(reason)}"))
    if found.labels:
        lines += ["", "Labels"]
        lines += [paragraph(printable(f"{name} = {found.labels[name]}"), indent="  ") for name in sorted(found.labels)]
    if found.definition:
        lines += ["", "Built from", *(f"  {printable(line)}" for line in found.definition.strip().splitlines())]
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    """A text of a stranger as a terminal may get it."""
    return "".join(character if character.isprintable() else "?" for character in text.expandtabs(4))


def _error(kind: FailureKind, code: str, message: str, hint: str = "") -> PilotError:
    return PilotError(Failure(kind, code, message, hint))
