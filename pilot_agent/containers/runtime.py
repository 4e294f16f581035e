"""Which container runtimes the node has. Each is asked for its version; what it can do, only the proof of an image
tells."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pilot_agent.process import WakeUp, run

NAMES = ("apptainer", "singularity")
SYSTEM_DIRECTORY = "/usr/bin"
VERSION_SECONDS = 10.0

_VERSION = re.compile(r"\d+(?:\.\d+)+\S*|\d+\S*$")
_SQUASHFS_PROGRAMS = ("squashfuse_ll", "squashfuse")


@dataclass(frozen=True, slots=True)
class RuntimeProgram:
    """A runtime that answered. ``flavour``: Apptainer, SingularityCE, or the older Singularity that both come from."""

    path: str
    flavour: Literal["apptainer", "singularity-ce", "singularity"]
    version: str
    numbers: tuple[int, ...]
    origin: str

    @property
    def singularity(self) -> bool:
        """True for everything that is not Apptainer."""
        return self.flavour != "apptainer"


@dataclass(frozen=True, slots=True)
class RuntimeRefusal:
    """A program that was looked at and not taken, and why."""

    path: str
    reason: str


def places(configured: str | None, search_path: str, *, system: str) -> Iterator[tuple[str, str]]:
    """(path, origin) of every runtime to ask, in order, one program only once: the configured one, those of the
    site's search path (apptainer before singularity), those of the system's directory.

    A configured path is given even when nothing is there, so that it can be said.
    """
    seen: set[str] = set()
    if configured:
        seen.add(os.path.realpath(configured))
        yield configured, "containers.runtime"
    directories = [directory for directory in search_path.split(":") if directory.startswith("/")]
    found = [(os.path.join(directory, name), "PATH") for name in NAMES for directory in directories]
    found += [(os.path.join(system, name), system) for name in NAMES]
    for path, origin in found:
        real = os.path.realpath(path)
        if real not in seen and os.path.isfile(real) and os.access(real, os.X_OK):
            seen.add(real)
            yield path, origin


def ask(
    path: str, origin: str, environment: Mapping[str, str], wake: WakeUp | None = None
) -> RuntimeProgram | RuntimeRefusal:
    """Run ``path --version``. Raises ``Interrupted``."""
    result = run([path, "--version"], deadline_seconds=VERSION_SECONDS, environment=environment, wake=wake)
    if not result.ok:
        return RuntimeRefusal(path, f"{result.explain()} (from {origin})")
    parsed = parse_version(result.text)
    if parsed is None:
        return RuntimeRefusal(path, f"{path} --version said {result.text[:100]!r}, which names no version")
    flavour, version, numbers = parsed
    return RuntimeProgram(path, flavour, version, numbers, origin)


def parse_version(
    text: str,
) -> tuple[Literal["apptainer", "singularity-ce", "singularity"], str, tuple[int, ...]] | None:
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


def mode_of(uid_map: str) -> Literal["userns", "setuid"]:
    """How the container's processes came to be: with a privileged helper they keep the node's own user namespace,
    in which every number is mapped. A pilot that is already in a user namespace gets no help from setuid programs."""
    fields = uid_map.split()
    return "setuid" if fields == ["0", "0", "4294967295"] else "userns"


def squashfs_program(runtime: str, search_path: str) -> str | None:
    """The program with which an unprivileged runtime mounts SIF files, where that runtime would look for it."""
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(runtime)))
    multiarch = f"lib/{os.uname().machine}-linux-gnu"
    directories = [os.path.join(prefix, part, "apptainer", "bin") for part in ("libexec", multiarch, "lib", "lib64")]
    directories += [directory for directory in search_path.split(":") if directory.startswith("/")]
    for directory in directories:
        for name in _SQUASHFS_PROGRAMS:
            path = os.path.join(directory, name)
            if os.access(path, os.X_OK) and os.path.isfile(path):
                return path
    return None
