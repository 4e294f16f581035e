"""The keeper: what the pipeline becomes once everything is prepared, and what stays while jobs run.

It supervises ``condor_master``, the services and the periodic tasks, speaks to the startd through the ad channel, and
ends all of it: on a signal, at the deadline, when the pilot is idle, when something it needs dies, or when the guardian
is gone. Everything needed for the end is imported before the supervision begins, because the payload itself may be
deleted meanwhile.
"""

from __future__ import annotations

import os
import time

from pilot_agent.events import EventLog
from pilot_agent.files import read_bounded
from pilot_agent.lifecycle import final_report, finish
from pilot_agent.lifecycle.acceptance import Acceptance
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.channel import AdChannel
from pilot_agent.lifecycle.collector_clock import add_to_report
from pilot_agent.lifecycle.draining import DRAINING, Drain
from pilot_agent.lifecycle.health import Health
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.keeper_pool import KeeperPool
from pilot_agent.lifecycle.keeper_services import KeeperServices
from pilot_agent.lifecycle.keeper_time import KeeperTime
from pilot_agent.lifecycle.lock import keep_from_children
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.master import NO_RESTART, RESERVE_SECONDS, Master, graceful_seconds
from pilot_agent.lifecycle.obituary import Obituary, hold
from pilot_agent.lifecycle.plan import KeeperPlan, read_plan
from pilot_agent.lifecycle.publish import expect_factory, say_problem
from pilot_agent.lifecycle.record import PlanError
from pilot_agent.lifecycle.signals import GUARDIAN_GONE, PILOT_REQUESTS, Alarm
from pilot_agent.lifecycle.startd_report import StartdReport
from pilot_agent.lifecycle.token_watch import TokenWatch
from pilot_agent.lifecycle.uploads import Uploader
from pilot_agent.light import signal
from pilot_agent.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

GUARDIAN_FD_VARIABLE = "PILOT_AGENT_GUARDIAN_FD"
EXIT_CODES = {"node_resource": 64, "network": 65, "config": 66, "credential": 67, "corruption": 68, "plugin": 69,
              "internal": 70, "preempted": 143}  # fmt: skip
"""Design section 6."""
DRAINING_ATTRIBUTE = "PilotDraining"
SETTLE_SECONDS = 0.2
"""A master that ended by itself may have got the same signal as this process, a moment earlier."""


def main(arguments: Sequence[str]) -> int:
    """``_keeper WORKSPACE``: the keeper's whole life; the pilot's exit code."""
    descriptor = os.environ.get(GUARDIAN_FD_VARIABLE)
    others = (*PILOT_REQUESTS, signal.SIGCHLD, signal.SIGCONT)
    guardian = int(descriptor) if descriptor else None
    alarm = Alarm.install(guardian, also=others, requests=PILOT_REQUESTS, sticky=False)
    workspace = Workspace(arguments[0])
    keep_from_children()
    try:
        plan = read_plan(workspace.keeper_plan)
    except (OSError, PlanError) as error:
        return _refuse(workspace, alarm, str(error))
    alarm.tell({"role": "keeper", "budget_seconds": plan.time.budget_seconds})
    return Keeper(plan, workspace, alarm).run()


def _refuse(workspace: Workspace, alarm: Alarm, message: str) -> int:
    """A keeper without a plan cannot keep anything; the guardian knows where the output goes."""
    problem = final_report.failure("internal", "keeper.plan", f"the keeper cannot read its plan: {message}")
    report = final_report.read_report(workspace.report) or final_report.empty_report()
    final_report.set_outcome(report, problem)
    finish.conclude(
        workspace, output=None, report=report, exit_code=EXIT_CODES["internal"], budget_seconds=10.0, alarm=alarm
    )
    return EXIT_CODES["internal"]


