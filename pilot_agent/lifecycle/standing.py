"""How a pilot stands at this moment, from what the guardian was told and what lies in the workspace."""

from __future__ import annotations

import os
import time

from pilot_agent import __version__
from pilot_agent.lifecycle.processes import named
from pilot_agent.light import loads
from pilot_agent.workspace import WORKSPACE_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.workspace import Workspace

SCHEMA = "pilot-agent/status/1"
STARTER_NAME = "condor_starter"
TAIL_BYTES = 16384
LAST_EVENTS = 8
EVENT_LIMIT_BYTES = 2048
"""An event longer than this is told by its name and time alone, so that the whole fits into one packet."""


def standing(
    workspace: Workspace, *, started: float, output: str | None, stage: str, told: dict[str, Any]
) -> dict[str, Any]:
    """The status of the calling guardian's pilot, as ``pilot-agent status --json`` prints it.

    ``stage`` is empty as long as the pipeline runs; then the last one in the event log is meant. ``told`` is what the
    keeper said of itself. Times are seconds, ``started`` and ``deadline`` since the epoch.
    """
    now = time.time()
    events = last_events(workspace.events)
    deadline = told.get("deadline")
    return {
        "schema": SCHEMA,
        "id": os.path.basename(workspace.root).removeprefix(WORKSPACE_PREFIX),
        "version": __version__,
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "workspace": workspace.root,
        "output": output,
        "started": round(started, 3),
        "up_seconds": round(now - started, 1),
        "stage": stage or _stage(events),
        "joined": told.get("joined"),
        "draining": os.path.lexists(workspace.drain),
        "not_accepting": told.get("not_accepting", []),
        "jobs_running": len(named(os.getpid(), STARTER_NAME)),
        "deadline": deadline,
        "left_seconds": None if deadline is None else round(max(0.0, deadline - now), 1),
        "token_expires": told.get("token_expires"),
        "suspended_seconds": told.get("suspended_seconds", 0.0),
        "services": [{"name": name, "status": status} for name, status in told.get("services", {}).items()],
        "events": events[-LAST_EVENTS:],
    }


def last_events(path: str) -> list[dict[str, Any]]:
    """The last events of a log, the newest last; what is damaged or was cut is left out."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        start = max(0, os.fstat(descriptor).st_size - TAIL_BYTES)
        content = os.pread(descriptor, TAIL_BYTES, start)
    except OSError:
        return []
    finally:
        os.close(descriptor)
    lines = content.split(b"\n")
    events = [_event(line) for line in (lines[1:] if start else lines) if line]
    return [event for event in events if event is not None]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    if len(line) <= EVENT_LIMIT_BYTES:
        return event
    return {"seconds": event.get("seconds"), "event": event["event"][:100]}


def _stage(events: list[dict[str, Any]]) -> str:
    for event in reversed(events):
        if event["event"] == "pilot.ending":
            return "end"
        if event["event"] in ("stage.started", "stage.finished"):
            return str(event.get("stage"))
    return "configure"


def in_one_line(status: dict[str, Any]) -> str:
    """A status for the log."""
    left = "no limit of time" if status["left_seconds"] is None else f"{status['left_seconds']:.0f} s left"
    draining = ", draining" if status["draining"] else ""
    return (
        f"pilot {status['id']}: stage {status['stage']}{draining}, up {status['up_seconds']:.0f} s, "
        f"{status['jobs_running']} jobs running, {left}"
    )
