"""When the daemons end by themselves: nobody came, nobody comes any more, nobody looks after them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from pilot_agent.startd import plan as words

if TYPE_CHECKING:
    from pilot_agent.startd.plan import StartdPlan

UPDATE_SECONDS = 270
UPDATE_SPREAD_SECONDS = 60
SHORTEST_UPDATE_SECONDS = 2

# Of every slot in the ads of all: HTCondor looks at one slot's ad when it decides whether to end.
SLOT_ATTRIBUTES = ("State", "EnteredCurrentState", "NumDynamicSlots", "NumDynamicSlotsTime")


def life_knobs(plan: StartdPlan) -> dict[str, str]:
    """When the daemons report, and when they end by themselves."""
    # Pilots started together must not report together for the rest of their lives. HTCondor looks whether a claim is
    # there only when it reports, so a short patience needs more reports.
    usual = UPDATE_SECONDS + zlib.crc32(plan.name.encode()) % UPDATE_SPREAD_SECONDS
    tail = plan.tail_shutdown_seconds
    patience = plan.idle_shutdown_seconds if tail is None else min(plan.idle_shutdown_seconds, tail)
    interval = str(max(SHORTEST_UPDATE_SECONDS, min(usual, patience // 4)))
    spoken = f"ifThenElse(isUndefined(MY.{words.AD_TIME_ATTRIBUTE}), MY.DaemonStartTime, MY.{words.AD_TIME_ATTRIBUTE})"
    # Nobody supervises the daemons any more, neither keeper nor guardian: they must not outlive the pilot.
    orphaned = f'(MY.MyType =?= "Machine") && (time() - {spoken} > {plan.orphan_seconds})'
    # The keeper ends them before that; this is for the case that it cannot.
    overdue = f"time() > MY.{words.TIME_ATTRIBUTES[1]} + {plan.vacate_seconds}"
    return {
        "UPDATE_INTERVAL": interval,
        "MASTER_UPDATE_INTERVAL": interval,
        "STARTD_NOCLAIM_SHUTDOWN": str(plan.idle_shutdown_seconds),
        "STARTD.DAEMON_SHUTDOWN_FAST": f"(({orphaned}) || ({overdue})) =?= True",
        **_tail(plan),
        "MASTER.DAEMON_SHUTDOWN_FAST": "(STARTD_StartTime =?= 0)",
        "MASTER_BACKOFF_CEILING": "60",
        # A site that updates its HTCondor must not restart the pilot's.
        "MASTER_NEW_BINARY_RESTART": "NEVER",
        "MAX_TIME_SKIP": "1200",
    }


def _tail(plan: StartdPlan) -> dict[str, str]:
    """Ends a startd that had jobs and has had none for so long; before the first one it waits as it does without."""
    seconds = plan.tail_shutdown_seconds
    if seconds is None:
        return {}
    kinds = [group.partitionable for group in plan.slot_groups for _ in range(group.count)]
    if kinds == [True]:
        idle = f"MY.PartitionableSlot =?= True && {_idle('MY.', seconds, partitionable=True)}"
        return {"STARTD.DAEMON_SHUTDOWN": f"(MY.JobStarts > 0 && {idle}) =?= True"}
    idle = " && ".join(
        _idle(f"MY.slot{number}_", seconds, partitionable=partitionable)
        for number, partitionable in enumerate(kinds, start=1)
    )
    return {
        "STARTD_SLOT_ATTRS": ", ".join(SLOT_ATTRIBUTES),
        "STARTD.DAEMON_SHUTDOWN": f"(MY.JobStarts > 0 && {idle}) =?= True",
    }


def _idle(prefix: str, seconds: int, *, partitionable: bool) -> str:
    """Whether one slot has had no job for so long: of one that is divided, since when it has no part."""
    if partitionable:
        since = f"time() - {prefix}NumDynamicSlotsTime > {seconds}"
        return f"{prefix}NumDynamicSlots =?= 0 && {since}"
    return f'{prefix}State =?= "Unclaimed" && time() - {prefix}EnteredCurrentState > {seconds}'
