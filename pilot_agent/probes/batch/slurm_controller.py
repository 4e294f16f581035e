"""What only Slurm's controller tells: asked once, with a deadline, where scontrol(1) is there.

Releases before 22.05 do not set ``SLURM_JOB_END_TIME``; and whether a node drains is in no variable. Times are asked
for in UTC, and in the standard form whatever the site prefers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from pilot_agent.probes.answers import Command
from pilot_agent.probes.batch.batch_commands import ask, utc_seconds, why_not
from pilot_agent.probes.batch.batch_job import Allocation, Bound
from pilot_agent.probes.batch.slurm import node_name
from pilot_agent.probes.node import Node

_TIME = r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})"
_PAIR = r"(?:^|\s)([A-Z][A-Za-z]{1,40})=(\S*)"
_NODE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
_JOB_ID = r"[0-9]{1,12}"
_DRAINED = ("DRAIN", "DRAINING", "DRAINED")


def ask_controller(node: Node, environment: Mapping[str, str], found: Allocation) -> Allocation:
    """The allocation with the job's times, if its variables lack them, and whether the node drains. Nothing changes
    when scontrol is missing, fails, or takes longer than 3 s; a controller that failed once is not asked again."""
    name = node_name(node, environment)
    if found.draining is None and re.fullmatch(_NODE_NAME, name):
        answer = _ask(node, environment, "node", name)
        found = replace(found, draining=parse_drains(answer), problem=why_not(answer))
        if not answer.ok:
            return found
    if (not found.ends or found.start_time is None) and re.fullmatch(_JOB_ID, found.job_id or ""):
        answer = _ask(node, environment, "job", found.job_id or "")
        told = parse_pairs(answer)
        found = replace(
            found,
            ends=found.ends or _times(told, "EndTime"),
            start_time=found.start_time or _time(told, "StartTime"),
            problem=found.problem or why_not(answer),
        )
    return found


def _ask(node: Node, environment: Mapping[str, str], kind: str, name: str) -> Command:
    return ask(node, ("scontrol", "--oneliner", "show", kind, name), environment, ("SLURM_CONF",))


def parse_pairs(answer: Command) -> dict[str, str]:
    """The ``Name=value`` words of the first line of an answer, first ones first; empty unless it succeeded."""
    lines = answer.stdout.splitlines() if answer.ok else []
    found: dict[str, str] = {}
    for name, value in re.findall(_PAIR, lines[0]) if lines else ():
        found.setdefault(name, value)
    return found


def parse_drains(answer: Command) -> bool | None:
    """Whether a node takes no further jobs (scontrol(1), node states ``IDLE+DRAIN``); None when it is not told."""
    state = parse_pairs(answer).get("State", "")
    return any(flag in _DRAINED for flag in state.rstrip("*~#!%$@^-").split("+")) if state else None


def _times(told: Mapping[str, str], name: str) -> tuple[Bound, ...]:
    found = _time(told, name)
    return () if found is None else (found,)


def _time(told: Mapping[str, str], name: str) -> Bound | None:
    match = re.fullmatch(_TIME, told.get(name, ""))
    seconds = utc_seconds(*(int(part) for part in match.groups())) if match else None
    return None if seconds is None else Bound(seconds, f"scontrol {name}")
