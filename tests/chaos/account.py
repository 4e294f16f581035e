"""What the suite prints: a line for each point, a table of faults and stages, and the last line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.evidence import Evidence
from tests.chaos.faults import FAULTS
from tests.chaos.gates import STAGES

SHORT = {
    "configure": "con", "probe": "pro", "mount": "mou", "setup_early": "s.e", "container": "cnt", "validate": "val",
    "setup_late": "s.l", "service": "ser", "benchmark": "ben", "advertise": "adv", "handoff": "han", "idle": "idl",
    "running": "run", "teardown": "tea",
}  # fmt: skip
"""Stages as the table's heads."""
NAME_WIDTH = 18


def line(evidence: Evidence, count: int) -> str:
    """The progress line of one point; its jobs are counted at the end."""
    verdict = "ok" if evidence.survived and not evidence.leftovers else "FAILED"
    parts = [f"exit {evidence.exit_code}", f"report {evidence.report}"]
    if evidence.swept_by_next_pilot:
        parts.append("swept by the next pilot")
    if evidence.leftovers:
        parts.append(f"{len(evidence.leftovers)} left")
    place = f"{evidence.fault} at {evidence.stage} ({evidence.payload})"
    return f"[{evidence.number:3}/{count}] {place:36} {verdict:6} {evidence.seconds:5.1f} s  {', '.join(parts)}"


def table(all_evidence: Sequence[Evidence]) -> str:
    """Faults x stages: how many points were tried, `!` where one of them was not survived."""
    heads = " ".join(f"{SHORT[stage]:>3}" for stage in STAGES)
    lines = [f"{'fault':{NAME_WIDTH}} {heads}"]
    for fault in FAULTS.values():
        cells = []
        for stage in STAGES:
            here = [one for one in all_evidence if (one.fault, one.stage) == (fault.name, stage)]
            count = f"{len(here)}{'' if all(one.good for one in here) else '!'}"
            cells.append(f"{count if here else '.' if stage in fault.stages else '':>3}")
        lines.append(f"{fault.name:{NAME_WIDTH}} {' '.join(cells)}".rstrip())
    lines.append(
        "a number: points tried there, ! not survived; a dot: not chosen this time; nothing: means nothing there"
    )
    return "\n".join(lines)


def failures(all_evidence: Sequence[Evidence], paths: Mapping[int, Path]) -> str:
    """Each point that was not good: what was wrong, where its evidence is, and how to have it again."""
    lines = []
    for one in all_evidence:
        if one.good:
            continue
        lines.append(f"NOT SURVIVED {one.name}: {one.what}")
        lines += [f"  {problem}" for problem in one.problems]
        lines += [f"  left on {one.node}: {item}" for item in one.leftovers[:10]]
        if one.jobs_lost:
            lines.append(f"  {one.jobs_lost} jobs lost: {one.jobs}")
        lines.append(f"  evidence: {paths[one.number]}")
        lines.append(f"  again: {one.reproduce}")
    return "\n".join(lines)


def last_line(all_evidence: Sequence[Evidence]) -> str:
    """The verdict, in words that programs may read."""
    survived = sum(one.survived for one in all_evidence)
    left = sum(len(one.leftovers) for one in all_evidence)
    lost = sum(one.jobs_lost for one in all_evidence)
    return f"chaos: {len(all_evidence)} tried, {survived} survived, {left} leftovers, {lost} jobs lost"
