"""The keeper's eye on the disk: below one floor no job is taken until there is space again, below another the pilot
ends while it still can write what happened. A directory that does not answer, as that of a dead mount, takes no job."""

from __future__ import annotations

from pilot_agent.lifecycle.question import Question
from pilot_agent.lifecycle.spawn import SEARCH_PATH, find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.acceptance import Acceptance
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import DiskPlan

LOW, SILENT = "disk", "disk does not answer"
"""Why no job is taken."""
FREE_ATTRIBUTE = "PilotDiskFreeMiB"
"""Free space of the fullest of the directories, MiB, when it was last told."""
RETURN_FACTOR = 1.25
"""So much more than the floor must be free again before jobs are taken: a job's first files must not close it again."""
TOLD_SHARE = 0.1
"""The attribute changes when the free space has changed by so much of what was told."""


class DiskWatch:
    """Looks every period. ``full(message)`` once, when less than the hard floor is free."""

    __slots__ = ("_acceptance", "_channel", "_ended", "_events", "_free", "_full", "_loop", "_low", "_plan",
                 "_questions", "_silent", "_told")  # fmt: skip

    def __init__(
        self,
        plan: DiskPlan,
        loop: Loop,
        channel: AdChannel,
        events: EventLog,
        acceptance: Acceptance,
        full: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._channel = channel
        self._events = events
        self._acceptance = acceptance
        self._full = full
        self._low = False
        self._ended = False
        self._told = -1
        self._free: dict[str, int] = {}
        """Path -> what was free there when it last answered, MiB; none where nobody can say."""
        self._silent: set[str] = set()
        self._questions: list[Question] = []
        if plan.floor_mib > 0 or plan.hard_floor_mib > 0:
            self._questions = [self._question(path) for path in plan.paths]
            self._look()

    def _look(self) -> None:
        for question in self._questions:
            question.ask()
        self._loop.call_later(self._plan.period_seconds, self._look)

    def _question(self, path: str) -> Question:
        return Question(
            self._loop,
            statfs_command(path),
            {"PATH": SEARCH_PATH, "LC_ALL": "C"},
            self._plan.answer_seconds,
            answered=lambda code, output: self._answered(path, output if code == 0 else b""),
            silent=lambda: self._is_silent(path),
        )

    def _is_silent(self, path: str) -> None:
        if path not in self._silent:
            self._silent.add(path)
            self._free.pop(path, None)
            self._events.write("disk.silent", path=path, seconds_waited=self._plan.answer_seconds)
            self._acceptance.refuse(SILENT)

    def _answered(self, path: str, output: bytes) -> None:
        free = free_mib(output)
        if free is None:
            self._free.pop(path, None)
        else:
            self._free[path] = free
        if free is not None and path in self._silent:
            self._silent.discard(path)
            self._events.write("disk.answers_again", path=path)
            if not self._silent:
                self._acceptance.accept(SILENT)
        if self._free:
            self._judge(*min((free, path) for path, free in self._free.items()))

    def _judge(self, free: int, path: str) -> None:
        if self._told < 0 or abs(free - self._told) > max(1.0, self._told * TOLD_SHARE):
            self._told = free
            self._channel.update({FREE_ATTRIBUTE: free}, state=False)
        floor = self._plan.floor_mib
        if not self._low and free < floor:
            self._low = True
            self._events.write("disk.low", path=path, free_mib=free, needed_mib=floor)
            self._acceptance.refuse(LOW)
        elif self._low and free >= floor * RETURN_FACTOR:
            self._low = False
            self._events.write("disk.free_again", path=path, free_mib=free)
            self._acceptance.accept(LOW)
        if free < self._plan.hard_floor_mib and not self._ended:
            self._ended = True
            self._full(
                f"{free} MiB are free in {path}, and below {self._plan.hard_floor_mib} MiB jobs lose what they write"
            )


def statfs_command(path: str) -> list[str]:
    """Prints what ``free_mib`` reads about the file system of ``path`` (stat(1))."""
    return [find_program("stat") or "/usr/bin/stat", "-f", "-c", "%a %S %c %d", path]


def free_mib(output: bytes) -> int | None:
    """What an unprivileged user can still write, MiB; None where the output does not say."""
    words = output.split()
    if len(words) != 4 or not all(word.isdigit() for word in words):
        return None
    blocks, block_bytes, inodes, free_inodes = map(int, words)
    if inodes and not free_inodes:
        return 0  # no inode is left: no file can be made
    return blocks * block_bytes >> 20
