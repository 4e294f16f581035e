"""The modules system of a cluster, Lmod or Environment Modules: found by variables and files, no shell is started."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pilot_agent.model import Fact, Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.software.programs import Places, look
from pilot_agent.probes.software.stamps import Stamp

NAME = "software.modules"
LMOD = "lmod"
ENVIRONMENT_MODULES = "environment-modules"

_MOST_PATHS = 50
_VERSION = re.compile(r"[0-9]{1,4}(?:\.[0-9A-Za-z]{1,10}){0,4}")
_LMOD_TAG = re.compile(r'M\.tag\(\)\s*return\s*"([0-9][0-9A-Za-z.]{0,30})"')
_LMOD_COMMANDS = (
    "/usr/share/lmod/lmod/libexec/lmod",
    "/opt/lmod/lmod/libexec/lmod",
    "/opt/apps/lmod/lmod/libexec/lmod",
    "/opt/ohpc/admin/lmod/lmod/libexec/lmod",
)
# Fedora and EL; Debian; a build with the default prefix.
_MODULES_COMMANDS = (
    "/usr/share/Modules/libexec/modulecmd.tcl",
    "/usr/lib/x86_64-linux-gnu/modulecmd.tcl",
    "/usr/lib/aarch64-linux-gnu/modulecmd.tcl",
    "/usr/local/Modules/libexec/modulecmd.tcl",
    "/opt/cray/pe/modules/default/bin/modulecmd",
)


@dataclass(frozen=True, slots=True)
class ModulesSystem:
    """``command`` is what its shell function runs; ``initialised`` when the pilot's environment has the function's
    variables, so that a job's shell finds modules without sourcing anything."""

    kind: str
    command: str
    version: str | None
    modulepath: tuple[str, ...]
    initialised: bool
    source: str
    problem: str = ""

    def stamp(self, places: Places) -> Stamp | None:
        """Where the version stands, if nothing has told it yet."""
        if self.version or self.kind != ENVIRONMENT_MODULES or not self.command.startswith("/") or self.problem:
            return None
        mount = places.far(places.resolve(self.command))
        if mount is not None and mount.kind == "autofs":
            return None
        form = rb"Modules Release ([0-9]{1,3}(?:\.[0-9]{1,4}){1,3})"
        return Stamp(self.command, b"Modules Release ", form, mount.point if mount else "")


def find_modules_system(places: Places, environment: Mapping[str, str]) -> ModulesSystem | None:
    """The modules system that the environment names, else one in a usual place; None when there is neither."""
    return next(iter(_candidates(places, environment)), None)


def modules_fact(system: ModulesSystem | None, stamps: Mapping[str, str]) -> Fact:
    """``software.modules``: ``{"kind", "path", "version", "modulepath": [...], "initialised"}``."""
    if system is None:
        looked_for = "no variables of Lmod or Environment Modules, and neither is in a usual place"
        return Fact.absent(NAME, looked_for)
    value: Json = {
        "kind": system.kind,
        "path": system.command or None,
        "version": system.version or stamps.get(system.command),
        "modulepath": list(system.modulepath),
        "initialised": system.initialised,
    }
    detail = system.problem
    if not system.initialised:
        detail = "it is installed, but not initialised in the pilot's environment: jobs source its init script first"
    return Fact(NAME, value, source=system.source, detail=detail)


def _candidates(places: Places, environment: Mapping[str, str]) -> Iterator[ModulesSystem]:
    paths = [path for path in environment.get("MODULEPATH", "").split(":") if path][:_MOST_PATHS]
    lmod = environment.get("LMOD_CMD", "")
    if lmod or environment.get("LMOD_VERSION"):
        told = _version_of(environment.get("LMOD_VERSION"))
        version, problem = (told, "") if told else _lmod_version(places, lmod)
        source = "LMOD_CMD" if lmod else "LMOD_VERSION"
        yield ModulesSystem(LMOD, lmod, version, tuple(paths), True, source, problem)
    home, command = environment.get("MODULESHOME", ""), environment.get("MODULES_CMD", "")
    if home or command:
        found, problem = (command, "") if command else _command_below(places, home)
        version = _version_of(environment.get("MODULE_VERSION")) or _last_number(home)
        source = "MODULES_CMD" if command else "MODULESHOME"
        yield ModulesSystem(ENVIRONMENT_MODULES, found, version, tuple(paths), True, source, problem)
    for kind, commands in ((LMOD, _LMOD_COMMANDS), (ENVIRONMENT_MODULES, _MODULES_COMMANDS)):
        for path in commands:
            # Nothing that might hang or be mounted by looking: a usual place on a network file system is no usual one.
            if places.far(places.resolve(path)) or not places.node.exists(path):
                continue
            version, problem = _lmod_version(places, path) if kind == LMOD else (None, "")
            yield ModulesSystem(kind, path, version, tuple(paths), False, path, problem)


def _lmod_version(places: Places, command: str) -> tuple[str | None, str]:
    """The version in the file beside Lmod's command, or why that could not be read."""
    if not command.startswith("/"):
        return None, "its command is not known"
    path = f"{os.path.dirname(command)}/Version.lua"
    answer = _look(places, path, lambda: places.node.read(path, limit_bytes=4096))
    found = _LMOD_TAG.search(answer.value) if isinstance(answer.value, str) else None
    return (found[1], "") if found else (None, answer.problem or f"{path} tells no version")


def _command_below(places: Places, home: str) -> tuple[str, str]:
    paths = [f"{home.rstrip('/')}/{name}" for name in ("libexec/modulecmd.tcl", "bin/modulecmd")]

    def looking() -> Json:
        return next((path for path in paths if places.node.exists(path)), "")

    if not home.startswith("/"):
        return "", "MODULESHOME is no absolute path"
    answer = _look(places, home, looking)
    return (answer.value, answer.problem) if isinstance(answer.value, str) else ("", answer.problem)


def _look(places: Places, path: str, looking: Callable[[], Json]) -> Answer:
    mount = places.far(places.resolve(path))
    if mount is not None and mount.kind == "autofs":
        return Answer(problem=f"not looked at: the automounter on {mount.point} has not mounted it")
    return look(places.node, f"modules system in {path}", looking, far=mount is not None)


def _version_of(text: str | None) -> str | None:
    return text if text and _VERSION.fullmatch(text) else None


def _last_number(home: str) -> str | None:
    """The version in a path such as ``/opt/modules/5.3.1``."""
    return _version_of(os.path.basename(home.rstrip("/")))
