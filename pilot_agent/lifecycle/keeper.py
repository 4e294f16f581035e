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
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.channel import ACCEPTING_ATTRIBUTE, AdChannel
from pilot_agent.lifecycle.collector_clock import SKEW_SECONDS, CollectorClock, add_to_report
from pilot_agent.lifecycle.draining import Drain
from pilot_agent.lifecycle.image_failures import ImageFailures
from pilot_agent.lifecycle.joining import JoinCheck
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.lock import keep_from_children
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.master import FAST_SECONDS, NO_RESTART, Master
from pilot_agent.lifecycle.plan import KeeperPlan, PlanError, read_plan
from pilot_agent.lifecycle.sidecars import Periodics, Services
from pilot_agent.lifecycle.signals import GUARDIAN_GONE, PILOT_REQUESTS, Alarm
from pilot_agent.lifecycle.timewatch import ANNOUNCED_ATTRIBUTE, TimeWatch
from pilot_agent.lifecycle.token_watch import TokenWatch
from pilot_agent.light import signal
from pilot_agent.startd.history import read_history, summarize
from pilot_agent.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

GUARDIAN_FD_VARIABLE = "PILOT_AGENT_GUARDIAN_FD"
EXIT_CODES = {"node_resource": 64, "network": 65, "config": 66, "credential": 67, "corruption": 68, "plugin": 69,
              "internal": 70, "preempted": 143}  # fmt: skip
