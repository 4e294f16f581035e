"""Events and the report on their way to the factory while the pilot lives: each upload is a short-lived child.

The event log on disk is the buffer. Nobody waits for a factory: a child that takes too long is killed, the next one
begins where the last one that succeeded ended, and comes later the more often it failed. Where nothing happens there
is no child, but for a sign of life from time to time.
"""

from __future__ import annotations

import os
import time

from pilot_agent.files import read_bounded, write_atomically, write_json
from pilot_agent.lifecycle.loop import Task
from pilot_agent.lifecycle.spawn import run_short, spawn
from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.workspace import Workspace

PLAN_FILE, REPORT_FILE, WORDS_FILE = "plan.json", "report.json", "last-words.txt"
HEARTBEAT = "heartbeat"
"""The word by which a child is told to give a sign of life, should there be nothing else to send."""
TASK_SECONDS = 30.0
LAST_SECONDS = 5.0
"""What the last upload may take of what is left of the end's budget."""
PAUSE_SECONDS = 5.0
"""Between the uploads of a pipeline, whose stages may be short."""
LONGEST_PAUSE_SECONDS = 900.0


class Uploader:
    """The keeper's uploads, one at a time, until it ends."""

    __slots__ = ("_events", "_heartbeat_at", "_loop", "_offered", "_pause_seconds", "_plan", "_taken", "_told")

    def __init__(self, workspace: Workspace, loop: Loop, events: EventLog) -> None:
        self._loop = loop
        self._events = events
        self._told = ""
        self._plan = _read_plan(workspace)
        self._pause_seconds: float = 0.0
        self._taken = self._offered = -1
        """So long was the event log when all of it was last taken, and when the last upload began."""
        self._heartbeat_at = time.monotonic()
        if self._plan is not None:
            self._pause_seconds = self._plan["period_seconds"]
            loop.call_later(0, self._begin)

    def _begin(self) -> None:
        if self._plan is None:
            return
        silent = time.monotonic() >= self._heartbeat_at
        self._offered = _size(self._events.path)
        if self._offered == self._taken and not silent:  # nothing to tell
            self._loop.call_later(self._until_next(), self._begin)
            return
        words = [*self._plan["argv"], HEARTBEAT] if silent else self._plan["argv"]
        Task(self._loop, words, self._plan["environment"], TASK_SECONDS, self._ended)

    def _ended(self, code: int | None, output: bytes) -> None:
        if self._plan is None:
            return
        if code == 0:
            self._told, self._taken = "", self._offered
            self._pause_seconds = self._plan["period_seconds"]
            self._heartbeat_at = time.monotonic() + _about(self._plan["heartbeat_seconds"])
            self._loop.call_later(self._until_next(), self._begin)
            return
        said = " ".join(output.decode("utf-8", "replace").split())[-300:] or f"no answer within {TASK_SECONDS:g} s"
        if said != self._told:  # the same again is no news
            self._events.write("upload.failed", message=said)
        self._told = said
        self._pause_seconds = min(LONGEST_PAUSE_SECONDS, self._pause_seconds * 2)
        self._loop.call_later(self._pause_seconds, self._begin)

    def _until_next(self) -> float:
        """Seconds until there may be something to send, or a sign of life is due."""
        return max(0.0, min(self._pause_seconds, self._heartbeat_at - time.monotonic()))


class StageUploads:
    """The pipeline's: started after a stage, never waited for."""

    __slots__ = ("_next", "_pid", "_workspace")

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._pid: int | None = None
        self._next = 0.0

    def begin(self) -> None:
        """Send what happened so far, unless the last sending is not over or was just now."""
        plan = _read_plan(self._workspace)
        if plan is None or time.monotonic() < self._next or not self._over():
            return
        try:
            self._pid = spawn(plan["argv"], plan["environment"], output=os.devnull)
        except OSError:
            self._pid = None
        self._next = time.monotonic() + PAUSE_SECONDS

    def _over(self) -> bool:
        if self._pid is None:
            return True
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # reaped with others
            return True


def upload_at_end(workspace: Workspace, report: dict[str, Any], left_seconds: float, words: str = "") -> None:
    """Send the last words, where there are any, the last events and the report; takes no more than is left of the end's
    budget, and no more than ``LAST_SECONDS``."""
    plan = _read_plan(workspace)
    seconds = min(LAST_SECONDS, left_seconds)
    if plan is None or seconds <= 0:
        return
    _leave(workspace, report, words)
    run_short(plan["argv"], plan["environment"], seconds)


def _leave(workspace: Workspace, report: dict[str, Any], words: str) -> None:
    """Where the child looks for it. Where the disk is full the events may still go."""
    try:
        if words:
            write_atomically(os.path.join(workspace.upload, WORDS_FILE), words.encode("utf-8", "replace"))
        write_json(os.path.join(workspace.upload, REPORT_FILE), report)
    except OSError:
        return


def _size(path: str) -> int:
    """How long a file is; -1 for one that is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _about(seconds: float) -> float:
    """So long, give or take a fifth: pilots that began together do not stay together."""
    return seconds * (0.8 + 0.4 * os.urandom(1)[0] / 255)


def _read_plan(workspace: Workspace) -> dict[str, Any] | None:
    """How to upload; None where nothing is to be uploaded."""
    try:
        plan = loads(read_bounded(os.path.join(workspace.upload, PLAN_FILE)))
    except (OSError, ValueError):
        return None
    seconds = ("period_seconds", "heartbeat_seconds")
    if not isinstance(plan, dict) or not all(isinstance(plan.get(name), int | float) for name in seconds):
        return None
    return plan if isinstance(plan.get("argv"), list) and isinstance(plan.get("environment"), dict) else None
