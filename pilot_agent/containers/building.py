"""Builds an image with the runtime's ``build``, in a child with a deadline whose output is passed on as it comes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.pidfd import Ending
from pilot_agent.process import Interrupted, WakeUp, start_resident

KEPT_BYTES = 64 << 10
KILL_AFTER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Built:
    """How the build ended; ``said`` is the end of what it printed, ``code`` None when it was ended at the deadline."""

    code: int | None
    said: str


def build_command(runtime: str, image: str, definition: str, *, sandbox: bool) -> list[str]:
    """The command line; both paths are absolute, so that none is taken for an option."""
    return [runtime, "build", *(["--sandbox"] if sandbox else []), image, definition]


def run_build(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: str,
    deadline_seconds: float,
    pass_on: Callable[[bytes], None],
    wake: WakeUp,
) -> Built:
    """Run it in ``directory``. Raises ``Interrupted`` when ``wake`` becomes readable, and ``OSError`` when it cannot be
    started; nothing of it is left running in any case."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = start_resident(argv, environment=environment, output=writer, directory=directory)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    ended = Ending(pid)
    try:
        return _followed(ended, reader, time.monotonic() + deadline_seconds, pass_on, wake)
    finally:
        ended.close()
        os.close(reader)


def _followed(ended: Ending, reader: int, end: float, pass_on: Callable[[bytes], None], wake: WakeUp) -> Built:
    said = b""
    waiting = [*ended.descriptors, reader, wake.fileno()]
    try:
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select(waiting, [], [], ended.limited(left))
            if wake.fileno() in ready and wake.must_end():
                raise Interrupted
            if reader in ready:
                chunk = os.read(reader, 65536)
                said = (said + chunk)[-KEPT_BYTES:]
                if chunk:
                    pass_on(chunk)
                    continue
                waiting.remove(reader)
            if ended.came():
                code = os.waitstatus_to_exitcode(os.waitpid(ended.pid, 0)[1])
                return Built(code, said.decode("utf-8", "replace"))
    except BaseException:
        _end(ended)
        raise
    _end(ended)
    return Built(None, said.decode("utf-8", "replace"))


def _end(ended: Ending) -> None:
    """End the whole session of a build, gently at first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(ended.pid, number)
        if ended.wait(KILL_AFTER_SECONDS):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(ended.pid, 0)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.pid, signal.SIGKILL)
            return
