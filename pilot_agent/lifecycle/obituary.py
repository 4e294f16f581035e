"""The hold of a failed pilot's slot, during which its pool is told that it failed, and why.

What is needed for the telling was left in the workspace before (``pilot_agent.plugins.obituary``). Everything here is
bounded, runs beside the waiting, and ends with it: a collector that is slow or dead changes nothing but an event.
"""

from __future__ import annotations

import os
import select
import time

from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.lifecycle.publish import save_events
from pilot_agent.lifecycle.spawn import run_short, spawn
from pilot_agent.light import loads, signal
from pilot_agent.pidfd import Ending
from pilot_agent.startd.obituary import ADVERTISE, INVALIDATE, LIFETIME_SECONDS, PLAN_FILE, failure_ad, query_ad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.signals import Alarm
    from pilot_agent.workspace import Workspace

PERIOD_SECONDS = LIFETIME_SECONDS / 2.5
FIRST_RETRY_SECONDS = 10.0
SEND_SECONDS = 30.0
WITHDRAW_SECONDS = 2.0
LOOK_SECONDS = 2.0
"""How often to look whether the pilot was told to drain, which is a file."""
SAID_BYTES = 4096


def hold(alarm: Alarm, seconds: float, obituary: Obituary | None = None) -> None:
    """Keep the slot for a while, so that a broken node does not eat a queue (design section 6). A signal, a drain or
    the guardian's death ends it at once; the ad is taken back."""
    until = time.monotonic() + seconds
    alarm.tell({"told": {"deadline": round(time.time() + seconds)}})
    while (left := until - time.monotonic()) > 0 and alarm.reason() is None and signal.SIGUSR1 not in alarm.requests():
        watched: list[int] = [alarm.fileno()]
        if obituary is not None:
            if obituary.called_off():
                break
            left = min(left, LOOK_SECONDS, obituary.turn())
            watched += obituary.descriptors()
        select.select(watched, [], [], left)
    if obituary is not None:
        obituary.end()


class Obituary:
    """Sends the ad of a pilot that failed and renews it until ``end``."""

    __slots__ = ("_child", "_due", "_events", "_output", "_overdue", "_plan", "_reader", "_retry_seconds", "_sent",
                 "_told", "_workspace")  # fmt: skip

    def __init__(
        self,
        workspace: Workspace,
        output: str | None,
        events: EventLog,
        problem: dict[str, Any],
        *,
        exit_code: int,
        seconds: float,
    ) -> None:
        self._workspace = workspace
        self._output = output
        self._events = events
        self._child: Ending | None = None
        self._reader = -1
        self._due = self._overdue = time.monotonic()
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._sent = False
        self._told: set[str] = set()
        self._plan = _read_plan(workspace)
        if self._plan is not None:
            until = time.time() + seconds
            name, host = self._plan["name"], self._plan["host"]
            attributes = self._plan["attributes"]
            ad = failure_ad(name, host, attributes, problem, exit_code=exit_code, until=until)
            self._write("failure.ad", ad)
            self._write("query.ad", query_ad(name))

    def called_off(self) -> bool:
        """True once the pilot was told to drain: there is nothing to wait for."""
        return os.path.lexists(self._workspace.drain)

    def descriptors(self) -> list[int]:
        """What becomes readable when the one who sends has ended, where the kernel tells."""
        return [] if self._child is None else [*self._child.descriptors]

    def turn(self) -> float:
        """Do what is due; in how many seconds to come again at the latest."""
        if self._plan is None:
            return LOOK_SECONDS
        now = time.monotonic()
        if self._child is not None:
            self._look(now)
        if self._child is None and now >= self._due:
            self._send(now)
        if self._child is None:
            return max(0.01, self._due - time.monotonic())
        return self._child.limited(max(0.01, self._overdue - time.monotonic()))

    def end(self) -> None:
        """Take the ad back, if it was sent; at most ``WITHDRAW_SECONDS``."""
        self._forget(kill=True)
        if self._plan is None or not self._sent:
            return
        words = [*self._plan["argv"], INVALIDATE, self._path("query.ad")]
        code = run_short(words, self._plan["environment"], WITHDRAW_SECONDS)
        self._tell("obituary.withdrawn", code=code)

    def _send(self, now: float) -> None:
        if self._plan is None:
            return
        self._overdue = now + SEND_SECONDS
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        words = [*self._plan["argv"], ADVERTISE, self._path("failure.ad")]
        try:
            pid = spawn(words, self._plan["environment"], output=writer)
        except OSError as error:
            os.close(reader)
            self._failed(f"{words[0]}: {error.strerror}")
            return
        finally:
            os.close(writer)
        self._reader = reader
        self._child = Ending(pid)

    def _look(self, now: float) -> None:
        """Whether the one who sends has ended, or must."""
        if self._child is None:
            return
        done, status = os.waitpid(self._child.pid, os.WNOHANG)
        if not done and now < self._overdue:
            return
        said = self._said()
        self._forget(kill=not done)
        if done and os.waitstatus_to_exitcode(status) == 0:
            self._due = now + PERIOD_SECONDS
            self._retry_seconds = FIRST_RETRY_SECONDS
            if not self._sent:
                self._tell("obituary.sent")
            self._sent = True
        else:
            self._failed(said or f"no answer within {SEND_SECONDS:g} s")

    def _failed(self, message: str) -> None:
        self._due = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(PERIOD_SECONDS, self._retry_seconds * 2)
        if message not in self._told:  # the same again is no news
            self._told.add(message)
            self._tell("obituary.not_sent", message=message)

    def _said(self) -> str:
        try:
            return " ".join(os.read(self._reader, SAID_BYTES).decode("utf-8", "replace").split())[-300:]
        except OSError:
            return ""

    def _forget(self, *, kill: bool) -> None:
        """The one who sends has ended, or ends now; who does not, because the kernel holds it, is reaped by others."""
        if self._child is not None:
            if kill:
                os.killpg(self._child.pid, signal.SIGKILL)
                os.waitpid(self._child.pid, os.WNOHANG)
            self._child.close()
            os.close(self._reader)
            self._child = None

    def _tell(self, event: str, **data: object) -> None:
        """Write an event, and bring the log home again: the pilot's end was published before the hold."""
        self._events.write(event, **data)
        if self._output is not None:
            save_events(self._workspace, self._output)

    def _path(self, name: str) -> str:
        return os.path.join(self._workspace.obituary, name)

    def _write(self, name: str, text: str) -> None:
        try:
            write_atomically(self._path(name), text.encode())
        except OSError as error:
            self._plan = None
            self._tell("obituary.not_sent", message=f"{self._path(name)}: {error.strerror}")


def _read_plan(workspace: Workspace) -> dict[str, Any] | None:
    """What the pipeline left; None where it left nothing, or nothing whole."""
    try:
        plan = loads(read_bounded(os.path.join(workspace.obituary, PLAN_FILE)))
    except (OSError, ValueError):
        return None
    wanted = {"argv": list, "environment": dict, "name": str, "host": str, "attributes": dict}
    if not isinstance(plan, dict) or not all(isinstance(plan.get(key), kind) for key, kind in wanted.items()):
        return None
    return plan
