from __future__ import annotations

import errno
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.probes.kernel import fuse_mount
from pilot_agent.probes.kernel.fuse_mount import (
    CONTENT,
    FORGET,
    GETATTR,
    INIT,
    LOOKUP,
    NAME,
    OPEN,
    READ,
    RELEASE,
    Reader,
    answer,
    mount_data,
)
from pilot_agent.probes.kernel.namespaces import MS_NODEV, MS_NOSUID, mount
from tests.probes.namespaced import WORKSPACE, with_fuse

BODY = fuse_mount._body


def request(opcode: int, node: int = 1, body: bytes = b"") -> bytes:
    return struct.pack("=IIQQIIII", 40 + len(body), opcode, 7, node, 0, 0, 0, 0) + body


def reply(opcode: int, node: int = 1, body: bytes = b"") -> tuple[int, bytes]:
    """The error and the body of a reply."""
    content = answer(request(opcode, node, body))
    assert content is not None
    length, error, unique = struct.unpack_from("=IiQ", content)
    assert (length, unique) == (len(content), 7)
    return error, content[16:]


def test_the_greeting_offers_the_oldest_version_that_every_kernel_speaks() -> None:
    error, body = reply(INIT, body=struct.pack("=IIII", 7, 40, 0, 0))
    assert error == 0
    assert struct.unpack_from("=II", body) == (7, 22)


def test_bodies_have_the_sizes_of_the_protocol() -> None:
    sizes = {INIT: 24, GETATTR: 104, OPEN: 16, RELEASE: 0}
    assert {opcode: len(reply(opcode, 2)[1]) for opcode in sizes} == sizes
    assert len(reply(LOOKUP, 1, NAME.encode() + b"\0")[1]) == 128


def test_only_its_one_file_is_found() -> None:
    assert reply(LOOKUP, 1, b"other\0") == (-errno.ENOENT, b"")
    assert reply(LOOKUP, 2, NAME.encode() + b"\0") == (-errno.ENOENT, b"")


def test_the_file_is_read_from_any_place() -> None:
    assert reply(READ, 2, struct.pack("=QQI", 0, 0, 4096)) == (0, CONTENT)
    assert reply(READ, 2, struct.pack("=QQI", 0, 5, 3)) == (0, CONTENT[5:8])
    assert reply(READ, 2, struct.pack("=QQI", 0, 10**9, 3)) == (0, b"")


def test_what_it_does_not_know_it_refuses_and_some_requests_want_no_reply() -> None:
    assert reply(99) == (-errno.ENOSYS, b"")
    assert answer(request(FORGET)) is None


@given(st.binary(max_size=200), st.sampled_from((LOOKUP, GETATTR, OPEN, READ, INIT, 77)))
def test_damaged_requests_are_answered_or_dropped(content: bytes, opcode: int) -> None:
    answer(content)
    answer(request(opcode, 2, content))


def _mounted() -> tuple[Reader, int]:
    reader = Reader(WORKSPACE)
    device = os.open(fuse_mount.DEVICE, os.O_RDWR)
    mount("test", WORKSPACE, "fuse", MS_NOSUID | MS_NODEV, mount_data(device))
    return reader, device


def test_a_child_reads_the_file_through_the_mount() -> None:
    def work() -> object:
        reader, device = _mounted()
        reader.read(device, 5)
        reader.kill()
        return "read"

    assert with_fuse(work, nobody=False) == "read"


@pytest.mark.parametrize(
    ("changed", "value", "expected"),
    [
        ("_serve", lambda device, reader, end: errno.ETIMEDOUT, errno.ETIMEDOUT),
        ("_body", lambda opcode, node, rest: errno.EIO if opcode == READ else BODY(opcode, node, rest), errno.EIO),
    ],
)
def test_a_file_system_that_does_not_answer_or_fails_is_an_error_and_nobody_waits(
    changed: str, value: object, expected: int
) -> None:
    def work() -> object:
        setattr(fuse_mount, changed, value)
        reader, device = _mounted()
        try:
            reader.read(device, 5)
        except OSError as error:
            return error.errno
        finally:
            reader.kill()
        return 0

    assert with_fuse(work, nobody=False) == expected


def test_nothing_is_served_past_the_deadline() -> None:
    def work() -> object:
        reader, device = _mounted()
        try:
            reader.read(device, 0)
        except OSError as error:
            return error.errno
        finally:
            reader.kill()
        return 0

    assert with_fuse(work, nobody=False) == errno.ETIMEDOUT


def _tell(descriptor: int) -> None:
    os.write(descriptor, b"end")


def test_a_reader_may_do_something_at_the_end_of_its_server() -> None:
    reading, writing = os.pipe()
    reader = Reader("/nonexistent", lambda: _tell(writing))
    os.close(writing)
    reader.let_go()
    assert os.read(reading, 9) == b"end"
    os.close(reading)
    os.waitpid(reader.pid, 0)
