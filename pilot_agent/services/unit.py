"""One service from its first start to its end: started, asked, ended where it must be, and started again."""

from __future__ import annotations

import errno
import os
import time

from pilot_agent.lifecycle.identity import identify
from pilot_agent.lifecycle.spawn import find_in, spawn
from pilot_agent.light import signal
from pilot_agent.services import ports
from pilot_agent.services.disk import DiskWatch
from pilot_agent.services.exchange import Exchange
from pilot_agent.services.log import Log
from pilot_agent.services.members import is_helper, is_same, kill, members, send
from pilot_agent.services.memory_group import bounded_group, entered, kills
from pilot_agent.services.metrics import LIMIT_BYTES, sums
from pilot_agent.services.plan import LAST_ENDS, RUNNING
from pilot_agent.services.question import COMMAND_SECONDS, CONNECT_SECONDS, Question, environment_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.services.plan import ServicePlan, Standing
    from pilot_agent.services.supervisor import Supervisor

ALIVE_SECONDS = 1.0
"""A service that declares no readiness is ready when it still lives after so long."""
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5
MOST_PORT_CHANGES = 5
MOST_DOUBLINGS = 30
CLEAR_SECONDS = 0.05
MOST_CLEARS = 40
IN_THE_BACKGROUND = (
    "its command went to the background (it exited 0 and left {count} processes); run it in the foreground, as with "
    "-N, --foreground or daemon off"
)


