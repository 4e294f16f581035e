"""The services of one pilot: started in order of their needs, watched, started again, and stopped the other way round.

The same for both halves of a pilot's life: the service stage begins it, and the keeper goes on with the same state. It
waits for nothing; one timer looks at logs and memory.
"""

from __future__ import annotations

import os
import time

from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.identity import Identity, boot_id, own_pid_namespace
from pilot_agent.lifecycle.processes import stop_process
from pilot_agent.light import signal
from pilot_agent.pidfd import open_pidfd
from pilot_agent.services.devices import gone
from pilot_agent.services.members import is_same, kill, members, memory_mib
from pilot_agent.services.unit import CLEAR_SECONDS, MOST_CLEARS, Unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.journal import Journal
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.services.node_share import NodeShare
    from pilot_agent.services.plan import ServicePlan

LOST = ("failed", "stopped")
"""The states from which a service does not come back."""
MEMORY_LOOK_SECONDS = 5.0
FOLLOW_SECONDS = 1.0
"""How often a process that is no child is looked at where the kernel does not tell of its end."""


class Supervisor:
    """Begins with ``begin``. ``changed(name, status, ports, attributes)`` is called at every change of a service's
    state, ``gave_up(name, message, required)`` when one does not come back. With ``watches`` it asks for liveness and
    metrics and looks at logs and memory; without a journal nothing is recorded."""

    def __init__(
        self,
        plans: Sequence[ServicePlan],
        loop: Loop,
        events: EventLog,
        journal: Journal | None,
        *,
        changed: Callable[[str, str, dict[str, int], dict[str, Any]], None],
        gave_up: Callable[[str, str, bool], None],
        watches: bool = True,
    ) -> None:
        self.loop = loop
        self.watches = watches
        self.over = False
        self.units = {plan.name: Unit(plan, self) for plan in plans}
        self._shares = _shared_by_pilots(self)
        self._events = events
        self._journal = journal
        self._told_change = changed
        self._told_loss = gave_up
        self._due = False
        self._looked = self._looked_at_memory = time.monotonic()

    def begin(self) -> None:
        """Go on with what runs, and start what can be started."""
        for unit in self.units.values():
            unit.adopt()
            if unit.plan.name in self._shares:
                self._shares[unit.plan.name].adopt()
            standing = unit.standing
            self._told_change(unit.plan.name, standing.status, dict(standing.ports), unit.plan.filled_attributes())
            if standing.status in LOST:
                continue
            if standing.status == "backoff":
                standing.status = "waiting"
        if self.units:
            self._look_for_starts()
            self._look()

    def settled(self) -> bool:
        """Whether each service is ready or does not come. One that just ended, and is still cleared away, is not."""
        return all(
            unit.standing.status in ("shared", *LOST)
            or (unit.running() and unit.standing.status in ("ready", "unhealthy"))
            for unit in self.units.values()
        )

    def at_rest(self) -> bool:
        """Whether another process can go on from here: no end, and no question by a program, is under way."""
        return all(unit.at_rest() for unit in self.units.values())

    def busy(self) -> bool:
        """Whether a program that asks for a service's state still runs."""
        return any(unit.busy() for unit in self.units.values())

    def states(self) -> list[dict[str, Any]]:
        """All services in the form of the report."""
        now = time.monotonic()
        found = []
        for unit in self.units.values():
            state = unit.plan.state()
            if unit.standing.status in ("ready", "unhealthy"):
                state["ready_seconds"] = round(state["ready_seconds"] + now - unit.standing.ready_since, 3)
            found.append(state)
        return found

    def statuses(self) -> dict[str, str]:
        """Name -> status."""
        return {name: unit.standing.status for name, unit in self.units.items()}

    # What services ask of their supervisor

    def changed(self, unit: Unit) -> None:
        """A service is in another state."""
        standing = unit.standing
        if unit.plan.name in self._shares:
            self._shares[unit.plan.name].told()
        self._told_change(unit.plan.name, standing.status, dict(standing.ports), unit.plan.filled_attributes())
        if not self._due:
            self._due = True
            self.loop.call_later(0, self._look_for_starts)

    def gave_up(self, unit: Unit) -> None:
        """A service does not come back."""
        if not self.over:
            self._told_loss(unit.plan.name, unit.standing.message, unit.plan.required)

    def tell(self, what: str, unit: Unit, **data: object) -> None:
        """An event of a service."""
        self._events.write(f"service.{what}", service=unit.plan.name, **data)

    def ports_taken(self) -> list[int]:
        """The numbers that services of this pilot have."""
        return [number for unit in self.units.values() for number in unit.standing.ports.values()]

    def record(self, plan: ServicePlan) -> int:
        """Note a process that is about to be started; its number. Raises ``OSError``: then it must not be started."""
        if self._journal is None:
            return 0
        number: int = getattr(signal, plan.stop_signal)
        return self._journal.process(f"service {plan.name}", stop_signal=number, stop_seconds=plan.stop_seconds)

    def recorded(self, entry: int, identity: Identity | None) -> None:
        """Note which process that became. One that cannot be noted is still a descendant, which the end finds."""
        if self._journal is not None and identity is not None:
            try:
                self._journal.started(entry, identity)
            except OSError:
                return

    def closed(self, entry: int) -> None:
        """Note that it is no more."""
        if self._journal is not None and entry:
            try:
                self._journal.close(entry)
            except OSError:
                return

    def follow(self, pid: int, start_ticks: int, gone: Callable[[], None]) -> None:
        """Call ``gone`` when a process ends that is no child of this one."""
        try:
            descriptor = open_pidfd(pid) if is_same(pid, start_ticks) else -1
        except ProcessLookupError:
            descriptor = -1
        if descriptor == -1:
            self.loop.call_later(0, gone)
        elif descriptor is None:
            again = lambda: self.follow(pid, start_ticks, gone)  # noqa: E731 - a timer's action
            self.loop.call_later(FOLLOW_SECONDS, again)
        else:
            seen: int = descriptor

            def ended() -> None:
                self.loop.forget(seen)
                os.close(seen)
                gone()

            self.loop.watch(seen, ended)

    # Starts in order

    def _look_for_starts(self) -> None:
        self._due = False
        if self.over:
            return
        for unit in list(self.units.values()):
            if unit.standing.status != "waiting":
                continue
            lost = [name for name in unit.plan.needs if self._status(name) in LOST]
            if lost:
                unit.refuse_for(self.units[lost[0]].standing, lost[0])
            elif self._may_start(unit):
                self._shares.get(unit.plan.name, unit).start()

    def lacks(self, plan: ServicePlan) -> str:
        """What a service needs and cannot have now; empty when it can be started. Cores and memory are its own: they
        were taken from the jobs of this pilot too."""
        down = [name for name in plan.needs if self._status(name) not in ("ready", "shared")]
        if down:
            return f"it needs the service {down[0]}, which is {self._status(down[0])}"
        missing = gone(plan.devices)
        return f"the driver lists its GPU {missing[0]} no more" if missing else ""

    def _may_start(self, unit: Unit) -> bool:
        if any(self._status(name) not in ("ready", "shared") for name in unit.plan.needs):
            return False
        if unit.standing.was_ready:
            return True
        return all(self._status(name) not in ("waiting", "starting", "backoff") for name in unit.plan.after)

    def _status(self, name: str) -> str:
        unit = self.units.get(name)
        return "ready" if unit is None else unit.standing.status

    # Logs and memory

    def _look(self) -> None:
        if self.over:
            return
        now = time.monotonic()
        seconds, self._looked = max(0.001, now - self._looked), now
        pause = 1.0
        for unit in self.units.values():
            if unit.running():
                if unit.log.look(seconds):
                    self.tell("log_rotated", unit)
                pause = min(pause, unit.log.pause)
        if now - self._looked_at_memory >= MEMORY_LOOK_SECONDS:
            self._looked_at_memory = now
            self._look_at_memory()
        self.loop.call_later(pause, self._look)

    def _look_at_memory(self) -> None:
        for unit in self.units.values():
            limit = unit.plan.memory_mib
            if limit and unit.running():
                used = memory_mib(members(unit.standing.pid, unit.standing.marker), limit)
                if used > limit:
                    unit.end(f"used {used} MiB of memory, its limit is {limit} MiB (memory_mib)", "memory")

    # The end

    def stop(self, budget: Budget) -> None:
        """Stop all, each before what it needs, those that need nothing of each other at once; within the budget."""
        self.over = True
        left = [unit for unit in self.units.values() if unit.running()]
        while left:
            needed = {name for unit in left for name in (*unit.plan.needs, *unit.plan.after)}
            wave = [unit for unit in left if unit.plan.name not in needed] or left
            stop_together(wave, budget)
            left = [unit for unit in left if unit not in wave]
        for unit in self.units.values():
            if unit.standing.status in ("waiting", "backoff"):
                unit.standing.status, unit.standing.message = "stopped", "was not running at the pilot's end"
        for share in self._shares.values():
            share.release()


