"""The SIF header: what real files say, and that damaged ones are told."""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.containers import tiny_image
from pilot_agent.containers.sif import DESCRIPTOR, MAGIC, Sif, SifError, read_sif

START = 4096


def descriptor(kind: int, offset: int, size: int, *, name: bytes = b"", extra: bytes = b"") -> bytes:
    return DESCRIPTOR.pack(kind, True, 1, 1, 0, offset, size, name, extra)


def sif(objects: list[tuple[int, bytes, bytes, bytes]], *, architecture: bytes = b"02") -> bytes:
    """A file with these objects: kind, content, name, extra."""
    table, data, at = b"", b"", START + 10 * DESCRIPTOR.size
    for kind, content, name, extra in objects:
        table += descriptor(kind, at + len(data), len(content), name=name, extra=extra)
        data += content
    head = b"\0" * 32 + MAGIC + b"01\0" + architecture + b"\0" + b"\0" * 16
    head += struct.pack("<qqqqQQQQ", 1000, 1000, 10 - len(objects), 10, START, 0, at, len(data))
    return (head + b"\0" * (START - len(head)) + table).ljust(at, b"\0") + data


def read(content: bytes) -> Sif:
    return read_sif(io.BytesIO(content), len(content))


def test_the_pilots_own_sif_file_is_read() -> None:
    found = read(tiny_image.sif())
    assert (found.architecture, found.file_system) == ("x86_64", "squashfs")
    assert found.labels == {}


def test_labels_recipe_and_signatures_are_found() -> None:
    metadata = {"data": {"attributes": {"labels": {"a": "b", "n": 1}}}}
    partition = struct.pack("<ii3s", 1, 2, b"04\0")
    content = sif(
        [
            (0x4001, b"Bootstrap: scratch\n", b"", b""),
            (0x4003, b'{"old": "label"}', b"", b""),
            (0x4006, json.dumps(metadata).encode(), b"inspect-metadata.json", b""),
            (0x4006, b'{"other": "json"}', b"oci-config.json", b""),
            (0x4004, b"hsqs", b"", partition),
            (0x4005, b"-----BEGIN", b"", b""),
        ]
    )
    found = read(content)
    assert found == Sif("aarch64", 1000, "squashfs", {"a": "b", "old": "label"}, "Bootstrap: scratch\n", 1)


@pytest.mark.parametrize("labels", [b"{", b"[]", b'"x"', b"[" * 100000, b"\xff"])
def test_labels_that_are_none_are_left_out(labels: bytes) -> None:
    assert read(sif([(0x4003, labels, b"", b"")])).labels == {}
    assert read(sif([(0x4006, labels, b"inspect-metadata.json", b"")])).labels == {}


def test_an_architecture_that_nobody_knows_is_empty() -> None:
    assert read(sif([], architecture=b"99")).architecture == ""


def test_a_file_that_ends_too_early_is_told() -> None:
    content = tiny_image.sif()
    for length in (0, 20, 100, 127, 5000, len(content) - 1):
        with pytest.raises(SifError):
            read(content[:length])


@given(st.binary(max_size=200), st.integers(0, 127))
def test_damage_anywhere_in_the_header_is_no_surprise(damage: bytes, place: int) -> None:
    content = bytearray(tiny_image.sif())
    content[place : place + len(damage)] = damage
    with suppress(SifError):
        read(bytes(content))


@given(st.binary(max_size=1200), st.integers(0, 1200))
def test_damage_anywhere_in_the_descriptors_is_no_surprise(damage: bytes, place: int) -> None:
    content = bytearray(sif([(0x4001, b"x", b"", b""), (0x4004, b"hsqs", b"", b"")]))
    content[START + place : START + place + len(damage)] = damage
    with suppress(SifError):
        read(bytes(content))
