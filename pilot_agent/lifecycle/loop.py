"""The keeper's main loop: descriptors, timers and children, one thing at a time."""

from __future__ import annotations

import os
import select
import time

from pilot_agent.lifecycle.processes import reap
from pilot_agent.lifecycle.spawn import kill_group, spawn
from pilot_agent.light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pilot_agent.lifecycle.signals import Alarm

OUTPUT_LIMIT_BYTES = 1 << 16
READS_AT_ONCE = 16
LONGEST_WAIT_SECONDS = 5.0
"""Also how short a suspension may be and still be seen."""
LATE_SECONDS = 3.0
"""A wait that ends so much later than asked for was no busy node's: this process was suspended meanwhile."""
LONGEST_WORK_SECONDS = 10.0
"""What is done between two waits takes milliseconds; when it took so long, this process stood still at its work."""


class Loop:
    """Calls what was asked for when a descriptor, a moment or a child's end comes. Not reentrant.

    ``alarm`` must not be sticky and must be installed with SIGCHLD. The owner asks it after every turn for a reason to
    stop: whatever arrived was read by then.
    """

    __slots__ = (
        "_alarm",
        "_children",
        "_heard",
        "_poll",
        "_readers",
        "_requests",
        "_timers",
        "_told_of_suspension",
        "suspended_seconds",
    )

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._poll = select.poll()
        self._poll.register(alarm.fileno(), select.POLLIN)
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._children: dict[int, Callable[[int], None]] = {}
        self._requests: set[int] = set()
        self._told_of_suspension: Callable[[float], None] = lambda seconds: None
        self._heard = _now()
        self.suspended_seconds = 0.0
        """How long this process was suspended in all: by SIGSTOP, by a freezer, or with the whole node."""

    def on_suspension(self, action: Callable[[float], None]) -> None:
        """Run ``action(seconds)`` first of all after each suspension."""
        self._told_of_suspension = action

    def call_later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run ``action`` once, ``seconds`` from now."""
        self._timers.append((time.monotonic() + max(0.0, seconds), action))

    def call_overdue(self, seconds: float, ended: Callable[[], bool], action: Callable[[], None]) -> None:
        """Run ``action`` once, unless ``ended()`` by then, after ``seconds`` without those of a suspension."""
        before = self.suspended_seconds

        def look() -> None:
            if ended():
                return
            lost = self.suspended_seconds - before
            if lost > 0:
                self.call_overdue(lost, ended, action)
            else:
                action()

        self.call_later(seconds, look)

    def watch(self, descriptor: int, action: Callable[[], None], events: int = select.POLLIN) -> None:
        """Run ``action`` whenever ``events`` (or an error, or the other side's end) is seen on ``descriptor``."""
        self._readers[descriptor] = action
        self._poll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Watch ``descriptor`` no longer."""
        if self._readers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def expect(self, pid: int, action: Callable[[int], None]) -> None:
        """Run ``action(wait status)`` when the child ``pid`` ends."""
        self._children[pid] = action

    def drop(self) -> None:
        """Do nothing of what was asked for so far; children that end are still reaped."""
        for descriptor in list(self._readers):
            self.forget(descriptor)
        self._timers.clear()
        self._children.clear()

    def due_seconds(self) -> float:
        """How long the next turn will wait where nothing else comes."""
        due = min((moment for moment, _ in self._timers), default=None)
        return LONGEST_WAIT_SECONDS if due is None else min(LONGEST_WAIT_SECONDS, max(0.0, due - time.monotonic()))

    def turn(self, longest_seconds: float = LONGEST_WAIT_SECONDS) -> None:
        """Wait for the next thing, no longer than that, and do it."""
        wait = min(longest_seconds, self.due_seconds())
        before = _now()
        ready_descriptors = self._poll.poll(wait * 1000 + 0.5)
        worked, self._heard = before - self._heard, _now()
        late = self._heard - before - wait
        stood = (worked if worked > LONGEST_WORK_SECONDS else 0.0) + (late if late > LATE_SECONDS else 0.0)
        if stood:
            self.suspended_seconds += stood
            self._told_of_suspension(stood)
        for descriptor, _ in ready_descriptors:
            action = self._readers.get(descriptor)
            if action is not None:
                action()
        self._requests |= self._alarm.requests()
        if signal.SIGCHLD in self._requests:
            self._requests.discard(signal.SIGCHLD)
            self.collect()
        now = time.monotonic()
        ready = [action for moment, action in self._timers if moment <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for action in ready:
            action()

    def requests(self) -> set[int]:
        """The signals other than SIGCHLD that came since the last call and are no reason to stop."""
        taken, self._requests = self._requests, set()
        return taken

    def collect(self) -> None:
        """Reap every child that ended, orphans too, and tell those who wait for them."""
        for pid, status in reap().items():
            action = self._children.pop(pid, None)
            if action is not None:
                action(status)


def _now() -> float:
    """Seconds of a clock that nobody sets and that goes on while the node sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Task:
    """A short-lived child with a deadline; its outputs, bounded, go to ``done(code, output)`` when it has ended.

    ``code`` is None when it was ended by a signal, took too long or could not be started. Time for which the pilot was
    suspended does not count.
    """

    __slots__ = ("_done", "_loop", "_output", "_reader", "ended", "pid")

    def __init__(
        self,
        loop: Loop,
        argv: Sequence[str],
        environment: Mapping[str, str],
        seconds: float,
        done: Callable[[int | None, bytes], None],
        *,
        both_outputs: bool = True,
        directory: str | None = None,
    ) -> None:
        self._loop = loop
        self._done = done
        self._output = bytearray()
        self.ended = False
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self.pid = spawn(argv, environment, output=writer, errors=None if both_outputs else null,
                             directory=directory)  # fmt: skip
        except OSError as error:
            self.pid = 0
            self._output += f"{argv[0]}: {error.strerror}".encode()
            loop.call_later(0, lambda: self._end(None))
        else:
            os.set_blocking(self._reader, False)
            loop.watch(self._reader, self._read)
            loop.expect(self.pid, self._exited)
            loop.call_overdue(seconds, lambda: self.ended, lambda: kill_group(self.pid))
        finally:
            os.close(writer)
            os.close(null)

    def _read(self) -> None:
        """What is there, but not for ever from a child that writes faster than this reads."""
        for _ in range(READS_AT_ONCE):
            try:
                chunk = os.read(self._reader, 65536)
            except BlockingIOError:
                return
            if not chunk:
                self._loop.forget(self._reader)
                return
            self._output += chunk[: OUTPUT_LIMIT_BYTES - len(self._output)]

    def _exited(self, status: int) -> None:
        self._read()
        code = os.waitstatus_to_exitcode(status)
        self._end(code if code >= 0 else None)

    def _end(self, code: int | None) -> None:
        self.ended = True
        self._loop.forget(self._reader)
        os.close(self._reader)
        self._done(code, bytes(self._output))
