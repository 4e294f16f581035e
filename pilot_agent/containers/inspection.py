"""What an image is, as far as its files say: read without a runtime, and without following a link out of it.

Everything here looks at paths that may lie on a dead mount: callers run it in a child with a deadline.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from pilot_agent.containers.inside_directory import read_inside
from pilot_agent.containers.sif import MAGIC, MAGIC_OFFSET, SifError, labels_of, read_sif
from pilot_agent.model import Json

MOST_BYTES = 1 << 20
MOST_LIBRARY_BYTES = 8 << 20
SIZE_SECONDS = 20.0
"""How long the files of a directory are counted; on CVMFS every directory is a request."""

METADATA = "/.singularity.d"
LIBRARIES = (
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
    "/lib/powerpc64le-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/lib/libc.so.6",
)
PROGRAMS = ("/bin/sh", "/usr/bin/env", "/bin/busybox")
# ELF(5): e_machine at 18, EI_CLASS at 4, EI_DATA at 5.
MACHINES = {3: "i686", 62: "x86_64", 183: "aarch64", 40: "armv7l", 21: "ppc64le", 22: "s390x", 243: "riscv64"}
_GLIBC = re.compile(rb"GNU C Library [^\n]{0,80}? version (\d+\.\d+)")
_RELEASE = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was read; what could not be is empty or None, with the reason in ``unknown`` by field.

    ``form``: directory, sif, squashfs, ext3 or unknown. ``system`` has the fields of os-release that name it,
    ``digest`` is that of a file. ``size_complete`` is False when a directory was too large to count in time.
    """

    path: str
    form: str
    architecture: str = ""
    size_bytes: int | None = None
    size_complete: bool = True
    digest: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    system: Mapping[str, str] = field(default_factory=dict)
    glibc: str = ""
    definition: str = ""
    signatures: int = 0
    unknown: Mapping[str, str] = field(default_factory=dict)


def inspect(path: str) -> Inspected:
    """What the image at ``path`` is. Raises ``OSError`` when it cannot be opened."""
    real = os.path.realpath(path, strict=True)
    if stat.S_ISDIR(os.stat(real).st_mode):
        return _directory(real)
    with open(real, "rb") as file:
        return _file(real, file)


def _file(path: str, file: BinaryIO) -> Inspected:
    size = os.fstat(file.fileno()).st_size
    head = file.read(1082)
    digest = "sha256:" + _sha256(file)
    if head[MAGIC_OFFSET : MAGIC_OFFSET + len(MAGIC)] == MAGIC:
        try:
            sif = read_sif(file, size)
        except SifError as error:
            return Inspected(path, "sif", size_bytes=size, digest=digest, unknown={"header": str(error)})
        unknown = {} if sif.architecture else {"architecture": "the SIF header names none that is known"}
        return Inspected(
            path,
            "sif",
            sif.architecture,
            size,
            digest=digest,
            labels=sif.labels,
            definition=sif.definition,
            signatures=sif.signatures,
            unknown=unknown,
        )
    form = "squashfs" if head[:4] == b"hsqs" else "ext3" if head[1080:1082] == b"\x53\xef" else "unknown"
    return Inspected(path, form, size_bytes=size, digest=digest)


def _sha256(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(MOST_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _directory(root: str) -> Inspected:
    release = _read(root, "/etc/os-release") or _read(root, "/usr/lib/os-release")
    labels, unknown = _labels(root)
    architecture = next(filter(None, (architecture_inside(root, program) for program in PROGRAMS)), "")
    size, complete = _size(root)
    if not release:
        unknown["system"] = "it has neither /etc/os-release nor /usr/lib/os-release"
    if not architecture:
        unknown["architecture"] = f"none of {', '.join(PROGRAMS)} is a program that is known"
    return Inspected(
        root,
        "directory",
        architecture,
        size,
        complete,
        labels=labels,
        system=system_of(release),
        glibc=_glibc(root),
        definition=_read(root, f"{METADATA}/Singularity"),
        unknown=unknown,
    )


def _read(root: str, path: str) -> str:
    return (read_inside(root, path, MOST_BYTES) or b"").decode("utf-8", "replace")


def _labels(root: str) -> tuple[dict[str, str], dict[str, str]]:
    content = read_inside(root, f"{METADATA}/labels.json", MOST_BYTES)
    if content is None:
        return {}, {}
    try:
        document: Json = json.loads(content)
    except (ValueError, RecursionError) as error:
        return {}, {"labels": f"{METADATA}/labels.json is no JSON: {error}"}
    return labels_of(document), {}


def system_of(release: str) -> dict[str, str]:
    """The fields of os-release(5) that name a system."""
    fields = {name: value.strip("\"'") for name, value in _RELEASE.findall(release)}
    return {key: fields[name] for key, name in NAMES.items() if name in fields}


NAMES = {"id": "ID", "version": "VERSION_ID", "pretty_name": "PRETTY_NAME"}


def architecture_inside(root: str, program: str) -> str:
    """The processor that a program of the image ``root`` is for, as ``uname -m`` names it; empty when not known."""
    head = read_inside(root, program, 64) or b""
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return ""
    return MACHINES.get(int.from_bytes(head[18:20], "little" if head[5] == 1 else "big"), "")


def _glibc(root: str) -> str:
    for path in LIBRARIES:
        match = _GLIBC.search(read_inside(root, path, MOST_LIBRARY_BYTES) or b"")
        if match:
            return match[1].decode()
    return ""


def _size(root: str) -> tuple[int, bool]:
    """Bytes of all files, each link to one of them counted once; False with it when the time was too short."""
    end, total, seen, left = time.monotonic() + SIZE_SECONDS, 0, set(), [root]
    while left:
        if time.monotonic() > end:
            return total, False
        try:
            entries = list(os.scandir(left.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                left.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and (status.st_nlink == 1 or status.st_ino not in seen):
                seen.add(status.st_ino)
                total += status.st_size
    return total, True
