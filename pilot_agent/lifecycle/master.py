"""``condor_master``: started by the pipeline, watched by the keeper, and ended gracefully, then fast."""

from __future__ import annotations

import os
import time

from pilot_agent.lifecycle.identity import identify, read_stat
from pilot_agent.lifecycle.processes import children, named
from pilot_agent.lifecycle.spawn import spawn
from pilot_agent.light import signal
from pilot_agent.startd.history import open_history

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.lifecycle.journal import Journal
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import MasterPlan, TimePlan

LABEL = "condor_master"
STARTER_NAME = "condor_starter"
STARTD_NAME = "condor_startd"
FAST_SECONDS = 5.0
"""How long HTCondor gets after SIGQUIT, which kills jobs at once, before its processes are killed."""
RESERVE_SECONDS = 3.0
"""What HTCondor leaves of the budget to everything after it."""

NO_RESTART = 99
"""The exit code of HTCondor's daemons for an end that a condition of their configuration brought about."""
MASTER_LOG, STARTD_LOG = "MasterLog", "StartLog"
LOG_END_BYTES = 65536
STARTD_LEFT = b"exited with status 99 (daemon will not restart automatically)"
STARTD_IDLE = b"Shutting down Condor on this machine."
"""What the startd logs for STARTD_NOCLAIM_SHUTDOWN before it sends its master SIGTERM (HTCondor 23.9)."""


def start_master(plan: MasterPlan, times: TimePlan, journal: Journal) -> None:
    """Journal ``condor_master``, start it in a session of its own, and note in ``plan`` which process it is. Raises
    ``OSError``.

    The last act of the pipeline, whose process becomes the keeper: HTCondor begins while the keeper is being loaded.
    """
    plan.entry = journal.process(LABEL, stop_signal=signal.SIGTERM, stop_seconds=graceful_seconds(times))
    plan.pid = spawn(plan.argv, plan.environment, output=plan.log, directory=plan.directory)
    identity = identify(plan.pid)
    if identity is not None:
        journal.started(plan.entry, identity)


def graceful_seconds(times: TimePlan) -> float:
    """How long jobs get to end themselves, so that what comes after fits into the budget too."""
    return min(times.vacate_seconds, max(0.0, times.budget_seconds - FAST_SECONDS - RESERVE_SECONDS))


class Master:
    """The daemons of one pilot. ``ended(code)`` is called once when they are gone, or when waiting is over; ``code`` is
    the exit code, -N for signal N, None when it did not end in time."""

    __slots__ = ("_ended", "_entry", "_fast", "_journal", "_loop", "_plan", "_vacate_seconds", "asked", "done", "pid",
                 "started")  # fmt: skip

    def __init__(
        self, plan: MasterPlan, journal: Journal, loop: Loop, vacate_seconds: float, ended: Callable[[int | None], None]
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._loop = loop
        self._vacate_seconds = vacate_seconds
        self._ended = ended
        self._entry = plan.entry
        self._fast = False
        self.pid = plan.pid
        self.started = time.time()
        self.asked = False
        """True once this side told it to end."""
        self.done = False

    def watch(self) -> None:
        """Be told when it ends; it may have ended before this process became the keeper."""
        # This child alone: how a service ended meanwhile is for another to ask.
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended:
            self._exited(status)
        else:
            self._loop.expect(self.pid, self._exited)

    def stop(self, *, fast: bool) -> None:
        """SIGTERM: jobs are vacated, with time to end themselves; after that, or when ``fast``, SIGQUIT. Idempotent; a
        later call can only hasten."""
        if self.done or self._fast:
            return
        if fast:
            self._hasten()
        elif not self.asked:
            self._send(signal.SIGTERM)
            self._loop.call_later(self._vacate_seconds, self._hasten)
        self.asked = True

    def startd_left(self) -> bool:
        """Whether the startd ended by a condition of its own, as its master noted: for good, and not by a fault."""
        return STARTD_LEFT in (self._end_of(MASTER_LOG) or b"")

    def startd_was_idle(self) -> bool:
        """Whether the startd told its master to end because no job came for so long; also where its log is gone. A
        master that somebody else told to end exits 0 as well."""
        end = self._end_of(STARTD_LOG)
        return end is None or STARTD_IDLE in end

    def _end_of(self, log: str) -> bytes | None:
        try:
            with open(os.path.join(os.path.dirname(self._plan.log), log), "rb", opener=open_history) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_END_BYTES))
                return file.read(LOG_END_BYTES)
        except OSError:
            return None

    def jobs_running(self) -> bool:
        """True while HTCondor's starters, one per job, are there."""
        return bool(named(os.getpid(), STARTER_NAME))

    def startds(self) -> list[int]:
        """The pids of the startd that runs below this master: none while it is being started again."""
        if self.done or not self.pid:
            return []
        return [pid for pid in children(self.pid) if (stat := read_stat(pid)) is not None and stat.name == STARTD_NAME]

    def _hasten(self) -> None:
        if not self.done and not self._fast:
            self._fast = True
            self._send(signal.SIGQUIT)
            self._loop.call_later(FAST_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if not self.done:
            self.done = True
            self._ended(None)

    def _send(self, number: int) -> None:
        # It is a child that was not reaped yet, so the number is still its own. A suspended one is woken.
        os.kill(self.pid, number)
        os.kill(self.pid, signal.SIGCONT)

    def _exited(self, status: int) -> None:
        try:
            self._journal.close(self._entry)
        except OSError:  # disk full or workspace gone; the entry then names a process that no longer exists
            self._entry = 0
        if not self.done:
            self.done = True
            self._ended(os.waitstatus_to_exitcode(status))
