"""The one way to run a child.

Argument lists only, closed standard input, explicit environment, a session of its own, a deadline, a limit on
what is kept of its output. A program that is missing, hangs or dies is data and never an exception. The only
exception is ``Interrupted``: the pilot itself was told to stop while it waited.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from pilot_agent import forked
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.pidfd import Ending
from pilot_agent.running import Child, Result

__all__ = ["Interrupted", "Result", "Runner", "WakeUp", "run", "start_resident"]

KILL_AFTER_SECONDS = 0.5
GIVE_UP_AFTER_SECONDS = 2.0
OUTPUT_LIMIT_BYTES = 1 << 20
TOLD_TOO_SECONDS = 0.5
"""A batch system that ends a job signals its processes one after the other: so long after a child it is our turn."""
REQUESTS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - it is not an error
    """The wake-up source became readable: the pilot was asked to stop, or its guardian is gone."""


class WakeUp(Protocol):
    """Something that becomes readable when waiting must end. Where it has a method ``due_seconds``, it also wants to be
    asked ``must_end`` after so long: what is beside the children is then attended to, whatever the answer."""

    def fileno(self) -> int:
        """The descriptor to watch."""
        ...

    def must_end(self) -> bool:
        """Whether waiting must really end: a signal of another kind, such as a timer's, makes it readable too. Then
        it is not readable any more after this."""
        ...


def _no_process(name: str, error: OSError) -> PilotError:
    message = f"no process could be started for {name}: {error.strerror}"
    hint = "the site raises the account's limit of processes (ulimit -u) or of memory, or ends what else it runs"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "process.limit", message, hint, retry=True))


class Runner:
    """Runs several children at once; use as a context manager, so that none outlives it.

    ``wake`` ends every wait with ``Interrupted`` when it becomes readable.
    """

    def __init__(self, wake: WakeUp | None = None) -> None:
        self._wake = wake
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Child] = {}
        self._due_seconds: Callable[[], float] | None = getattr(wake, "due_seconds", None)
        if wake is not None:
            self._selector.register(wake.fileno(), selectors.EVENT_READ, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        children = list(self._children.values())
        for child in children:
            child.signal_all(signal.SIGKILL)
        end = time.monotonic() + GIVE_UP_AFTER_SECONDS
        for child in children:
            if child.end.wait(end - time.monotonic()):
                self._reap(child)
            else:
                self._abandon(child)
        self._selector.close()

    def start(
        self,
        argv: Sequence[str],
        *,
        deadline_seconds: float,
        environment: Mapping[str, str],
        directory: str | None = None,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
        give: bytes | None = None,
        keep: tuple[int, ...] = (),
        leaves_daemons: bool = False,
        standard_input: bytes | None = None,
    ) -> int | Result:
        """Start a program; a handle for ``wait``, or the result at once when it could not be started.

        It inherits the descriptors in ``keep``. With ``give``, the argument ``{give}`` becomes the path of a descriptor
        that holds these bytes and ``{answer}`` the number of the descriptor for its answer. What it leaves in its
        process group is ended with it, unless it ``leaves_daemons`` and ended by itself. Standard input is empty, or a
        file with ``standard_input``.
        """
        pipes = {name: os.pipe() for name in ("stdout", "stderr", "answer")}
        given = _memory_file(give) if give is not None else None
        read = _memory_file(standard_input) if standard_input is not None else None
        child_ends = [pair[1] for pair in pipes.values()]
        real_argv = [
            argument.replace("{give}", f"/proc/self/fd/{given}").replace("{answer}", str(pipes["answer"][1]))
            if given is not None
            else argument
            for argument in argv
        ]
        try:
            popen = subprocess.Popen(
                real_argv,
                stdin=subprocess.DEVNULL if read is None else read,
                stdout=pipes["stdout"][1],
                stderr=pipes["stderr"][1],
                pass_fds=(*keep, pipes["answer"][1], given) if given is not None else keep,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            for pair in pipes.values():
                os.close(pair[0])
            name = errno.errorcode.get(error.errno or 0, "EINVAL") if isinstance(error, OSError) else "EINVAL"
            return Result(tuple(argv), None, error=name)
        finally:
            for end in child_ends:
                os.close(end)
            for file in (given, read):
                if file is not None:
                    os.close(file)
        # This class waits for the child itself; Popen must not try to reap it a second time.
        popen.returncode = 0
        handle = self._adopt(tuple(argv), popen.pid, pipes, deadline_seconds, output_limit_bytes)
        self._children[handle].leaves_daemons = leaves_daemons
        return handle

    def start_call(
        self,
        function: Callable[[], bytes],
        *,
        name: str,
        deadline_seconds: float,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
        keep: tuple[int, ...] = (),
    ) -> int:
        """Run ``function`` in a forked child; what it returns is the result's ``answer``. It has the descriptors in
        ``keep``, which must be above 3.

        For code of the payload itself: a fork costs two milliseconds where a new interpreter costs twenty. Raises
        ``PilotError`` (process.limit) where the node allows no further process.
        """
        pipes = {stream: os.pipe() for stream in ("stdout", "stderr", "answer")}
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            for pair in pipes.values():
                os.close(pair[0])
                os.close(pair[1])
            raise _no_process(name, error) from error
        if pid == 0:
            forked.live(function, {stream: pair[1] for stream, pair in pipes.items()}, keep)
        for pair in pipes.values():
            os.close(pair[1])
        return self._adopt((name,), pid, pipes, deadline_seconds, output_limit_bytes)

    def _adopt(
        self, argv: tuple[str, ...], pid: int, pipes: dict[str, tuple[int, int]], seconds: float, limit: int
    ) -> int:
        now = time.monotonic()
        child = Child(
            argv=argv,
            pid=pid,
            end=Ending(pid),
            streams={pair[0]: name for name, pair in pipes.items()},
            started=now,
            deadline=now + seconds,
            allowed=seconds,
            limit=limit,
            data={name: bytearray() for name in pipes},
        )
        for descriptor in child.streams:
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, child)
        for ending in child.end.descriptors:
            self._selector.register(ending, selectors.EVENT_READ, child)
        self._children[pid] = child
        return pid

    def wait_any(self) -> tuple[int, Result]:
        """The next child that ends, by handle. Raises ``Interrupted``; needs at least one running child."""
        if not self._children:
            raise ValueError("no child is running")
        while True:
            now = time.monotonic()
            for child in list(self._children.values()):
                if self._past_help(child, now):
                    return child.pid, self._abandon(child)
                if not child.end.descriptors and child.end.came():
                    return self._ended(child)
            patience = min(child.end.limited(child.deadline - now) for child in self._children.values())
            due = self._due_seconds() if self._due_seconds is not None else patience
            ready = self._selector.select(max(0.0, min(due, patience)))
            if self._due_seconds is not None and self._due_seconds() <= 0:
                self._attend()
            for key, _ in ready:
                if key.data is None:
                    self._attend()
                    continue
                child = key.data
                if key.fd in child.end.descriptors:
                    return self._ended(child)
                self._drain(child, key.fd)

    def _attend(self) -> None:
        """Raises ``Interrupted`` when waiting must end."""
        if self._wake is not None and self._wake.must_end():
            raise Interrupted

    def wait(self, handle: int) -> Result:
        """The result of one child. Raises ``Interrupted``; only for a runner with a single child."""
        ended, result = self.wait_any()
        if ended != handle:
            raise ValueError("several children are running; use wait_any")
        return result

    def _past_help(self, child: Child, now: float) -> bool:
        """Past its deadline a child gets TERM, then KILL; true when neither ended it."""
        if now < child.deadline:
            return False
        if child.signals_sent == 2:
            return not child.end.wait(0.0)
        child.timed_out = True
        number = signal.SIGKILL if child.signals_sent else signal.SIGTERM
        patience = GIVE_UP_AFTER_SECONDS if child.signals_sent else KILL_AFTER_SECONDS
        child.signal_all(number)
        child.signals_sent += 1
        child.deadline = now + patience
        return False

    def _drain(self, child: Child, descriptor: int) -> bool:
        """Read what is there; False at the end of the stream."""
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self._selector.unregister(descriptor)
            os.close(descriptor)
            del child.streams[descriptor]
            return False
        child.keep(descriptor, chunk)
        return True

    def _reap(self, child: Child) -> Result:
        _, status = os.waitpid(child.pid, 0)
        # Whatever it left in its process group ends with it; only then can its pipes be read to their end.
        if child.signals_sent or not child.leaves_daemons:
            child.end_group()
        self._forget(child)
        code = os.waitstatus_to_exitcode(status)
        return child.result(code=code if code >= 0 else None, ended_by=-code if code < 0 else None)

    def _ended(self, child: Child) -> tuple[int, Result]:
        result = self._reap(child)
        if result.signal in REQUESTS and not child.signals_sent:
            self._require_not_told_too()
        return child.pid, result

    def _require_not_told_too(self) -> None:
        """Raises ``Interrupted`` when what ended a child, and was not sent from here, comes to this process as well."""
        end = time.monotonic() + TOLD_TOO_SECONDS
        while self._wake is not None and (left := end - time.monotonic()) > 0:
            if select.select([self._wake], [], [], left)[0] and self._wake.must_end():
                raise Interrupted

    def _abandon(self, child: Child) -> Result:
        self._forget(child)
        return child.result(abandoned=child.pid)

    def _forget(self, child: Child) -> None:
        for descriptor in list(child.streams):
            while descriptor in child.streams and self._drain(child, descriptor):
                pass
            if descriptor in child.streams:
                self._selector.unregister(descriptor)
                os.close(descriptor)
        for ending in child.end.descriptors:
            self._selector.unregister(ending)
        child.end.close()
        del self._children[child.pid]


def run(
    argv: Sequence[str],
    *,
    deadline_seconds: float,
    environment: Mapping[str, str],
    directory: str | None = None,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    wake: WakeUp | None = None,
    keep: tuple[int, ...] = (),
    leaves_daemons: bool = False,
) -> Result:
    """Run one program to its end; it inherits the descriptors in ``keep``, and may be one that ``leaves_daemons``.
    Raises ``Interrupted`` only when ``wake`` becomes readable."""
    with Runner(wake) as runner:
        started = runner.start(
            argv,
            deadline_seconds=deadline_seconds,
            environment=environment,
            directory=directory,
            output_limit_bytes=output_limit_bytes,
            keep=keep,
            leaves_daemons=leaves_daemons,
        )
        return started if isinstance(started, Result) else runner.wait(started)


def start_resident(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    output: int,
    directory: str | None = None,
    pass_descriptors: Sequence[int] = (),
) -> int:
    """Start a program that stays (a service, condor_master); its pid. Both outputs go to ``output``.

    The caller supervises it. Raises ``OSError`` when it cannot be started.
    """
    popen = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        cwd=directory,
        start_new_session=True,
        pass_fds=tuple(pass_descriptors),
        preexec_fn=_heed_requests,  # noqa: PLW1509 - the pipeline has one thread
    )
    popen.returncode = 0
    return popen.pid


def _heed_requests() -> None:
    """In the child: the pipeline ignores signals that many services take for a request, such as a new log file."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("given")
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
