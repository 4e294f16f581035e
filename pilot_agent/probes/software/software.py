"""What is installed on the node that pilots and their jobs use, with paths and versions.

Versions are read from names and files wherever they stand there. Only container runtimes, and a CVMFS client whose
libraries do not tell, are started, each with a deadline.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding
from pilot_agent.probes.node import Node
from pilot_agent.probes.software import apptainer
from pilot_agent.probes.software.interpreters import Interpreter, find_interpreters, is_python, python_fact
from pilot_agent.probes.software.modules_system import ModulesSystem, find_modules_system, modules_fact
from pilot_agent.probes.software.programs import Places, Program, Programs, find_programs
from pilot_agent.probes.software.stamps import Stamp, read_stamps

# Where programs are that the caller's search path may leave out.
USUAL_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/libexec")
CONDOR_DIRECTORIES = ("/opt/condor/bin", "/opt/condor/sbin")
# Packages of Apptainer bring the programs that mount images for it alone.
BUNDLED_DIRECTORIES = ("/usr/libexec/apptainer/bin", "/usr/local/libexec/apptainer/bin")
SOURCE = "search path and usual places"

_CONDOR_PROGRAMS = ("condor_master", "condor_startd", "condor_starter", "condor_version")
_MOST_CONDOR = 4
# What unprivileged container runtimes mount and unpack images with.
_IMAGE_PROGRAMS = ("squashfuse_ll", "squashfuse", "fuse2fs", "fuse-overlayfs", "gocryptfs", "mksquashfs", "unsquashfs")
_NAMES = frozenset((*apptainer.NAMES, *_CONDOR_PROGRAMS, *_IMAGE_PROGRAMS, "curl", "cvmfs2"))
_CVMFS_LIBRARIES = ("libcvmfs_fuse3_stub.so", "libcvmfs_fuse_stub.so", "libcvmfs_fuse3.so", "libcvmfs_fuse.so")
_CVMFS_DIRECTORIES = ("/usr/lib64", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
_CVMFS_VERSION = re.compile(r"version ([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?:\.[0-9]{1,3})?)")
_CVMFS_SECONDS = 2.0
# Less than the probe has, so that what hangs costs its own entry and not all facts.
_BUDGET_SECONDS = 8.0


def probe_software(context: Context) -> Iterator[Finding]:
    """``software.python``, ``apptainer``, ``condor``, ``curl``, ``squashfuse``, ``modules``, ``cvmfs_client``, and
    ``not_searched``: path -> why, for what is on the search path and could not be looked at, or is passed over as
    everybody on the node may exchange it."""
    deadline = time.monotonic() + _BUDGET_SECONDS
    node = Node.of(context)
    places = Places.of(node)
    programs = find_programs(places, _wanted, _directories(places, context.environment.get("PATH", "")))
    yield Fact("software.not_searched", dict(programs.untold), source="search path")
    interpreters = find_interpreters(places, programs)
    modules = find_modules_system(places, context.environment)
    versions = read_stamps(node, _stamps(places, programs, interpreters, modules))
    yield _python(interpreters, versions, programs)
    yield _condor(programs, versions)
    yield _curl(programs, versions)
    yield _image_programs(programs)
    yield modules_fact(modules, versions)
    yield _cvmfs_client(node, programs)
    # Last, as only these are started and may take their time.
    yield apptainer.find_runtimes(places, programs, deadline)


def _wanted(name: str) -> bool:
    return name in _NAMES or is_python(name)


def _directories(places: Places, search_path: str) -> list[str]:
    found = [*search_path.split(":"), *USUAL_DIRECTORIES, *CONDOR_DIRECTORIES, *apptainer.DIRECTORIES]
    found += BUNDLED_DIRECTORIES
    mount = places.far(apptainer.CVMFS_DIRECTORY)
    if mount is not None and mount.kind != "autofs":
        found.append(apptainer.CVMFS_DIRECTORY)
    return found


def _missing(name: str, looked_for: str, programs: Programs) -> Fact:
    """Absent; unknown where a place on the search path did not let itself be looked at."""
    if programs.untold:
        missed = "; ".join(f"{path}: {why}" for path, why in programs.untold.items())
        return Fact.unknown(name, f"{looked_for} was found, but not everything could be used: {missed}")
    return Fact.absent(name, f"{looked_for} is on the search path or in the usual places")


def _stamps(
    places: Places, programs: Programs, interpreters: tuple[Interpreter, ...], modules: ModulesSystem | None
) -> Iterator[Stamp]:
    yield from (interpreter.stamp for interpreter in interpreters if interpreter.stamp)
    for program in programs.named(*_CONDOR_PROGRAMS)[:_MOST_CONDOR]:
        yield Stamp(
            program.real, b"$CondorVersion: ", rb"\$CondorVersion: ([0-9]{1,3}(?:\.[0-9]{1,3}){2})", program.mount
        )
    for program in programs.named("curl")[:1]:
        yield Stamp(program.real, b"curl ", rb"curl ([0-9]{1,3}(?:\.[0-9]{1,3}){1,2}[^ \x00]{0,20}) \(", program.mount)
    stamp = modules.stamp(places) if modules else None
    if stamp:
        yield stamp


def _python(interpreters: tuple[Interpreter, ...], versions: Mapping[str, str], programs: Programs) -> Fact:
    if not interpreters:
        return _missing("software.python", "no python3", programs)
    return python_fact(interpreters, versions, SOURCE)


def _condor(programs: Programs, versions: Mapping[str, str]) -> Fact:
    """``software.condor``: ``{"path", "version"}`` of the first condor_master, else of another of its programs; the
    version is the one that any program below the same prefix carries."""
    name = "software.condor"
    found = programs.named(*_CONDOR_PROGRAMS)[:_MOST_CONDOR]
    if not found:
        return _missing(name, "no program of HTCondor", programs)
    prefix = _prefix(found[0])
    version = next((versions[p.real] for p in found if _prefix(p) == prefix and p.real in versions), None)
    details = [] if version else ["its programs carry no $CondorVersion: that can be read"]
    if found[0].name != "condor_master":
        details.append("condor_master was not found")
    return Fact(name, {"path": found[0].path, "version": version}, source=SOURCE, detail="; ".join(details))


def _prefix(program: Program) -> str:
    return os.path.dirname(os.path.dirname(program.real))


def _curl(programs: Programs, versions: Mapping[str, str]) -> Fact:
    """``software.curl``: ``{"path", "version"}``."""
    found = [program for program in programs.named("curl") if program.executable]
    if not found:
        return _missing("software.curl", "no curl", programs)
    version = versions.get(found[0].real)
    detail = "" if version else f"{found[0].real} does not tell its version, and is not started to ask"
    return Fact("software.curl", {"path": found[0].path, "version": version}, source=SOURCE, detail=detail)


def _image_programs(programs: Programs) -> Fact:
    """``software.squashfuse``: name -> path of the programs with which images are mounted, made and unpacked."""
    found = {
        name: next((program.path for program in programs.named(name) if program.executable), None)
        for name in _IMAGE_PROGRAMS
    }
    value = {name: path for name, path in found.items() if path}
    if not value:
        return _missing("software.squashfuse", f"none of {', '.join(_IMAGE_PROGRAMS)}", programs)
    return Fact("software.squashfuse", value, source=SOURCE)


def _cvmfs_client(node: Node, programs: Programs) -> Fact:
    """``software.cvmfs_client``: ``{"path", "version"}``."""
    name = "software.cvmfs_client"
    found = [program for program in programs.named("cvmfs2") if program.executable]
    if not found:
        return _missing(name, "no cvmfs2", programs)
    path = found[0].path
    for directory in _CVMFS_DIRECTORIES:
        for library in _CVMFS_LIBRARIES:
            # libcvmfs_fuse3_stub.so -> libcvmfs_fuse3_stub.so.2.11.2
            version = (node.link(f"{directory}/{library}") or "").rpartition(".so.")[2]
            if re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,3}){2,3}", version):
                return Fact(name, {"path": path, "version": version}, source=f"{directory}/{library}")
    command = node.run([path, "--version"], seconds=_CVMFS_SECONDS, limit_bytes=4096)
    told = _CVMFS_VERSION.search(command.stdout + command.stderr)
    if told:
        return Fact(name, {"path": path, "version": told[1]}, source=f"{path} --version")
    detail = command.problem or f"{path} --version named no version"
    return Fact(name, {"path": path, "version": None}, source=SOURCE, detail=detail)