def _shared_by_pilots(supervisor: Supervisor) -> dict[str, NodeShare]:
    """What stands before the start of services of which the node has one for all pilots; most pilots have none."""
    units = [unit for unit in supervisor.units.values() if unit.plan.per == "node"]
    if not units:
        return {}
    from pilot_agent.services.node_share import NodeShare

    return {unit.plan.name: NodeShare(unit, supervisor) for unit in units}


def stop_all(plans: Sequence[ServicePlan], events: EventLog) -> None:
    """Stop services that this process started and supervises no longer, each with its own time."""
    loop: Any = None
    supervisor = Supervisor(plans, loop, events, None, changed=lambda *_: None, gave_up=lambda *_: None)
    supervisor.stop(Budget(sum(plan.stop_seconds + 1.0 for plan in plans)))


def stop_together(units: Sequence[Unit], budget: Budget) -> None:
    """Stop services at once: each by its signal, after its time by KILL, with all that it left."""
    for unit in units:
        unit.ask_to_stop()
    began = time.monotonic()
    for unit in units:
        standing = unit.standing
        identity = Identity(standing.pid, standing.start_ticks, boot_id(), own_pid_namespace())
        seconds = budget.at_most(max(0.0, unit.plan.stop_seconds - (time.monotonic() - began)))
        # CONT does nothing to what was told already: a second request would make some programs leave in haste.
        gone = stop_process(identity, signal.SIGCONT, seconds)
        if not gone:
            kill(members(standing.pid, standing.marker))
            gone = stop_process(identity, signal.SIGKILL, budget.at_most(1.0))
        _clear(standing.marker, budget)
        if gone:
            if standing.status in ("ready", "unhealthy"):
                standing.ready_seconds += time.monotonic() - standing.ready_since
            standing.status, standing.message, standing.pid = "stopped", "stopped at the pilot's end", 0


def _clear(marker: str, budget: Budget) -> None:
    """End all that a service left, and wait until it is gone."""
    for _ in range(MOST_CLEARS):
        left = members(0, marker)
        if not left:
            return
        kill(left)
        time.sleep(budget.at_most(CLEAR_SECONDS))
