"""A container runtime: what its version says. What it can do, only running it tells (``abilities``)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pilot_agent.model import Json
from pilot_agent.process import WakeUp, run

Flavour = Literal["apptainer", "singularity-ce", "singularity"]
"""Apptainer, SingularityCE, or the older Singularity that both come from."""

Mode = Literal["userns", "setuid"]
"""How containers come to be: in a user namespace, or with the help of a privileged program."""

VERSION_SECONDS = 10.0

_VERSION = re.compile(r"\d+(?:\.\d+)+\S*|\d+\S*$")


@dataclass(frozen=True, slots=True)
class RuntimeProgram:
    """A runtime that answered; ``said`` is the line with its version as it printed it."""

    path: str
    flavour: Flavour
    version: str
    numbers: tuple[int, ...]
    origin: str
    said: str = ""

    @property
    def singularity(self) -> bool:
        """True for everything that is not Apptainer."""
        return self.flavour != "apptainer"


@dataclass(frozen=True, slots=True)
class RuntimeRefusal:
    """A program that was looked at and not taken, and why; ``version`` is empty when it gave none."""

    path: str
    reason: str
    origin: str = ""
    version: str = ""


def ask(
    path: str, origin: str, environment: Mapping[str, str], wake: WakeUp | None = None
) -> RuntimeProgram | RuntimeRefusal:
    """Run ``path --version``. Raises ``Interrupted``."""
    result = run([path, "--version"], deadline_seconds=VERSION_SECONDS, environment=environment, wake=wake)
    if not result.ok:
        return RuntimeRefusal(path, f"{result.explain()} (from {origin})", origin)
    parsed = parse_version(result.text)
    if parsed is None:
        return RuntimeRefusal(path, f"{path} --version said {result.text[:100]!r}, which names no version", origin)
    flavour, version, numbers = parsed
    said = next(line for line in result.text.splitlines() if version in line).strip()
    return RuntimeProgram(path, flavour, version, numbers, origin, said[:200])


def told(path: str, origin: str, software: Json) -> RuntimeProgram | None:
    """The runtime at ``path`` when it told its version to the probe of ``software.apptainer`` (that fact's value) in
    the words that are Apptainer's; None when it has to be asked."""
    entries = software if isinstance(software, list) else ()
    for entry in entries:
        if entry.get("path") == path and entry.get("kind") == "apptainer" and entry.get("version"):
            said = f"apptainer version {entry['version']}"
            parsed = parse_version(said)
            return RuntimeProgram(path, *parsed, origin, said) if parsed else None
    return None


def parse_version(text: str) -> tuple[Flavour, str, tuple[int, ...]] | None:
    """Flavour, version and its numbers from "apptainer version 1.4.5-1.el9", "singularity-ce version 4.1.0",
    "singularity version 3.8.7-1" or a bare "3.8.7"; None when there is no version in it."""
    line = next((line for line in text.splitlines() if _VERSION.search(line)), "")
    match = _VERSION.search(line)
    if match is None:
        return None
    version = match[0]
    leading = re.match(r"\d+(?:\.\d+)*", version)
    numbers = tuple(int(part) for part in leading[0].split(".")) if leading else ()
    words = line[: match.start()].lower()
    if "apptainer" in words:
        return "apptainer", version, numbers
    return ("singularity-ce" if "singularity-ce" in words else "singularity"), version, numbers


def mode_of(uid_map: str) -> Mode:
    """How the container's processes came to be: with a privileged helper they keep the node's own user namespace,
    in which every number is mapped. A pilot that is already in a user namespace gets no help from setuid programs."""
    fields = uid_map.split()
    return "setuid" if fields == ["0", "0", "4294967295"] else "userns"


def has_setuid_starter(path: str) -> bool:
    """Whether a runtime's privileged helper lies where the runtime itself would look for it."""
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    for part in ("libexec", f"lib/{os.uname().machine}-linux-gnu", "lib", "lib64"):
        for name in ("apptainer", "singularity"):
            try:
                found = os.stat(os.path.join(prefix, part, name, "bin", "starter-suid"))
            except OSError:
                continue
            if found.st_uid == 0 and found.st_mode & stat.S_ISUID:
                return True
    return False