class Unit:
    """A service; ``around`` is the supervisor, which is told of every change."""

    __slots__ = (
        *("_around", "_cause", "_changes", "_failures", "_question", "_reason", "_turn", "log", "plan", "standing"),
    )

    def __init__(self, plan: ServicePlan, around: Supervisor) -> None:
        self.plan = plan
        self.standing = plan.standing
        self.standing.marker = self.standing.marker or os.urandom(12).hex()
        self.log = Log(plan.directory, plan.log_mib)
        self._around = around
        self._turn = 0
        self._reason = ""
        self._cause = ""
        self._failures = 0
        self._changes = 0
        self._question: Question | None = None

    def running(self) -> bool:
        """Whether it has a process."""
        return self.standing.pid != 0

    def busy(self) -> bool:
        """Whether a program that asks for its state still runs."""
        return self._question is not None and self._question.busy()

    def at_rest(self) -> bool:
        """Whether another process can go on with it: nothing is under way but a start, of which ``adopt`` knows."""
        if self.running():
            return not self._reason and not self.busy()
        return self.standing.status not in RUNNING

    def start(self) -> None:
        """Start it now. What keeps it from being started ends it at once."""
        plan, standing = self.plan, self.standing
        self._turn += 1
        self._reason = self._cause = ""
        self._failures = 0
        standing.started = time.monotonic()
        standing.starts += 1
        try:
            self._choose_ports()
            held = self._held_port()
            if held:
                self._set("starting", "")
                self._after_end(held, failed=True, cause="port")
                return
            os.makedirs(plan.directory, mode=0o700, exist_ok=True)
            self._forget_file()
        except OSError as error:
            self._set("starting", "")
            how = f"its directory {plan.directory} cannot be used: {error.strerror}"
            self._after_end(how, failed=True, cause="directory")
            return
        self._spawn()

    def _spawn(self) -> None:
        plan, standing, turn = self.plan, self.standing, self._turn
        argv = [plan.filled(word) for word in plan.argv]
        environment = environment_of(plan)
        standing.entry = 0
        try:
            output = self.log.begin()
            standing.log_from = self.log.begun()
            try:
                standing.entry = self._around.record(plan)
                argv[0] = find_in(argv[0], environment.get("PATH", ""))
                pid = spawn(argv, environment, output=output, directory=plan.directory)
            finally:
                os.close(output)
        except (OSError, ValueError) as error:
            self._around.closed(standing.entry)
            self._set("starting", "")
            nothing_left = isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOMEM)
            no_room = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            cause = "processes" if nothing_left else "directory" if no_room else "program"
            self._after_end(f"{argv[0]} could not be started: {error}", failed=True, cause=cause)
            return
        identity = identify(pid)
        standing.pid, standing.start_ticks = pid, 0 if identity is None else identity.start_ticks
        self._around.recorded(standing.entry, identity)
        self._around.loop.expect(pid, lambda status: self._exited(turn, status))
        self._bound(turn)
        self._set("starting", "")
        self._around.tell("starting", self, pid=pid, ports=dict(standing.ports), start=standing.starts)
        self._await(turn)

    def _bound(self, turn: int) -> None:
        """Bound what it takes: memory by a control group where there can be one, else by looking."""
        plan, standing = self.plan, self.standing
        if plan.memory_mib:
            group = bounded_group(plan.name, plan.memory_mib)
            inside = bool(group) and entered(group, members(standing.pid, standing.marker))
            standing.memory_group = group if inside else ""
            standing.memory_limit = "control group" if inside else "measured"
            standing.memory_kills = kills(standing.memory_group)
        if plan.disk_mib:
            over = f"MiB are in its directory, its limit is {plan.disk_mib} MiB (disk_mib)"
            DiskWatch(
                self._around.loop, plan, lambda: turn != self._turn, lambda used: self.end(f"{used} {over}", "disk")
            )

    def _forget_file(self) -> None:
        """The file of an earlier start must not say that this one is ready. Raises ``OSError``."""
        path = os.path.join(self.plan.directory, self.plan.filled(self.plan.ready_of))
        if self.plan.ready_way == "file" and os.path.isfile(path):
            os.unlink(path)

    def _choose_ports(self) -> None:
        chosen = self.standing.ports
        for name, number in self.plan.ports.items():
            if number:
                chosen[name] = number
            elif not chosen.get(name) or ports.listeners(chosen[name]):
                chosen[name] = ports.free_port([*chosen.values(), *self._around.ports_taken()])

    def _held_port(self) -> str:
        """Why it cannot have one of its own numbers; empty when all are free."""
        for name, number in self.plan.ports.items():
            if number and (who := ports.holder(number, ())):
                self._around.tell("port_taken", self, port=number, name=name, by=who)
                return f"its port {number} is held by {who}: give another number, or 0 for a free one"
        return ""

    # Readiness

    def _await(self, turn: int) -> None:
        loop, plan = self._around.loop, self.plan
        if plan.ready_way == "alive":
            loop.call_overdue(ALIVE_SECONDS, lambda: self._past_start(turn), lambda: self._ready("alive"))
            return
        loop.call_overdue(plan.ready_seconds, lambda: self._past_start(turn), self._not_ready)
        self._ask_ready(turn, FIRST_PAUSE_SECONDS)

    def _past_start(self, turn: int) -> bool:
        return turn != self._turn or self.standing.status != "starting" or bool(self._reason)

    def _ask_ready(self, turn: int, pause: float) -> None:
        if self._past_start(turn):
            return
        plan = self.plan
        question = self._question = Question(
            plan, self._around.loop, self.log, way=plan.ready_way, of=plan.ready_of, argv=plan.ready_argv
        )

        def told(problem: str, holder: str) -> None:
            if self._past_start(turn):
                return
            if holder:
                self._port_taken(problem)
            elif problem:
                again = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
                self._around.loop.call_later(pause, lambda: self._ask_ready(turn, again))
            else:
                self._ready(question.words)

        question.ask(COMMAND_SECONDS if plan.ready_way == "command" else CONNECT_SECONDS, told)

    def _ready(self, words: str) -> None:
        standing, turn = self.standing, self._turn
        now = time.monotonic()
        standing.ready_since, standing.ready_after_seconds = now, round(now - standing.started, 4)
        standing.was_ready = True
        self._changes = 0
        self._set("ready", f"ready by {words}")
        self._around.tell(
            "ready", self, ready_after_seconds=standing.ready_after_seconds, ports=dict(standing.ports), by=words
        )
        self.watch(turn)

    def _not_ready(self) -> None:
        words = self._question.words if self._question is not None else ""
        self.end(f"was not ready by {words} within {self.plan.ready_seconds:g} s{self.log.last_words()}")

    def _port_taken(self, problem: str) -> None:
        """Another program took a port between the choice and the start."""
        self._around.tell("port_taken", self, message=problem)
        self.end(problem, "port")

    # While it is ready

    def watch(self, turn: int | None = None) -> None:
        """Ask from now on whether it still works, and what it tells of itself."""
        if not self._around.watches:
            return
        turn = self._turn if turn is None else turn
        loop, plan = self._around.loop, self.plan
        if plan.live_way:
            loop.call_later(plan.live_period_seconds, lambda: self._ask_alive(turn))
        if plan.metrics_http:
            loop.call_later(plan.metrics_period_seconds, lambda: self._scrape(turn))

    def _ask_alive(self, turn: int) -> None:
        if turn != self._turn or self._reason or not self._around.watches:
            return
        plan = self.plan
        self._question = Question(
            plan, self._around.loop, self.log, way=plan.live_way, of=plan.live_of, argv=plan.live_argv
        )
        self._question.ask(plan.live_timeout_seconds, lambda problem, _: self._alive(turn, problem))

    def _alive(self, turn: int, problem: str) -> None:
        if turn != self._turn or self._reason:
            return
        plan = self.plan
        self._failures = self._failures + 1 if problem else 0
        if not problem and self.standing.status == "unhealthy":
            self._set("ready", "answers again")
            self._around.tell("ready", self, by="answers again")
        elif problem and self.standing.status == "ready":
            self._set("unhealthy", problem)
            self._around.tell("unhealthy", self, message=problem)
        if self._failures >= plan.live_failures:
            self.end(f"was hung: {self._failures} times in a row: {problem}")
            return
        self._around.loop.call_later(plan.live_period_seconds, lambda: self._ask_alive(turn))

    def _scrape(self, turn: int) -> None:
        if turn != self._turn:
            return
        plan, loop = self.plan, self._around.loop
        port, _, path = plan.metrics_http.partition("/")

        def told(problem: str, body: bytes) -> None:
            if not problem:
                self.standing.metrics.update(sums(body, plan.metrics_names))
            loop.call_later(plan.metrics_period_seconds, lambda: self._scrape(turn))

        Exchange(loop, plan.number(port), path, plan.live_timeout_seconds, told, body_bytes=LIMIT_BYTES)

    # The end

    def end(self, reason: str, cause: str = "") -> None:
        """End it by its signal, and by KILL where that is not enough; it is then judged by ``reason``, whose ``cause``
        may be known."""
        if self._reason or not self.running():
            return
        self._reason, self._cause = reason, cause
        turn = self._turn
        self.ask_to_stop()
        self._around.loop.call_later(self.plan.stop_seconds, lambda: self._kill(turn))

    def ask_to_stop(self) -> None:
        """Its stop signal, to exactly its main process; one that was stopped is continued, or it could not end."""
        if is_same(self.standing.pid, self.standing.start_ticks):
            send(self.standing.pid, getattr(signal, self.plan.stop_signal))
            send(self.standing.pid, signal.SIGCONT)

    def _kill(self, turn: int) -> None:
        if turn == self._turn and self.running():
            kill(members(self.standing.pid, self.standing.marker))

    def _exited(self, turn: int, status: int | None) -> None:
        """The main process ended; ``status`` as of ``os.waitpid``, None where nobody knows."""
        if turn != self._turn:
            return
        self._turn += 1
        standing, seconds = self.standing, time.monotonic() - self.standing.started
        # The number of a process that was no child may be another's by now, and its group too.
        pid, standing.pid = standing.pid if status is not None else 0, 0
        if self._question is not None:
            self._question.drop()
        if standing.status in ("ready", "unhealthy"):
            standing.ready_seconds += time.monotonic() - standing.ready_since
        self._around.closed(standing.entry)
        code = None if status is None else os.waitstatus_to_exitcode(status)
        left = [one for one in self._left(pid) if not is_helper(one)]
        young = standing.status == "starting" or seconds < ALIVE_SECONDS
        how = "ended" if code is None else f"exited {code}" if code >= 0 else f"was ended by signal {-code}"
        if not self._reason and kills(standing.memory_group) > standing.memory_kills:
            self._cause = "memory"
            limit = f"{self.plan.memory_mib} MiB (memory_mib)"
            self._reason = f"was ended by the kernel: its control group had used all of its limit of {limit}"
        if self._reason:
            how, failed = self._reason, True
        elif code == 0 and left and young:
            how, failed = IN_THE_BACKGROUND.format(count=len(left)), True
            self._clear(pid, lambda: self._after_end(how, failed=True, final=True, cause="background"))
            return
        else:
            failed = code != 0
            how += " before it was ready" if standing.status == "starting" else ""
            how += self.log.last_words()
        self._clear(pid, lambda: self._after_end(how, failed=failed, cause=self._cause))

    def _left(self, pid: int) -> list[int]:
        found = members(0, self.standing.marker)
        return [one for one in found if one != pid]

    def _clear(self, pid: int, then: Callable[[], None], tries: int = 0) -> None:
        """Kill what it left, and go on when nothing of it is there any more."""
        if pid and not tries:  # later its number, and so that of its group, may be another's
            send(-pid, signal.SIGKILL)
        left = self._left(pid)
        kill(left)
        if left and tries < MOST_CLEARS:
            self._around.loop.call_later(CLEAR_SECONDS, lambda: self._clear(pid, then, tries + 1))
        else:
            then()

    def _after_end(self, how: str, *, failed: bool, final: bool = False, cause: str = "") -> None:
        """Decide what comes after an end: another start, now or later, or none."""
        plan, standing = self.plan, self.standing
        standing.cause = cause
        standing.ends = [*standing.ends, how][-LAST_ENDS:]
        if self._around.over:
            self._set("stopped", how)
            return
        if failed and not final and self._changes < MOST_PORT_CHANGES and self._clashed():
            self._changes += 1
            self._around.tell("port_taken", self, message=how)
            self._set("backoff", how)
            self._around.loop.call_later(0, self.start)
            return
        if final or not standing.was_ready:
            # What never worked does not by being repeated, and the pilot's owner waits for the reason.
            self._finally("failed", how)
        elif plan.restart == "never" or (plan.restart == "on_failure" and not failed):
            self._finally("failed" if failed else "stopped", how)
        else:
            self._again(how)

    def _clashed(self) -> bool:
        """Whether another program has one of the ports that were chosen."""
        return any(not self.plan.ports.get(name) and ports.holder(number, ()) for name, number in
                   self.standing.ports.items())  # fmt: skip

    def _again(self, how: str) -> None:
        plan, standing, now = self.plan, self.standing, time.monotonic()
        standing.restarted = [moment for moment in standing.restarted if now - moment < plan.restart_window_seconds]
        if len(standing.restarted) >= plan.restart_limit:
            count, window = len(standing.restarted), plan.restart_window_seconds
            self._finally("failed", f"{how}; it was started again {count} times within {window:g} s")
            return
        pause = min(
            plan.backoff_limit_seconds, plan.backoff_seconds * 2 ** min(MOST_DOUBLINGS, len(standing.restarted))
        )
        standing.restarted.append(now)
        standing.restarts += 1
        self._set("backoff", how)
        self._around.tell("ended", self, how=how, again_in_seconds=pause)
        turn = self._turn
        self._around.loop.call_later(pause, lambda: self._wait(turn))

    def _wait(self, turn: int) -> None:
        if turn == self._turn and not self._around.over:
            self._set("waiting", self.standing.message)

    def _finally(self, status: str, how: str) -> None:
        self._set(status, how)
        self._around.tell(status, self, how=how)
        self._around.gave_up(self)

    def refuse_for(self, needed: Standing, name: str) -> None:
        """It is not started at all: what it needs was lost."""
        self.standing.cause = needed.cause
        self._finally("failed", f"it needs the service {name}, which does not run: {needed.message}")

    def share(self, message: str) -> None:
        """Another pilot of the node runs it, and it is ready there."""
        self.standing.was_ready = True
        self._set("shared", message)

    def wait(self, message: str) -> None:
        """It is not started before what it waits for has come."""
        self._set("waiting", message)

    def adopt(self) -> None:
        """Go on with a service that another process of this pilot started, before the same exec."""
        standing = self.standing
        if standing.status not in RUNNING:
            return
        turn = self._turn
        try:
            own = os.waitpid(standing.pid, os.WNOHANG)
        except ChildProcessError:
            self._around.follow(standing.pid, standing.start_ticks, lambda: self._exited(turn, None))
        else:
            if own[0]:
                self._around.loop.call_later(0, lambda: self._exited(turn, own[1]))
                return
            self._around.loop.expect(standing.pid, lambda status: self._exited(turn, status))
        self._bound(turn)
        if standing.status == "starting":
            self.log.go_on(standing.log_from)
            self._await(turn)
        else:
            self.watch()

    def _set(self, status: str, message: str) -> None:
        self.standing.status, self.standing.message = status, message
        self._around.changed(self)
