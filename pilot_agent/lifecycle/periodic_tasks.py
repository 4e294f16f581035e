"""The plugins' and sites' periodic tasks: run by the keeper, one run of each at a time, and heard through the one ad
channel. A child has a deadline and its output a limit; what it answers is not trusted."""

from __future__ import annotations

import time

from pilot_agent.lifecycle.gpu_watch import LOST_ATTRIBUTE
from pilot_agent.lifecycle.loop import OUTPUT_LIMIT_BYTES, Task
from pilot_agent.lifecycle.task_tally import TALLY_ATTRIBUTES, TaskTally
from pilot_agent.lifecycle.timewatch import ANNOUNCED_ATTRIBUTE
from pilot_agent.light import dumps, loads
from pilot_agent.services.variables import PORTS_VARIABLE
from pilot_agent.startd.classad import LiteralError, attribute_name, literal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import PeriodicPlan

SHORTEST_PERIOD_SECONDS = 1.0
FAILING_ATTRIBUTE = "PilotFailingTests"
"""Names of the tasks whose last run failed, separated by ", "; undefined without."""
MOST_ATTRIBUTES = 64
LONGEST_VALUE = 2048
"""Characters of one value as a ClassAd expression."""
LONGEST_NAME = 128
MESSAGE_LIMIT = 500
OWN_PREFIXES = ("pilot", "glidein_to", "service_")
"""Attributes by which the pilot itself says whether it takes jobs."""
OWN_ATTRIBUTES = frozenset(
    (
        *("activity", "cpus", "disk", "glidein_expire", "gpus", "machine", "memory", "myaddress", "mycurrenttime"),
        *("mytype", "name", "rank", "requirements", "slotid", "slottype", "start", "startdipaddr", "state"),
        *("targettype", "partitionableslot", "dynamicslot", "lastheardfrom", "daemonstarttime", "assignedgpus"),
        *("availablegpus", "machineresources"),
    )
)
"""What HTCondor itself says of a slot."""
HEARD_ATTRIBUTES = (ANNOUNCED_ATTRIBUTE, LOST_ATTRIBUTE)
"""By which the pilot's own tasks tell the keeper something."""
COUNTED = frozenset(name.lower() for name in TALLY_ATTRIBUTES)


class Periodics:
    """Runs the tasks from its making on. ``failed(plan, message)`` and ``recovered(plan)`` when a task begins to fail
    and when it passes again, ``told(attributes)`` for each answer; ``services()`` are the ports of those that jobs can
    use, which each run is told."""

    def __init__(
        self,
        plans: Sequence[PeriodicPlan],
        loop: Loop,
        channel: AdChannel,
        events: EventLog,
        *,
        failed: Callable[[PeriodicPlan, str], None],
        recovered: Callable[[PeriodicPlan], None],
        told: Callable[[Mapping[str, Any]], None],
        services: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._events = events
        self._failed = failed
        self._recovered = recovered
        self._told = told
        self._services = services
        self._problems: dict[str, str] = {}
        self._tally = TaskTally(channel)
        self._refused: set[tuple[str, str]] = set()
        for plan in plans:
            loop.call_later(0, lambda plan=plan: self._run(plan))  # type: ignore[misc]

    def _run(self, plan: PeriodicPlan) -> None:
        due = time.monotonic() + max(plan.period_seconds, SHORTEST_PERIOD_SECONDS)
        Task(
            self._loop,
            plan.argv,
            {**plan.environment, PORTS_VARIABLE: dumps(self._services())},
            plan.timeout_seconds,
            lambda code, output: self._ended(plan, due, code, output),
            both_outputs=False,
        )

    def _ended(self, plan: PeriodicPlan, due: float, code: int | None, output: bytes) -> None:
        """The next run comes a period after this one began, and not before it has ended."""
        self._loop.call_later(max(due - time.monotonic(), 0.0), lambda: self._run(plan))
        attributes: dict[str, Any] = {}
        problem = f"exited {code}" if code else f"did not end by itself within {plan.timeout_seconds:g} s"
        if code == 0:
            attributes, problem = _answer(output)
        message = f"the periodic task {plan.name} {problem}" if problem else ""
        self._tally.ended(plan.name, message)
        if message:
            self._fail(plan, message)
            return
        self._channel.update(self._allowed(plan, attributes), state=False)
        self._told(attributes)
        if self._problems.pop(plan.name, None) is not None:
            self._events.write("periodic.recovered", task=plan.name)
            self._advertise()
            self._recovered(plan)

    def _fail(self, plan: PeriodicPlan, message: str) -> None:
        """Told when it begins or becomes another failure, not with every run."""
        if self._problems.get(plan.name) == message:
            return
        self._problems[plan.name] = message
        self._events.write("periodic.failed", task=plan.name, message=message, on_failure=plan.on_failure)
        self._advertise()
        self._failed(plan, message)

    def _advertise(self) -> None:
        self._channel.update({FAILING_ATTRIBUTE: ", ".join(sorted(self._problems)) or None})

    def _allowed(self, plan: PeriodicPlan, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes that a task may set; each other one is told once."""
        allowed: dict[str, Any] = {}
        for name, value in attributes.items():
            problem = _refusal(name, value)
            if not problem and name not in allowed and len(allowed) >= MOST_ATTRIBUTES:
                problem = f"a task may set {MOST_ATTRIBUTES} attributes at most"
            if not problem:
                allowed[name] = value
            elif len(self._refused) < MOST_ATTRIBUTES and (plan.name, name) not in self._refused:
                self._refused.add((plan.name, name))
                self._events.write(
                    "periodic.refused", task=plan.name, attribute=name[:LONGEST_NAME], message=problem[:MESSAGE_LIMIT]
                )
        return allowed


def _answer(output: bytes) -> tuple[dict[str, Any], str]:
    """The mapping that a task answered, or what is wrong with it."""
    if len(output) >= OUTPUT_LIMIT_BYTES:
        return {}, f"answered more than {OUTPUT_LIMIT_BYTES >> 10} KiB"
    try:
        attributes = loads(output) if output.strip() else {}
    except (ValueError, RecursionError):
        return {}, "answered no JSON"
    return (attributes, "") if isinstance(attributes, dict) else ({}, "answered no mapping of attributes")


def _refusal(name: str, value: Any) -> str:
    """Why a task may not set this attribute; empty when it may."""
    low = name.lower()
    if (low.startswith(OWN_PREFIXES) and name not in HEARD_ATTRIBUTES) or low in OWN_ATTRIBUTES | COUNTED:
        return "the pilot or HTCondor itself gives it a value"
    if len(name) > LONGEST_NAME:
        return f"a name has {LONGEST_NAME} characters at most"
    try:
        attribute_name(name)
        text = literal(value)
    except LiteralError as error:
        return str(error)
    return "" if len(text) <= LONGEST_VALUE else f"a value has {LONGEST_VALUE} characters at most"
