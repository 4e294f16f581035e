"""Adds a factory's bundle to a payload that is built already: pilot.pyz, or pilot.sh with the pilot.pyz in it.

Nothing that was built changes: the files are added at the end of the zip, uncompressed, and in pilot.sh the part with
the interpreter stays as it is. The same inputs and the same zlib give the same bits.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Container, Mapping

from payload.console import BuildError
from payload.pyz import SHEBANG, write_entry
from payload.selfextract import Base, closing_files, closing_tar, unpacked_bytes

DIRECTORY = "bundle"
SCHEMA = "pilot-agent/bundle/1"
_SCRIPT = b"#!/bin/sh\n"
_HEADER_LIMIT_BYTES = 1 << 16


def with_bundle(payload: bytes, files: Mapping[str, bytes], name: str) -> bytes:
    """The payload with these files in it. ``name`` is what messages call the payload. BuildError for anything but a
    payload that was built and given nothing yet."""
    if payload.startswith(_SCRIPT):
        return _into_script(payload, files, name)
    if payload.startswith(SHEBANG):
        return _into_zip(payload, files, name)
    raise BuildError(f"{name} is neither pilot.pyz nor pilot.sh; `make payload` builds them")


def _into_zip(pyz: bytes, files: Mapping[str, bytes], name: str) -> bytes:
    about = {
        "schema": SCHEMA,
        "payload_sha256": hashlib.sha256(pyz).hexdigest(),
        "files": {file: hashlib.sha256(data).hexdigest() for file, data in sorted(files.items())},
    }
    listed = {**files, "MANIFEST.json": (json.dumps(about, indent=1) + "\n").encode()}
    buffer = io.BytesIO(pyz)
    try:
        with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
            present = archive.namelist()
            if any(file.startswith(f"{DIRECTORY}/") for file in present):
                raise BuildError(f"{name} holds a bundle already; add this one to the payload as it was built")
            if "pilot_agent/__init__.py" not in present:
                raise BuildError(f"{name} holds no pilot; `make payload` builds pilot.pyz and pilot.sh")
            for file, data in sorted(listed.items()):
                write_entry(archive, f"{DIRECTORY}/{file}", data)
    except zipfile.BadZipFile as error:
        raise BuildError(f"{name} is damaged ({error}); take the file that was built") from error
    return buffer.getvalue()


def _into_script(script: bytes, files: Mapping[str, bytes], name: str) -> bytes:
    header, archive = _parts(script, name)
    try:
        base, closing = _base(archive)
        pyz = _into_zip(closing["pilot.pyz"], files, name)
    except (zlib.error, tarfile.TarError, KeyError, ValueError) as error:
        raise BuildError(f"{name} is not laid out as this version of packaging/ builds it ({error})") from error
    last = closing_files(base, pyz)
    archive = base.archive + gzip.compress(closing_tar(last), 9, mtime=0)
    values = {
        "SHA256": hashlib.sha256(archive).hexdigest(),
        "CHECK_SHA256": hashlib.sha256(last["CHECK"]).hexdigest(),
        "SIZE_KIB": str(unpacked_bytes(base, pyz) // 1024 + 1),
    }
    for variable, value in values.items():
        header = re.sub(rf"(?m)^{variable}=.*$", f"{variable}={value}", header)
    return re.sub(r"(?m)^OFFSET=.*$", f"OFFSET={len(header.encode()) + 1:08d}", header).encode() + archive


def _parts(script: bytes, name: str) -> tuple[str, bytes]:
    """The shell script and the archive behind it, which must be the one that the script expects."""
    beginning = script[:_HEADER_LIMIT_BYTES]
    offset = re.search(rb"(?m)^OFFSET=([0-9]{8})$", beginning)
    digest = re.search(rb"(?m)^SHA256=([0-9a-f]{64})$", beginning)
    if offset is None or digest is None:
        raise BuildError(f"{name} is no pilot.sh; `make payload` builds one")
    header, archive = script[: int(offset[1]) - 1], script[int(offset[1]) - 1 :]
    if hashlib.sha256(archive).hexdigest() != digest[1].decode():
        raise BuildError(f"{name} is damaged: its archive is not the one that it names; take the file that was built")
    return header.decode(), archive


def _base(archive: bytes) -> tuple[Base, dict[str, bytes]]:
    """The interpreter's part with the lists of its files, and what lies in the closing part."""
    first = zlib.decompressobj(wbits=31)
    first.decompress(archive)
    closing_part = first.unused_data
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(closing_part)), mode="r:") as tar:
        closing = {member.name: file.read() for member in tar if (file := tar.extractfile(member)) is not None}
    sizes, sha256, blake2 = (_listed(closing[name], closing) for name in ("SIZES", "ALL", "ALL.b2"))
    base = archive[: len(archive) - len(closing_part)]
    return Base(base, {name: int(size) for name, size in sizes.items()}, sha256, blake2), closing


def _listed(content: bytes, without: Container[str]) -> dict[str, str]:
    """What such a list says of each file."""
    lines = (line.split(maxsplit=1) for line in content.decode().splitlines())
    return {name: said for said, name in lines if name not in without}
