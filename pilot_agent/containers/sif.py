"""What a SIF file says of itself, read without a runtime.

The layout is that of the public SIF specification (github.com/apptainer/sif): a header of 128 bytes after a launch
script of 32, and descriptors of 585 bytes each, all numbers little-endian and without padding between the fields.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from pilot_agent.model import Json

MAGIC_OFFSET, MAGIC = 32, b"SIF_MAGIC\0"
ARCHITECTURE_OFFSET = 45
NUMBERS_OFFSET, NUMBERS = 64, struct.Struct("<qqqqQQ")
DESCRIPTOR = struct.Struct("<i?IIIqq8x8x8x8x8x128s384s")
MOST_DESCRIPTORS = 1000
MOST_BYTES = 4 << 20
"""Of one object that is read."""

DEFINITION, LABELS, PARTITION, SIGNATURE, JSON_OBJECT = 0x4001, 0x4003, 0x4004, 0x4005, 0x4006
METADATA_NAME = "inspect-metadata.json"
ARCHITECTURES = {
    "01": "i686", "02": "x86_64", "03": "armv7l", "04": "aarch64", "05": "ppc64", "06": "ppc64le", "07": "mips",
    "08": "mipsle", "09": "mips64", "10": "mips64le", "11": "s390x", "12": "riscv64",
}  # fmt: skip
FILE_SYSTEMS = {1: "squashfs", 2: "ext3", 5: "encrypted squashfs"}
PRIMARY = 2


class SifError(ValueError):
    """The file is no SIF file, or damaged; the message says where."""


@dataclass(frozen=True, slots=True)
class Sif:
    """``architecture`` as ``uname -m`` names it, empty when the file says none; ``created`` in epoch seconds."""

    architecture: str
    created: int
    file_system: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    definition: str = ""
    signatures: int = 0


def read_sif(file: BinaryIO, size: int) -> Sif:
    """What is in the file of ``size`` bytes. Raises ``SifError`` and ``OSError``."""
    head = _at(file, 0, 128, size)
    if head[MAGIC_OFFSET : MAGIC_OFFSET + len(MAGIC)] != MAGIC:
        raise SifError("it has no SIF header")
    created, _, free, total, offset, _ = NUMBERS.unpack_from(head, NUMBERS_OFFSET)
    if not 0 <= total - free <= MOST_DESCRIPTORS or not 0 < total <= MOST_DESCRIPTORS:
        raise SifError(f"its header counts {total} objects, of which {free} are free")
    architecture = _architecture(head[ARCHITECTURE_OFFSET : ARCHITECTURE_OFFSET + 3])
    table = _at(file, offset, total * DESCRIPTOR.size, size)
    found = Sif(architecture, created)
    labels: dict[str, str] = {}
    definition, file_system, signatures = "", "", 0
    for kind, used, _, _, _, start, length, name, extra in DESCRIPTOR.iter_unpack(table):
        if not used:
            continue
        if start < 0 or length < 0 or start + length > size:
            raise SifError(f"it ends at {size} bytes, and an object of it at {start + length}: it is truncated")
        if kind == DEFINITION:
            definition = _text(_at(file, start, min(length, MOST_BYTES), size))
        elif kind == LABELS or (kind == JSON_OBJECT and _text(name) == METADATA_NAME):
            labels |= _labels(_at(file, start, min(length, MOST_BYTES), size), nested=kind == JSON_OBJECT)
        elif kind == PARTITION and struct.unpack_from("<ii", extra)[1] == PRIMARY:
            file_system = FILE_SYSTEMS.get(struct.unpack_from("<i", extra)[0], "")
            architecture = _architecture(extra[8:11]) or architecture
        signatures += kind == SIGNATURE
    return Sif(architecture, found.created, file_system, labels, definition, signatures)


def _at(file: BinaryIO, offset: int, length: int, size: int) -> bytes:
    if offset + length > size:
        raise SifError(f"it ends at {size} bytes, and {offset + length} are needed: it is truncated")
    file.seek(offset)
    content = file.read(length)
    if len(content) != length:
        raise SifError(f"it became shorter while it was read ({size} bytes before)")
    return content


def _architecture(code: bytes) -> str:
    return ARCHITECTURES.get(_text(code), "")


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode("utf-8", "replace")


def _labels(content: bytes, *, nested: bool) -> dict[str, str]:
    try:
        document: Json = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    for step in ("data", "attributes", "labels") if nested else ():
        document = document.get(step) if isinstance(document, dict) else None
    return labels_of(document)


def labels_of(document: Json) -> dict[str, str]:
    """The labels of a JSON object: those whose value is a text."""
    if not isinstance(document, dict):
        return {}
    return {name: value for name, value in document.items() if isinstance(value, str)}
