"""What ends waiting, and what does not outlive it."""

from __future__ import annotations

import os

from server_stub.frontend.wake import Wake


def test_a_nudge_that_comes_too_late_is_written_into_nobodys_file() -> None:
    with Wake() as wake:
        pass
    # The next descriptors get the numbers that were the pipe's.
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        wake.nudge()
        os.write(write, b".")
        assert os.read(read, 64) == b"."
    finally:
        os.close(read)
        os.close(write)


def test_a_nudge_ends_a_wait_once() -> None:
    with Wake() as wake:
        wake.nudge()
        assert os.read(wake.fileno(), 64) == b"!"
        wake.nudge()
        assert not wake.must_end()
        try:
            left = os.read(wake.fileno(), 64)
        except BlockingIOError:
            left = b""
        assert left == b""