class Keeper:
    """One pilot from the hand-off to its end."""

    def __init__(self, plan: KeeperPlan, workspace: Workspace, alarm: Alarm) -> None:
        self._plan = plan
        self._workspace = workspace
        self._alarm = alarm
        self._events = EventLog(workspace.events, plan.started)
        self._loop = Loop(alarm)
        self._channel = AdChannel(
            self._loop,
            plan.channel.path,
            plan.channel.period_seconds,
            plan.channel.attributes,
            lambda text: self._events.write("channel.refused", message=text),
            lambda state: self._startd_report.ask(state=state),
        )
        journal = Journal(workspace.journal)
        self._master = Master(plan.master, journal, self._loop, graceful_seconds(plan.time), self._master_ended)
        self._budget: Budget | None = None
        self._over = False
        self._began, self._ticks = time.time(), time.monotonic()
        self._problem: dict[str, Any] | None = None
        self._pool: KeeperPool | None = None
        self._startd_report = StartdReport(self._loop, self._master.startds)
        self._acceptance = Acceptance(self._channel, self._tell)
        self._drain: Drain | None = None
        self._drain_problem: dict[str, Any] | None = None
        self._token: TokenWatch | None = None
        self._time: KeeperTime | None = None
        self._health = Health(
            self._loop,
            self._channel,
            self._events,
            self._acceptance,
            drain=self._begin_drain,
            over=self._ending,
        )
        self._services = KeeperServices(
            plan,
            self._loop,
            self._channel,
            self._events,
            journal,
            self._acceptance,
            end=self._end,
            over=self._ending,
            tell=self._tell,
        )
        self._suspensions: list[tuple[float, float]] = []
        self._loop.on_suspension(self._was_suspended)
        # Kept in memory, because somebody may delete the workspace under a running pilot.
        self._report = _read_quietly(workspace.report)

    def run(self) -> int:
        """Supervise until the end has come, then bring it about; the exit code."""
        os.chdir("/")
        self._begin()
        while not (self._budget is not None and self._master.done):
            self._loop.turn()
            self._look_at_alarm()
            self._look_at_requests()
        return self._conclude()

    def _begin(self) -> None:
        self._master.watch()
        self._events.write("condor.started", pid=self._master.pid)
        expect_factory(self._workspace)
        Uploader(self._workspace, self._loop, self._events)
        if self._plan.join is not None:
            self._pool = KeeperPool(self._plan.join, self._loop, self._channel, self._events, self._tell, self._end)
        self._time = KeeperTime(
            self._plan.time,
            self._loop,
            self._channel,
            self._events,
            self._acceptance,
            busy=self._master.jobs_running,
            leave=self._leave,
            end=self._end,
            over=self._ending,
            changed=self._tell,
        )
        self._services.begin()
        self._health.begin(self._plan, self._workspace.image_failures, self._time.hear, self._services.ports)
        if self._plan.token is not None:
            self._token = TokenWatch(self._plan.token, self._loop, self._channel, self._events, self._renewed)
        self._tell()

    def _ending(self) -> bool:
        return self._over or self._budget is not None

    def _leave(self) -> None:
        """Nothing keeps the pilot here any longer."""
        self._end(self._drain_problem)

    def _renewed(self) -> None:
        """Another token was installed."""
        if self._token is not None and self._time is not None:
            self._time.renew(self._token.expires)
        self._tell()

    def _look_at_alarm(self) -> None:
        reason = self._alarm.reason()
        if reason == GUARDIAN_GONE:
            message = "the guardian is gone; the keeper undid everything"
            self._end(final_report.failure("preempted", "guardian.gone", message, retry=True), fast=True)
        elif reason is not None:
            self._end(final_report.preempted(int(reason)), fast=self._alarm.fast or self._alarm.guardian_gone)

    def _look_at_requests(self) -> None:
        requests = self._loop.requests()
        if signal.SIGUSR1 in requests:
            self._begin_drain(None)
        if signal.SIGHUP in requests and self._token is not None and self._budget is None:
            self._token.check()

    def _begin_drain(self, problem: dict[str, Any] | None) -> None:
        """Take no further job; when the running ones have ended the pilot ends, with ``problem`` if there is one."""
        self._drain_problem = self._drain_problem or problem
        if self._drain is not None or self._budget is not None:
            return
        self._acceptance.refuse(DRAINING)
        self._channel.update({DRAINING_ATTRIBUTE: True})
        self._drain = Drain(self._loop, self._master.jobs_running, self._ending, self._drained)
        self._tell()

    def _drained(self) -> None:
        self._events.write("pilot.drained", jobs=0)
        self._leave()

    def _was_suspended(self, seconds: float) -> None:
        """Everything stood still, the jobs too as a rule; what was to be done meanwhile is done now."""
        now = time.time()
        self._suspensions.append((now - seconds, seconds))
        self._events.write("pilot.suspended", suspended_seconds=round(seconds, 1))
        self._channel.renew()
        self._tell()

    def _tell(self) -> None:
        """The guardian answers whoever asks how the pilot stands."""
        self._alarm.tell(
            {
                "told": {
                    "stage": "end" if self._budget is not None else "drain" if self._drain is not None else "run",
                    "joined": None if self._pool is None else self._pool.joined,
                    "deadline": self._plan.time.deadline,
                    "not_accepting": sorted(self._acceptance.reasons),
                    "services": self._services.statuses(),
                    "suspended_seconds": round(self._loop.suspended_seconds, 1),
                    "token_expires": None if self._token is None else self._token.expires,
                }
            }
        )

    def _master_ended(self, code: int | None) -> None:
        if self._budget is not None:
            self._events.write("condor.ended", code=code)
            return
        # Nobody here asked for it. A signal to every process of the pilot may just be on its way to this one.
        self._loop.call_later(SETTLE_SECONDS, lambda: self._master_left(code))

    def _master_left(self, code: int | None) -> None:
        if self._budget is not None:
            return
        self._events.write("condor.ended", code=code)
        # STARTD_NOCLAIM_SHUTDOWN, no job for so long: the startd told the master to end. Or a condition of the startd's
        # own, no job after the last one, for which the master leaves too.
        if (code == 0 and self._master.startd_was_idle()) or (code == NO_RESTART and self._master.startd_left()):
            self._leave()
            return
        if code == 0:
            self._end(final_report.master_told())
            return
        self._end(final_report.master_died(code, of_startd=code == NO_RESTART))

    def _end(self, problem: dict[str, Any] | None, *, fast: bool = False) -> None:
        """Begin the end; a later call can only hasten what is under way."""
        if self._budget is None:
            self._budget = Budget(self._plan.time.budget_seconds)
            self._problem = problem
            self._acceptance.close()
            self._events.write("pilot.ending", by="keeper", failure=problem)
            self._tell()
        self._master.stop(fast=fast)

    def _conclude(self) -> int:
        self._over = True
        self._channel.close()
        self._services.stop(Budget(max(0.0, self._left() - RESERVE_SECONDS)))
        report = final_report.read_report(self._workspace.report) or self._remembered()
        self._services.add_to_report(report)
        if self._drain_problem is not None:  # stays in the report, whatever ended the pilot while it drained
            final_report.set_outcome(report, self._drain_problem)
        final_report.set_outcome(report, self._problem)
        if self._pool is not None and self._pool.clock_offset is not None:
            add_to_report(report, self._pool.clock_offset)
        alive = time.monotonic() - self._ticks  # the clock may have been moved meanwhile
        final_report.set_jobs(report, self._plan.history, self._began, self._plan.started, alive)
        final_report.add_line(report, "run", "condor_master", self._began - self._plan.started, alive, "ok")
        final_report.add_scores(report, self._workspace.private)
        for moment, seconds in self._suspensions:
            final_report.add_line(report, "run", "suspended", moment - self._plan.started, seconds, "warn")
        exit_code = self._exit_code()
        finish.conclude(
            self._workspace,
            output=self._plan.output,
            report=report,
            exit_code=exit_code,
            budget_seconds=max(RESERVE_SECONDS, self._left()),
            alarm=self._alarm,
            started=self._plan.started,
        )
        if self._problem is not None and self._problem["kind"] != "preempted":
            say_problem(self._problem)
        leaves = self._plan.time.leaves
        hold = self._plan.time.hold_seconds - alive
        self._hold(hold if leaves is None else min(hold, leaves - time.time()))
        return exit_code

    def _left(self) -> float:
        """Seconds of the time for the end."""
        return 0.0 if self._budget is None else self._budget.left()

    def _hold(self, seconds: float) -> None:
        """Keep the slot of a pilot that failed soon after the hand-off."""
        if self._problem is None or self._problem["kind"] == "preempted" or seconds <= 0:
            return
        self._loop.drop()
        told = Obituary(self._workspace, self._plan.output, self._events, self._problem,
                        exit_code=self._exit_code(), seconds=seconds)  # fmt: skip
        hold(self._alarm, seconds, told)
        if self._alarm.alone:
            finish.remove_the_rest(self._workspace, finish.Outcome(0, {}, []), None)

    def _exit_code(self) -> int:
        if self._problem is None:
            return 0
        if self._problem["signal"] is not None:
            return 128 + int(self._problem["signal"])
        return EXIT_CODES[self._problem["kind"]]

    def _remembered(self) -> dict[str, Any]:
        return final_report.parse_report(self._report) or final_report.empty_report(
            self._plan.pilot_id, self._plan.started
        )


def _read_quietly(path: str) -> bytes:
    try:
        return read_bounded(path, limit_bytes=final_report.LIMIT_BYTES)
    except OSError:
        return b""
