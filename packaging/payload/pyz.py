"""Writes pilot.pyz: one zip file, the same bits from the same inputs."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from payload.bytecode import compile_all, dataclass_code, packed
from payload.contents import AGENT, Component, Contents
from payload.debs import Tree
from payload.revision import Revision
from payload.sbom import FILE, archive_sbom

SHEBANG = b"#!/usr/bin/env python3\n"
DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the payload says it is: the agent's version, and the commit that it was made from."""

    version: str
    revision: Revision


def build_pyz(contents: Contents, stamp: Stamp, tree313: Tree, tree311: Tree) -> bytes:
    """The archive's bytes.

    Sources and data lie at the root with the byte code of 3.13 beside them; `cp311` holds the byte code of 3.11 and a
    copy of the data files of agent and plugins, because a package's resources are looked for where its code came from.
    """
    # 3.11 needs the start file's source: which byte code to take is decided in it.
    modules = {name: data for name, data in contents.files.items() if name.endswith(".py")}
    files = dict(contents.files)
    files.update(compile_all(modules, tree313))
    del modules["__main__.py"]
    files.update({f"cp311/{name}": data for name, data in compile_all(modules, tree311).items()})
    files.update({f"cp311/{name}": data for name, data in contents.files.items() if _is_resource(name, contents)})
    for directory, tree in (("", tree313), ("cp311/", tree311)):
        files[f"{directory}{AGENT}/dataclass_code.bin"] = dataclass_code(contents.files, AGENT, tree)
    files[FILE] = archive_sbom(stamp.version, stamp.revision.committed, contents.components, files)
    files["MANIFEST.json"] = manifest(stamp, contents.components, (tree311, tree313), files)
    return packed("zip", write_zip(files), tree313)


def _is_resource(name: str, contents: Contents) -> bool:
    path = PurePosixPath(name)
    return path.suffix != ".py" and path.parts[0] in contents.with_resources


def manifest(stamp: Stamp, components: Sequence[Component], trees: Sequence[Tree], files: Mapping[str, bytes]) -> bytes:
    """MANIFEST.json: what the payload is made of and the digest of each file in it.

    `build` is a digest over all of them: the same for a pilot.pyz and for the pilot.sh that carries it.
    """
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    document = {
        "schema": "pilot-agent/payload/1",
        "name": "pilot-agent",
        "version": stamp.version,
        "build": hashlib.sha256(json.dumps(digests).encode()).hexdigest(),
        **asdict(stamp.revision),
        "components": [
            {"name": c.name, "version": c.version, "licence": c.licence, "wheel_sha256": list(c.sha256)}
            for c in components
        ],
        "compiled_by": [
            {"package": deb.name, "version": deb.version, "sha256": deb.sha256}
            for tree in trees
            for deb in tree.debs
            if deb.name.startswith(("python3", "libpython3"))
        ],
        "files": digests,
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def write_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip behind a shebang, nothing compressed yet: sorted names, one date, one mode."""
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            write_entry(archive, name, data)
    return buffer.getvalue()


def write_entry(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add one file, always with the same date and mode."""
    entry = zipfile.ZipInfo(name, DATE)
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    archive.writestr(entry, data)
