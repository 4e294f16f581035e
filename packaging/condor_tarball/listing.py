"""The manifest of one tarball and the index of a directory of them, as the pilot reads them (``tarballs.index``)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from payload.console import BuildError

SCHEMA = "pilot-agent/condor-index/1"
INDEX = "index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One tarball. ``glibc`` is the oldest that it runs with; ``size_bytes`` and ``sha256`` are those of the file,
    ``unpacked_bytes``, ``members`` and ``tree_sha256`` of what it unpacks to."""

    version: str
    os: str
    os_version: str
    architecture: str
    glibc: str
    file: str
    size_bytes: int
    sha256: str
    unpacked_bytes: int
    members: int
    tree_sha256: str


def write(path: Path, data: bytes) -> None:
    """Put the file in place at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.chmod(0o644)
    temporary.replace(path)


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as the file beside its tarball holds it."""
    return _text(asdict(manifest))


def add_to_index(directory: Path, manifest: Manifest) -> bytes:
    """Write the directory's index anew, with this tarball in the place of one of the same file name; its bytes.
    BuildError for an index that is none."""
    path = directory / INDEX
    known: list[dict[str, Any]] = []
    if path.exists():
        try:
            content = json.loads(path.read_bytes())
            known = [entry for entry in content["tarballs"] if entry["file"] != manifest.file]
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(
                f"{path} is no index of tarballs ({error}); move it away, and it is written anew"
            ) from error
    known.append(asdict(manifest))
    known.sort(key=lambda entry: str(entry["file"]))
    data = _text({"schema": SCHEMA, "tarballs": known})
    write(path, data)
    return data


def _text(data: object) -> bytes:
    return json.dumps(data, indent=1, sort_keys=True).encode() + b"\n"
