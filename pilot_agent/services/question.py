"""How a service is asked, in the one way that it declares, whether it is ready or still works."""

from __future__ import annotations

import os

from pilot_agent.lifecycle.loop import Task
from pilot_agent.light import signal
from pilot_agent.services.exchange import Exchange
from pilot_agent.services.members import members, send
from pilot_agent.services.plan import MARKER_VARIABLE
from pilot_agent.services.ports import holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.services.log import Log
    from pilot_agent.services.plan import ServicePlan

COMMAND_SECONDS = 10.0
CONNECT_SECONDS = 5.0


class Question:
    """``done(problem, holder)`` comes once: an empty ``problem`` is a yes; ``holder`` says which other program holds
    the service's port. ``words`` say what is asked."""

    __slots__ = ("_argv", "_done", "_exchange", "_log", "_loop", "_of", "_plan", "_seconds", "_task", "_way", "words")

    def __init__(self, plan: ServicePlan, loop: Loop, log: Log, *, way: str, of: str, argv: Sequence[str]) -> None:
        self._plan = plan
        self._loop = loop
        self._log = log
        self._way = way
        self._of = of
        self._argv = argv
        self._exchange: Exchange | None = None
        self._task: Task | None = None
        port, slash, path = of.partition("/") if way == "http" else (of, "", "")
        what = plan.filled(of) if way not in ("port", "http") else f"{plan.number(port)}{slash}{path}"
        self.words = {"command": f"command {argv[0] if argv else ''}", "alive": "alive"}.get(way, f"{way} {what}")

    def ask(self, seconds: float, done: Callable[[str, str], None]) -> None:
        """Begin to ask, with ``seconds`` for the answer."""
        self._done = done
        if self._way in ("port", "http"):
            port, slash, path = self._of.partition("/") if self._way == "http" else (self._of, "", "")
            number = self._plan.number(port)
            self._exchange = Exchange(
                self._loop, number, path if slash else None, seconds, lambda problem, _: self._told(number, problem)
            )
        elif self._way == "command":
            argv = [self._plan.filled(word) for word in self._argv]
            self._task = Task(self._loop, argv, environment_of(self._plan), seconds, self._exited,
                              directory=self._plan.directory)  # fmt: skip
        elif self._way == "log":
            done("" if self._log.says(self._of) else f"has not said {self._of!r}", "")
        elif self._way == "file":
            path = os.path.join(self._plan.directory, self._plan.filled(self._of))
            done("" if os.path.exists(path) else f"there is no file {path}", "")

    def drop(self) -> None:
        """Ask no further; nobody is told."""
        self._done = lambda problem, holder: None
        if self._exchange is not None:
            self._exchange.drop()
        if self._task is not None and not self._task.ended and self._task.pid:
            send(-self._task.pid, signal.SIGKILL)

    def busy(self) -> bool:
        """Whether a program that asks still runs."""
        return self._task is not None and not self._task.ended

    def _told(self, port: int, problem: str) -> None:
        if problem:
            self._done(f"port {port}: {problem}", "")
            return
        standing = self._plan.standing
        who = holder(port, members(standing.pid, standing.marker))
        if who is None:  # whoever accepted is gone, or this kernel does not tell
            self._done("" if not _told_by_kernel() else f"port {port}: nobody listens", "")
        else:
            self._done(f"port {port} is held by {who}" if who else "", who)

    def _exited(self, code: int | None, output: bytes) -> None:
        said = output.decode("utf-8", "replace").strip().splitlines()
        how = "was ended" if code is None else f"exited {code}"
        self._done("" if code == 0 else f"{self._argv[0]} {how}{': ' + said[-1][:200] if said else ''}", "")


def environment_of(plan: ServicePlan) -> dict[str, str]:
    """The environment in which the service and its commands run, with its mark."""
    filled = {name: plan.filled(value) for name, value in plan.environment.items()}
    return {**filled, MARKER_VARIABLE: plan.standing.marker}


def _told_by_kernel() -> bool:
    return os.path.exists("/proc/net/tcp")
