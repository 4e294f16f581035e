"""Ask a short-lived child what this process must not look at itself, because a file system that hangs would keep it.

Such a child waits in the kernel, where not even SIGKILL ends it. So silence is told when its time is over, whether it
ended or not, and no second one is sent after it.
"""

from __future__ import annotations

from pilot_agent.lifecycle.loop import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pilot_agent.lifecycle.loop import Loop


class Question:
    """One command, asked whenever ``ask`` is called and the last child has ended.

    ``answered(code, output)`` is called when a child has ended, with None for one that was ended, took too long or
    could not be started; ``silent()`` when one has not ended after ``seconds``. Time for which the pilot was suspended
    does not count.
    """

    __slots__ = ("_answered", "_argv", "_busy", "_environment", "_loop", "_seconds", "_silent")

    def __init__(
        self,
        loop: Loop,
        argv: Sequence[str],
        environment: Mapping[str, str],
        seconds: float,
        *,
        answered: Callable[[int | None, bytes], None],
        silent: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._argv = argv
        self._environment = environment
        self._seconds = seconds
        self._answered = answered
        self._silent = silent
        self._busy = False

    def ask(self) -> None:
        """Send a child, unless the last one has not ended yet."""
        if self._busy:
            return
        self._busy = True
        task = Task(self._loop, self._argv, self._environment, self._seconds, self._ended)
        self._loop.call_overdue(self._seconds, lambda: task.ended, self._silent)

    def _ended(self, code: int | None, output: bytes) -> None:
        self._busy = False
        self._answered(code, output)
