"""The Python interpreters of the node and their versions, told by names and files: none is started."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pilot_agent.model import Fact
from pilot_agent.probes.software.programs import Places, Program, Programs
from pilot_agent.probes.software.stamps import Stamp

NAME = "software.python"
_PATTERN = re.compile(r"python3(?:\.([0-9]{1,2}))?|platform-python(?:3\.([0-9]{1,2}))?")

_MOST = 8
# Where an interpreter is only a few KiB, the rest of it and the version are in its shared library.
_LIBRARIES = ("lib64", "lib", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib/powerpc64le-linux-gnu")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A program called python3 or so, the second number of its version as far as a name tells it, where the whole
    version stands, and whether it is only a script that starts one."""

    program: Program
    minor: int | None
    stamp: Stamp | None
    script: bool = False

    def version(self, stamps: Mapping[str, str]) -> str | None:
        """``3.9.18``, or ``3.9`` where its file does not tell more; None where nothing tells it."""
        told = stamps.get(self.stamp.path) if self.stamp else None
        return told or (None if self.minor is None else f"3.{self.minor}")


def is_python(name: str) -> bool:
    """True for the file name of an interpreter of Python 3."""
    return name.startswith(("python3", "platform-python")) and _PATTERN.fullmatch(name) is not None


def find_interpreters(places: Places, programs: Programs) -> tuple[Interpreter, ...]:
    """``python3`` first, then the newest, the one that belongs to the system last; each file once."""
    names = {program.name for program in programs.found if is_python(program.name)}
    ordered = sorted(
        names, key=lambda name: (name != "python3", name.startswith("platform"), -(_minor(name) or 0), name)
    )
    return tuple(_interpreter(places, program) for program in programs.named(*ordered)[:_MOST])


def python_fact(interpreters: tuple[Interpreter, ...], stamps: Mapping[str, str], source: str) -> Fact:
    """``software.python``: ``{"path", "version", "problem"}`` of each; ``problem`` says why it cannot be started, or
    why its version is not known."""
    entries = []
    for interpreter in interpreters:
        program, version = interpreter.program, interpreter.version(stamps)
        problem = "" if program.executable else "it is not executable"
        if interpreter.script:
            version, problem = None, "a script: which interpreter it starts, if any, is not known"
        elif not problem and version is None:
            problem = f"{program.real} does not tell its version, and is not started to ask"
        entries.append({"path": program.path, "version": version, "problem": problem})
    return Fact(NAME, entries, source=source)


def _minor(name: str) -> int | None:
    match = _PATTERN.fullmatch(name)
    number = (match[1] or match[2]) if match else None
    return int(number) if number else None


def _interpreter(places: Places, program: Program) -> Interpreter:
    minor = _minor(os.path.basename(program.real))
    if minor is None:
        minor = _minor(program.name)
    # From a network file system megabytes would have to be fetched first.
    if program.mount or not program.executable:
        return Interpreter(program, minor, None)
    if places.node.read_bytes(program.real, limit_bytes=2) == b"#!":
        return Interpreter(program, minor, None, script=True)
    return Interpreter(program, minor, None if minor is None else _stamp(places, program.real, minor))


def _stamp(places: Places, path: str, minor: int) -> Stamp:
    prefix = os.path.dirname(os.path.dirname(path)).rstrip("/")
    for library in _LIBRARIES:
        shared = f"{prefix}/{library}/libpython3.{minor}.so.1.0"
        if not places.far(places.resolve(shared)) and places.node.exists(shared):
            path = shared
            break
    form = rb"\x00(3\.%d\.[0-9]{1,3}(?:(?:a|b|rc)[0-9]{1,2})?\+?)\x00" % minor
    return Stamp(path, b"\0003.%d." % minor, form)