"""Design section 6."""
TO_RETIRE, TO_DIE = "GLIDEIN_ToRetire", "GLIDEIN_ToDie"
LATEST = 1e11
"""No moment that anybody means lies after this."""
RETIRING = "time is over"
"""Why no job begins any more; no periodic task can have this name."""
RESERVE_SECONDS = 3.0
"""What HTCondor leaves of the budget to everything after it."""
DRAINING = "draining"
"""Why no job is accepted, beside the names of periodic tasks."""
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
        )
        vacate_seconds = min(
            plan.time.vacate_seconds, max(0.0, plan.time.budget_seconds - FAST_SECONDS - RESERVE_SECONDS)
        )
        self._master = Master(plan.master, Journal(workspace.journal), self._loop, vacate_seconds, self._master_ended)
        self._budget: Budget | None = None
        self._over = False
        self._began = time.time()
        self._problem: dict[str, Any] | None = None
        self._clock_offset: int | None = None
        self._not_accepting: set[str] = set()
        self._drain: Drain | None = None
        self._drain_problem: dict[str, Any] | None = None
        self._token: TokenWatch | None = None
        self._watch: TimeWatch | None = None
        self._services = {service.name: "ready" for service in plan.services}
        self._suspensions: list[tuple[float, float]] = []
        self._loop.on_suspension(self._was_suspended)
        # Kept in memory, because somebody may delete the workspace under a running pilot.
        self._report = _read_quietly(workspace.report)

    def run(self) -> int:
        """Supervise until the end has come, then bring it about; the exit code."""
        os.chdir("/")
        try:
            self._begin()
        except OSError as error:
            message = f"{self._plan.master.argv[0]} could not be started: {error.strerror}"
            self._master.done = True
            self._end(final_report.failure("node_resource", "condor.start", message, stage="handoff", retry=True))
        while not (self._budget is not None and self._master.done):
            self._loop.turn()
            self._look_at_alarm()
            self._look_at_requests()
        return self._conclude()

    def _begin(self) -> None:
        self._began = time.time()
        self._master.start()
        self._events.write("condor.started", pid=self._master.pid)
        ImageFailures(self._workspace.image_failures, self._loop, self._channel, self._events)
        Services(self._plan.services, self._loop, self._channel, self._service_died)
        if self._plan.join is not None:
            JoinCheck(self._plan.join, self._loop, self._joined, self._end)
            self._loop.call_later(self._plan.join.seconds, self._expect_startd)
        watch = self._watch = TimeWatch(
            self._plan.time,
            self._loop,
            retire=self._retire,
            busy=self._master.jobs_running,
            idle=self._retired,
            end=self._time_is_over,
            note=self._events.write,
        )
        Periodics(
            self._plan.periodics,
            self._loop,
            self._channel,
            self._periodic_failed,
            self._periodic_recovered,
            lambda attributes: self._told(watch, attributes),
        )
        if self._plan.token is not None:
            self._token = TokenWatch(self._plan.token, self._loop, self._channel, self._events, self._renewed)
        self._tell()

    def _told(self, watch: TimeWatch, attributes: Mapping[str, Any]) -> None:
        """The site may announce an end that comes before all that were known."""
        moment: Any = attributes.get(ANNOUNCED_ATTRIBUTE)
        if type(moment) in (int, float) and 0 < moment < LATEST and watch.announce(moment):
            self._tell_times("time.shortened", moment)
            self._tell()

    def _renewed(self) -> None:
        """Another token was installed; the pilot may live as long as that one allows."""
        if self._token is not None and self._watch is not None and self._watch.renew(self._token.expires):
            self._tell_times("time.renewed", self._token.expires)
            if not self._watch.retired:
                self._accept_again(RETIRING)
        self._tell()

    def _tell_times(self, event: str, end: float | None) -> None:
        to_retire, to_die = (None if moment is None else int(moment) for moment in
                             (self._plan.time.retire, self._plan.time.deadline))  # fmt: skip
        self._events.write(event, end=end, to_retire=to_retire, to_die=to_die)
        self._channel.update({TO_RETIRE: to_retire, TO_DIE: to_die})

    def _joined(self) -> None:
        self._events.write("pool.joined")
        if self._plan.join is not None:
            CollectorClock(self._plan.join, self._loop, self._compare_clocks)

    def _compare_clocks(self, offset: int) -> None:
        """Whatever it is the pilot goes on: its pool took it."""
        self._clock_offset = offset
        self._events.write("clock.compared", offset_seconds=offset, skew=abs(offset) > SKEW_SECONDS)

    def _expect_startd(self) -> None:
        """A startd that cannot start is started again by its master for ever; nobody would notice."""
        if not self._channel.ever_read:
            message = "the startd did not come up: it never asked for the pilot's attributes"
            hint = "its log is logs/StartLog in the output directory"
            self._end(final_report.failure("internal", "condor.startd_missing", message, hint=hint, stage="handoff"))

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
        self._not_accepting.add(DRAINING)
        self._channel.update({ACCEPTING_ATTRIBUTE: False, DRAINING_ATTRIBUTE: True})
        self._drain = Drain(self._loop, self._master.jobs_running, lambda: self._budget is not None, self._drained)
        self._tell()

    def _drained(self) -> None:
        self._events.write("pilot.drained", jobs=0)
        self._end(self._drain_problem)

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
                    "deadline": self._plan.time.deadline,
                    "not_accepting": sorted(self._not_accepting),
                    "services": self._services,
                    "suspended_seconds": round(self._loop.suspended_seconds, 1),
                    "token_expires": None if self._token is None else self._token.expires,
                }
            }
        )

    def _retire(self) -> None:
        if self._budget is None:
            self._events.write("pilot.retiring")
            self._not_accepting.add(RETIRING)
            self._channel.update({ACCEPTING_ATTRIBUTE: False})
            self._tell()

    def _retired(self) -> None:
        if self._budget is None:
            self._events.write("pilot.retired")
            self._end(self._drain_problem)

    def _time_is_over(self) -> None:
        if self._budget is not None:
            return
        if self._master.jobs_running():
            message = "the pilot's time was over while jobs were running"
            self._end(final_report.failure("preempted", "deadline.reached", message, retry=True))
        else:
            self._events.write("deadline.reached")
            self._end(self._drain_problem)

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
        if code == 0 or (code == NO_RESTART and self._master.startd_left()):
            self._end(self._drain_problem)
            return
        how = "could not be waited for" if code is None else f"exited {code}" if code > 0 else f"died of signal {-code}"
        message = f"condor_master {how}; its log is logs/MasterLog in the output directory"
        self._end(final_report.failure("internal", "condor.master_died", message, stage="run", retry=True))

    def _service_died(self, name: str, message: str, required: bool) -> None:
        if self._over or self._budget is not None:
            return
        self._events.write("service.died", service=name, message=message, required=required)
        self._services[name] = "died"
        self._tell()
        if required:
            # As for the master: a signal to every process of the pilot may just be on its way to this one.
            self._loop.call_later(SETTLE_SECONDS, lambda: self._service_missed(name, message))

    def _service_missed(self, name: str, message: str) -> None:
        if self._budget is None:
            hint = f"look at the service's log, logs/service-{name}-*"
            self._end(final_report.failure("plugin", "service.died", message, hint=hint, stage="run"))

    def _periodic_failed(self, name: str, message: str, on_failure: str) -> None:
        if self._over:
            return
        self._events.write("periodic.failed", task=name, message=message, on_failure=on_failure)
        if on_failure == "drain":
            self._begin_drain(final_report.failure("plugin", "periodic.failed", message, stage="run"))
        elif on_failure == "stop_accepting":
            self._not_accepting.add(name)
            self._channel.update({ACCEPTING_ATTRIBUTE: False})
            self._tell()

    def _periodic_recovered(self, name: str) -> None:
        self._accept_again(name)
        self._tell()

    def _accept_again(self, reason: str) -> None:
        """``reason`` keeps no more jobs away."""
        self._not_accepting.discard(reason)
        if not self._not_accepting and self._budget is None:
            self._channel.update({ACCEPTING_ATTRIBUTE: True})

    def _end(self, problem: dict[str, Any] | None, *, fast: bool = False) -> None:
        """Begin the end; a later call can only hasten what is under way."""
        if self._budget is None:
            self._budget = Budget(self._plan.time.budget_seconds)
            self._problem = problem
            self._channel.update({ACCEPTING_ATTRIBUTE: False})
            self._events.write("pilot.ending", by="keeper", failure=problem)
            self._tell()
        self._master.stop(fast=fast)

    def _conclude(self) -> int:
        self._over = True
        self._channel.close()
        report = final_report.read_report(self._workspace.report) or self._remembered()
        final_report.set_outcome(report, self._problem)
        if self._clock_offset is not None:
            add_to_report(report, self._clock_offset)
        records = read_history(self._plan.history) if self._plan.history else []
        alive = time.time() - self._began
        report["jobs"] = summarize(records, alive_seconds=alive)
        final_report.add_line(report, "run", "condor_master", self._began - self._plan.started, alive, "ok")
        for moment, seconds in self._suspensions:
            final_report.add_line(report, "run", "suspended", moment - self._plan.started, seconds, "warn")
        exit_code = self._exit_code()
        finish.conclude(
            self._workspace,
            output=self._plan.output,
            report=report,
            exit_code=exit_code,
            budget_seconds=RESERVE_SECONDS if self._budget is None else max(RESERVE_SECONDS, self._budget.left()),
            alarm=self._alarm,
            started=self._plan.started,
        )
        leaves = self._plan.time.leaves
        hold = self._plan.time.hold_seconds - alive
        self._hold(hold if leaves is None else min(hold, leaves - time.time()))
        return exit_code

    def _hold(self, seconds: float) -> None:
        """Keep the slot of a pilot that failed soon after the hand-off, so that a broken node does not eat a queue
        (design section 6). A signal, or the guardian's death, ends it."""
        if self._problem is None or self._problem["kind"] == "preempted" or seconds <= 0:
            return
        until = time.monotonic() + seconds
        self._loop.call_later(seconds, lambda: None)
        while time.monotonic() < until and self._alarm.reason() is None:
            self._loop.turn()
        if self._alarm.alone:
            finish.remove_the_rest(self._workspace, finish.Outcome(0, {}, []), None)
            finish.remove_runtime()

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
