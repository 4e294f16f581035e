"""The pilot's own repositories of CVMFS are mounted again when their client died, by a short-lived child."""

from __future__ import annotations

from pilot_agent.lifecycle.loop import Task
from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import CvmfsPlan

REPAIRABLE = ("broken", "missing")
"""States that a mount of its own mends. A mount that hangs, or whose server does not answer, recovers by itself, and
jobs may have files open in it."""
MOST_TRIES = 8
CALM_LOOKS = 10
"""After so many looks at which all were well an earlier death is forgotten."""
FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 900.0
REASON_LIMIT = 400


class Remount:
    """Mounts again what is down, at once and then after ever longer pauses; ``MOST_TRIES`` times without success.

    ``plan.remount`` is the command, to which the names of the repositories are added; without one ``plan.repair``
    says who must do it.
    """

    __slots__ = ("_busy", "_down", "_events", "_loop", "_plan", "_tries", "_waiting", "_well")

    def __init__(self, plan: CvmfsPlan, loop: Loop, events: EventLog) -> None:
        self._plan = plan
        self._loop = loop
        self._events = events
        self._down: set[str] = set()
        self._busy = False
        self._waiting = False
        self._tries = 0
        self._well = 0

    def repair(self, state: str) -> str:
        """What becomes of a repository in this state, for people."""
        if state not in REPAIRABLE:
            return "it is looked at again"
        return "the pilot mounts it again" if self._plan.remount else self._plan.repair

    def seen(self, name: str, state: str) -> None:
        """A repository was found in this state."""
        if state in REPAIRABLE and self._plan.remount:
            self._well = 0
            self._down.add(name)
            self._begin()
            return
        self._down.discard(name)
        self._well += 1
        if not self._down and self._well >= CALM_LOOKS:
            self._tries = 0

    def _begin(self) -> None:
        if self._busy or self._waiting or not self._down or self._tries >= MOST_TRIES:
            return
        self._busy = True
        self._tries += 1
        names = sorted(self._down)
        Task(
            self._loop,
            [*self._plan.remount, *names],
            self._plan.environment,
            self._plan.remount_seconds,
            lambda code, output: self._ended(names, code, output),
        )

    def _ended(self, names: list[str], code: int | None, output: bytes) -> None:
        """The next look says whether they are back: nothing else does."""
        self._busy = False
        reason = "" if code == 0 else _reason(code, output, self._plan.remount_seconds)
        if not reason:
            self._events.write("cvmfs.remounted", repositories=names)
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (self._tries - 1))
        if reason:
            last = self._tries >= MOST_TRIES
            more: dict[str, Any] = {} if last else {"again_in_seconds": pause}
            self._events.write("cvmfs.not_remounted", repositories=names, reason=reason, tries=self._tries, **more)
        self._waiting = True
        self._loop.call_later(pause, self._again)

    def _again(self) -> None:
        self._waiting = False
        self._begin()


def _reason(code: int | None, output: bytes, seconds: float) -> str:
    """What the child says, or why it says nothing."""
    try:
        answer = loads(output)
        if isinstance(answer, dict) and answer.get("reason"):
            return str(answer["reason"])[:REASON_LIMIT]
    except ValueError:
        pass
    if code is None:
        return f"mounting them again took longer than {seconds:g} s, or was ended"
    lines = output.decode("utf-8", "replace").splitlines()
    return lines[-1][:REASON_LIMIT] if lines else f"exit code {code}"
