"""Installations of Apptainer and Singularity: version, setuid or not, and what their configuration allows.

What is told here is what lies there. Whether containers really run, only running one tells.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from pilot_agent.codec import CodecError, from_json
from pilot_agent.model import Fact, Json
from pilot_agent.probes.mountinfo import mount_of
from pilot_agent.probes.node import Node
from pilot_agent.probes.software.apptainer_config import hindrances, parse_config
from pilot_agent.probes.software.programs import Places, Program, Programs, look

NAME = "software.apptainer"
NAMES = ("apptainer", "singularity")
DIRECTORIES = ("/opt/apptainer/bin", "/opt/singularity/bin")
# OSG's copy for all nodes, where CVMFS is mounted already.
CVMFS_DIRECTORY = "/cvmfs/oasis.opensciencegrid.org/mis/apptainer/bin"

_MOST_RUN = 3
_RUN_SECONDS = 4.0
_LEAST_SECONDS = 0.1
_VERSION_LIMIT_BYTES = 4096
_MACHINES = ("x86_64", "aarch64", "ppc64le")
_VERSION = re.compile(r"(?:(apptainer|singularity-ce|singularity) version )?v?([0-9]{1,4}\.[0-9][^\s]{0,40})")


@dataclass(frozen=True, slots=True)
class Installation:
    """The files of one installation: its program that does the privileged part (empty: none), and its configuration."""

    starter: str = ""
    starter_setuid: bool = False
    config_path: str = ""
    config: dict[str, Json] = field(default_factory=dict)


def parse_version(text: str) -> tuple[str, str] | None:
    """Kind and version from ``apptainer version 1.4.5-1.el9``, ``singularity-ce version 4.1.0`` or a bare ``2.6.1``
    (Singularity); None when there is neither."""
    for line in text.splitlines():
        match = _VERSION.fullmatch(line.strip())
        if match:
            return match[1] or "singularity", match[2]
    return None


def read_installation(node: Node, program: Program) -> Installation:
    """What lies beside a program, below the same prefix."""
    prefix = os.path.dirname(os.path.dirname(program.real))
    name = os.path.basename(program.real)
    name = name if name in NAMES else program.name
    # Copies that can be moved have one prefix for each architecture.
    prefixes = (prefix.rstrip("/"), *(f"{prefix.rstrip('/')}/{machine}" for machine in _MACHINES))
    starter = next((path for path in _starters(prefixes, name) if node.exists(path)), "")
    status = node.status(starter) if starter else None
    for path in _configurations(prefixes, name):
        text = node.read(path)
        if text is not None:
            return Installation(starter, bool(status and status.setuid_root), path, parse_config(text))
    return Installation(starter, bool(status and status.setuid_root))


def _starters(prefixes: tuple[str, ...], name: str) -> Iterator[str]:
    libraries = ("libexec", *(f"lib/{machine}-linux-gnu" for machine in _MACHINES), "lib", "lib64")
    for prefix in prefixes:
        for library in libraries:
            yield f"{prefix}/{library}/{name}/bin/starter-suid"


def _configurations(prefixes: tuple[str, ...], name: str) -> Iterator[str]:
    for prefix in prefixes:
        # Packages of the system keep their configuration where all of it is.
        directory = "/etc" if prefix == "/usr" else f"{prefix}/etc"
        yield f"{directory}/{name}/{name}.conf"


def find_runtimes(places: Places, programs: Programs, deadline: float) -> Fact:
    """``software.apptainer``: an entry for every installation found, in the order of the search path::

        {"path", "kind": "apptainer|singularity|singularity-ce", "version", "setuid", "allow_setuid", "mode",
         "config_path", "config": {...}, "problem"}

    ``setuid``: its privileged program is there and setuid root; ``mode`` is setuid only where that can take effect for
    this pilot, else userns. ``problem`` says why the program did not tell its version; none is waited for after
    ``deadline`` (of the monotonic clock). The fact's detail names what the configurations forbid.
    """
    found = [program for program in programs.named(*NAMES) if program.executable]
    if not found:
        looked_for = "neither apptainer nor singularity is on the search path or in the usual places"
        missed = "; ".join(f"{path}: {why}" for path, why in programs.untold.items())
        if missed:
            return Fact.unknown(NAME, f"{looked_for}, but not everything could be used: {missed}")
        return Fact.absent(NAME, looked_for)
    entries: list[Json] = []
    details: list[str] = []
    for number, program in enumerate(found):
        installation, problem = _installation(places, program)
        kind, version, unrun = _version(places.node, program, deadline) if number < _MOST_RUN else _not_asked(program)
        refused = _no_setuid(places, installation)
        entries.append(
            {
                "path": program.path,
                "kind": kind,
                "version": version,
                "setuid": installation.starter_setuid,
                "allow_setuid": installation.config.get("allow_setuid"),
                "mode": "setuid" if installation.starter_setuid and not refused else "userns",
                "config_path": installation.config_path or None,
                "config": installation.config,
                "problem": "; ".join(part for part in (unrun, problem) if part),
            }
        )
        details += _details(program, installation, refused)
    return Fact(NAME, entries, source="search path and usual places", detail="; ".join(details))


def _details(program: Program, installation: Installation, refused: str) -> Iterator[str]:
    forbidden = hindrances(installation.config, setuid=installation.starter_setuid and not refused)
    if forbidden:
        yield f"{installation.config_path}: {', '.join(forbidden)}; the site changes it if pilots need that"
    if installation.starter_setuid and refused:
        yield f"{program.path} is installed setuid, but {refused}"


def _installation(places: Places, program: Program) -> tuple[Installation, str]:
    def reading() -> Json:
        return asdict(read_installation(places.node, program))

    answer = look(places.node, f"installation of {program.path}", reading, far=bool(program.mount))
    if answer.problem:
        return Installation(), f"its files could not be looked at: {answer.problem}"
    try:
        return from_json(Installation, answer.value), ""
    except CodecError as error:
        return Installation(), f"the recorded answer is damaged: {error}"


def _version(node: Node, program: Program, deadline: float) -> tuple[str, str | None, str]:
    seconds = min(_RUN_SECONDS, deadline - time.monotonic())
    if seconds < _LEAST_SECONDS:
        return program.name, None, "not asked for its version: no time was left"
    command = node.run([program.path, "--version"], seconds=seconds, limit_bytes=_VERSION_LIMIT_BYTES)
    if command.ok:
        parsed = parse_version(command.stdout)
        if parsed:
            return *parsed, ""
        return program.name, None, f"--version said {command.stdout[:100]!r}, which names no version"
    said = (command.stderr or command.stdout).strip().splitlines()
    tail = f": {said[-1][:200]}" if said else ""
    return program.name, None, command.problem or f"--version exited {command.code}{tail}"


def _not_asked(program: Program) -> tuple[str, None, str]:
    return program.name, None, f"not asked for its version: only the first {_MOST_RUN} are"


def _no_setuid(places: Places, installation: Installation) -> str:
    """Why a setuid program would not help this pilot; empty when nothing shows that."""
    if not installation.starter_setuid:
        return ""
    if installation.config.get("allow_setuid") is False:
        return f"{installation.config_path} says allow setuid = no"
    text = places.node.read("/proc/self/status") or ""
    if re.search(r"(?m)^NoNewPrivs:\s*1$", text):
        return "the pilot runs with no_new_privs, under which setuid programs get no privileges"
    numbers = (places.node.read("/proc/self/uid_map") or "").split()
    if numbers and numbers != ["0", "0", "4294967295"]:
        return "the pilot is in a user namespace, where setuid programs get no privileges of the node"
    mount = mount_of(places.mounts, installation.starter)
    if mount is not None and "nosuid" in places.flags(mount):
        return f"{mount.point} is mounted nosuid"
    return ""
