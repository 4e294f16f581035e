"""The directory that is published: archives under names that never mean another content, and the indexes of them.

``index.json`` is the newest; the same bytes have a name with their digest, which stays: pilots that wait in a queue
with its digest still find all that it lists. Nothing goes away unless it is asked for. What the pilot reads of an entry
is in ``pilot_agent.cvmfs.offer``; the index is believed for its digest, until artifacts are signed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from condor_tarball.listing import INDEX, Manifest, write
from payload.console import BuildError

SCHEMA = "pilot-agent/cvmfs-index/1"
LETTERS = 12
"""Of a digest in a file's name."""
MOST = {"size_bytes": 256 << 20, "unpacked_bytes": 1 << 30, "members": 20_000}
"""As ``pilot_agent.tarballs.index`` has it."""
_NAMED = re.compile(r"index-[0-9a-f]{12}\.json")
_ARCHIVE = re.compile(r"cvmfs-[0-9A-Za-z._-]+\.tar\.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution(Manifest):
    """One distribution: ``version`` is the client's. ``needs`` are the libraries that it loads and does not bring
    along, ``made`` is when it was added, in UTC."""

    source: str
    machine_type: str
    cvmfsexec: str
    needs: tuple[str, ...]
    made: str


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Only one that publishes here at a time."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_taken(distribution: Distribution) -> None:
    """Refuse what no pilot would take: one such entry spoils the index for all. BuildError."""
    for name, most in MOST.items():
        if getattr(distribution, name) > most:
            raise BuildError(f"{name} is {getattr(distribution, name)}, and pilots take {most} at most")


def listed(directory: Path) -> list[dict[str, Any]]:
    """The entries of the newest index. BuildError for one that is none."""
    path = directory / INDEX
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']!r}")
        return [dict(entry, file=str(entry["file"])) for entry in content["tarballs"]]
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path} is no index of distributions ({error}); move it away, and it is written anew"
        raise BuildError(message) from error


def add(directory: Path, distribution: Distribution, keep: int) -> tuple[str, str]:
    """Write the index with this distribution in it; the name that stays and the digest.

    Of one source and platform this one is listed and those that were made last before it, ``keep`` in all. What is
    listed already keeps its date, so that the same distributions give the same index.
    """
    entries = listed(directory)
    if not any(entry["sha256"] == distribution.sha256 for entry in entries):
        entries.append(json.loads(json.dumps(asdict(distribution))))
    platform = (distribution.source, distribution.machine_type)
    same = [entry for entry in entries if (entry["source"], entry["machine_type"]) == platform]
    last = sorted(same, key=lambda one: (one["sha256"] == distribution.sha256, one["made"], one["file"]), reverse=True)
    older = last[keep:]
    entries = sorted((entry for entry in entries if entry not in older), key=lambda entry: str(entry["file"]))
    data = json.dumps({"schema": SCHEMA, "tarballs": entries}, indent=1, sort_keys=True).encode() + b"\n"
    name, digest = _name_of(data), hashlib.sha256(data).hexdigest()
    _replaced(directory, data)
    write(directory / name, data)
    write(directory / INDEX, data)
    return name, digest


def _name_of(data: bytes) -> str:
    return f"index-{hashlib.sha256(data).hexdigest()[:LETTERS]}.json"


def _replaced(directory: Path, data: bytes) -> None:
    """Let the name that stays of the index so far tell when it was replaced."""
    path = directory / INDEX
    if path.exists() and (old := path.read_bytes()) != data:
        write(directory / _name_of(old), old)


def prune(directory: Path, days: float) -> list[str]:
    """Remove the indexes that were replaced more than ``days`` ago, and the archives that none of the others lists;
    what was removed."""
    current = (directory / INDEX).read_bytes() if (directory / INDEX).exists() else b""
    now, removed, kept = time.time(), [], [directory / INDEX]
    for path in sorted(directory.glob("index-*.json")):
        if not _NAMED.fullmatch(path.name):
            continue
        if now - path.stat().st_mtime > days * 86400 and path.read_bytes() != current:
            removed.append(path.name)
        else:
            kept.append(path)
    used = {entry["file"] for path in kept if path.exists() for entry in json.loads(path.read_bytes())["tarballs"]}
    removed += [
        path.name
        for path in sorted(directory.glob("*.tar.gz"))
        if _ARCHIVE.fullmatch(path.name) and path.name not in used
    ]
    for name in removed:
        os.unlink(directory / name)
    return removed
