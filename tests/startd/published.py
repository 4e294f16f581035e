"""Tarballs with programs that really run, as small as they can be, and indexes of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

from pilot_agent.startd.artifacts import CONDOR
from pilot_agent.tarballs.index import Tarball

VERSION = "23.9.6"
PROGRAM = "#!/bin/sh\necho '$CondorVersion: {version} 2026-07-12 $'\n"
PROGRAMS = (
    "sbin/condor_master",
    "sbin/condor_startd",
    "sbin/condor_starter",
    "sbin/condor_procd",
    "bin/condor_config_val",
    "bin/condor_ping",
    "libexec/condor/condor_shared_port",
    "libexec/condor/curl_plugin",
)


def condor_files(version: str = VERSION) -> dict[str, bytes]:
    """The programs of an HTCondor that only says its version."""
    return {name: PROGRAM.format(version=version).encode() for name in PROGRAMS}


def install(directory: Path, version: str = VERSION) -> Path:
    """The same as an installation; its directory."""
    for name, content in condor_files(version).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    return directory


def pack(files: dict[str, bytes], *further: tarfile.TarInfo) -> tuple[bytes, str, int]:
    """A tarball of programs with the directories above them, and of what else it shall hold; the digest of the tree
    without that, and how many members it has."""
    directories = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    output = io.BytesIO()
    lines = {}
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted({*directories, *files}):
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if name in directories:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
                lines[name] = f"d {name}\n"
            else:
                entry.size = len(files[name])
                archive.addfile(entry, io.BytesIO(files[name]))
                lines[name] = f"x {hashlib.sha256(files[name]).hexdigest()} {name}\n"
        for entry in further:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    digest = hashlib.sha256("".join(lines[name] for name in sorted(lines)).encode()).hexdigest()
    return gzip.compress(output.getvalue(), mtime=0), digest, len(lines) + len(further)


def tarball(
    directory: Path,
    version: str = VERSION,
    *further: tarfile.TarInfo,
    starter: bytes | None = None,
    **changes: str | int,
) -> Tarball:
    """Write a tarball into the directory, with another starter if given; its entry, with changes."""
    files = condor_files(version) | ({} if starter is None else {"sbin/condor_starter": starter})
    content, digest, members = pack(files, *further)
    values: dict[str, str | int] = {
        "version": version,
        "os": "debian",
        "os_version": "13",
        "architecture": "x86_64",
        "glibc": "2.17",
        "file": f"condor-{version}.tar.gz",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "unpacked_bytes": sum(map(len, files.values())) + sum(entry.size for entry in further),
        "members": members,
        "tree_sha256": digest,
    }
    entry = Tarball(**values | changes)  # type: ignore[arg-type]
    directory.mkdir(exist_ok=True)
    (directory / entry.file).write_bytes(content)
    return entry


def index(directory: Path, *entries: Tarball) -> str:
    """Write the directory's index; its digest."""
    content = json.dumps({"schema": CONDOR.schema, "tarballs": [asdict(entry) for entry in entries]}).encode()
    (directory / "index.json").write_bytes(content)
    return hashlib.sha256(content).hexdigest()
