"""What is known of a child of ``process``: while it runs, and of how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field

from pilot_agent.pidfd import Ending


@dataclass(frozen=True, slots=True)
class Result:
    """How a child ended.

    ``code`` is its exit code, or None when ``signal`` ended it or it never started (``error`` then says why, as
    an errno name such as ENOENT). ``answer`` is what it wrote to its result descriptor. ``abandoned`` is
    the pid of a child that even SIGKILL did not end (it sleeps in the kernel, for example on a dead mount).
    ``allowed_seconds`` is its deadline, ``seconds`` how long it took.
    """

    argv: tuple[str, ...]
    code: int | None
    signal: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    answer: bytes = b""
    seconds: float = 0.0
    allowed_seconds: float = 0.0
    timed_out: bool = False
    truncated: bool = False
    error: str | None = None
    abandoned: int | None = None

    @property
    def ok(self) -> bool:
        """True when the child started, ended by itself in time, and exited 0."""
        return self.code == 0 and not self.timed_out

    @property
    def text(self) -> str:
        """Standard output as text, stripped."""
        return self.stdout.decode("utf-8", "replace").strip()

    def explain(self) -> str:
        """What went wrong in one line, with the last line the child said."""
        said = (self.stderr or self.stdout).decode("utf-8", "replace").strip().splitlines()
        tail = f": {said[-1][:300]}" if said else ""
        if self.error:
            return f"{self.argv[0]} could not be started ({self.error})"
        if self.abandoned is not None:
            return f"{self.argv[0]} did not end by SIGKILL either (process {self.abandoned} sleeps in the kernel){tail}"
        if self.timed_out:
            return f"{self.argv[0]} did not end within {self.allowed_seconds:.1f} s{tail}"
        if self.signal is not None:
            return f"{self.argv[0]} was ended by signal {self.signal}{tail}"
        return f"{self.argv[0]} exited {self.code}{tail}"


@dataclass(slots=True)
class Child:
    """A child that runs: ``streams`` has the names of its pipes by descriptor, ``deadline`` is on the monotonic clock.
    Of each stream the first ``limit`` bytes are kept in ``data``."""

    argv: tuple[str, ...]
    pid: int
    end: Ending
    streams: dict[int, str]
    started: float
    deadline: float
    allowed: float
    limit: int
    data: dict[str, bytearray] = field(default_factory=dict)
    signals_sent: int = 0
    timed_out: bool = False
    truncated: bool = False
    leaves_daemons: bool = False

    def keep(self, descriptor: int, chunk: bytes) -> None:
        """What it wrote to one of its pipes, as far as there is room."""
        kept = self.data[self.streams[descriptor]]
        room = self.limit - len(kept)
        kept += chunk[:room]
        self.truncated = self.truncated or len(chunk) > room

    def signal_all(self, number: int) -> None:
        """To its whole group; one that was forked just now has none yet."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            with contextlib.suppress(ProcessLookupError):
                self.end.signal(number)
        except PermissionError:
            return

    def end_group(self) -> None:
        """Kill what it left in its process group, once it was reaped itself."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def result(self, *, code: int | None = None, ended_by: int | None = None, abandoned: int | None = None) -> Result:
        """How it ended."""
        return Result(
            argv=self.argv,
            code=code,
            signal=ended_by,
            stdout=bytes(self.data["stdout"]),
            stderr=bytes(self.data["stderr"]),
            answer=bytes(self.data["answer"]),
            seconds=time.monotonic() - self.started,
            allowed_seconds=self.allowed,
            timed_out=self.timed_out,
            truncated=self.truncated,
            abandoned=abandoned,
        )
