"""What is watched while jobs run, and what is done when it is not well: told, no further jobs, or the end."""

from __future__ import annotations

from pilot_agent.lifecycle import final_report
from pilot_agent.lifecycle.benchmark_tasks import Benchmarks
from pilot_agent.lifecycle.black_hole import BlackHoleWatch
from pilot_agent.lifecycle.cvmfs_watch import CvmfsWatch
from pilot_agent.lifecycle.disk_watch import DiskWatch
from pilot_agent.lifecycle.gpu_watch import GpuWatch
from pilot_agent.lifecycle.image_failures import ImageFailures
from pilot_agent.lifecycle.periodic_tasks import Periodics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.acceptance import Acceptance
    from pilot_agent.lifecycle.black_hole import Suspicion
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import KeeperPlan, PeriodicPlan

BLACK_HOLE = "jobs fail at once"
"""Why no job is taken."""
BLACK_HOLE_ATTRIBUTE = "PilotBlackHole"
"""True once the pilot has found that jobs fail on this node."""


class Health:
    """Watches from ``begin`` on. ``drain(problem)`` lets the running jobs end and then the pilot,
    as long as it is not ``over()``."""

    __slots__ = ("_acceptance", "_channel", "_drain", "_events", "_loop", "_over")

    def __init__(
        self,
        loop: Loop,
        channel: AdChannel,
        events: EventLog,
        acceptance: Acceptance,
        *,
        drain: Callable[[dict[str, Any]], None],
        over: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._events = events
        self._acceptance = acceptance
        self._drain = drain
        self._over = over

    def begin(
        self,
        plan: KeeperPlan,
        image_failures: str,
        told: Callable[[Mapping[str, Any]], None],
        services: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:
        """Watch everything that the plan names. ``image_failures`` is the FIFO of the image hook; ``told(attributes)``
        hears every answer of a periodic task, which is told the ports of ``services()``."""
        ImageFailures(image_failures, self._loop, self._channel, self._events)
        DiskWatch(plan.disk, self._loop, self._channel, self._events, self._acceptance, self._disk_full)
        CvmfsWatch(plan.cvmfs, self._loop, self._channel, self._events, self._acceptance)
        Benchmarks(plan.benchmarks, self._loop, self._channel, self._events)
        if plan.history:
            BlackHoleWatch(plan.black_hole, plan.history, self._loop, self._jobs_fail)
        gpus = GpuWatch(self._events, self._acceptance)

        def hear(attributes: Mapping[str, Any]) -> None:
            gpus.hear(attributes)
            told(attributes)

        Periodics(
            plan.periodics,
            self._loop,
            self._channel,
            self._events,
            failed=self._task_failed,
            recovered=lambda task: self._acceptance.accept(_reason(task)),
            told=hear,
            services=services,
        )

    def _task_failed(self, task: PeriodicPlan, message: str) -> None:
        if self._over() or task.on_failure == "report":
            return
        self._acceptance.refuse(_reason(task))
        if task.on_failure == "drain":
            self._drain(final_report.failure("plugin", "periodic.failed", message, stage="run"))

    def _disk_full(self, message: str) -> None:
        if not self._over():
            self._events.write("disk.full", message=message)
            hint = "the site gives the pilot more scratch space, or its jobs ask for what they need with request_disk"
            problem = final_report.failure("node_resource", "disk.full", message, hint=hint, stage="run", retry=True)
            self._drain(problem)

    def _jobs_fail(self, suspicion: Suspicion) -> None:
        if self._over():
            return
        message = suspicion.message()
        self._events.write(
            "black_hole.suspected",
            message=message,
            ends=suspicion.ends,
            failed=suspicion.failed,
            not_started=suspicion.not_started,
            clusters=suspicion.clusters,
            users=suspicion.users,
        )
        self._channel.update({BLACK_HOLE_ATTRIBUTE: True})
        self._acceptance.refuse(BLACK_HOLE)
        hint = (
            "the site looks at this node, and at logs/StarterLog* in the output directory; where the jobs themselves "
            "are to blame, startd.black_hole_jobs says how many may fail, 0 any number"
        )
        problem = final_report.failure("node_resource", "node.black_hole", message, hint=hint, stage="run", retry=True)
        self._drain(problem)


def _reason(task: PeriodicPlan) -> str:
    """Why no job is taken: a task may have the name of one of the pilot's own reasons."""
    return f"test {task.name}"
