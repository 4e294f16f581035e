"""The readable account: pilots with their time lines and nodes, jobs with what they saw, what was cleaned up."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.testbed.demo.jobs import Job
from tests.testbed.demo.outcome import Outcome, PilotStory, Visit

NARROWEST, WIDEST = 80, 120
LABEL = 24
FACTS = (
    ("cpu.usable", "cores"),
    ("memory.usable_mib", "memory"),
    ("disk.workspace_free_mib", "disk"),
    ("gpu.count", "GPUs"),
    ("os.pretty_name", "system"),
    ("os.kernel", "kernel"),
    ("os.microarch", "CPU level"),
    ("userns.usable", "user namespaces"),
    ("fuse.usable", "FUSE"),
    ("cvmfs.repositories", "CVMFS"),
    ("batch.system", "batch system"),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time in a picture, seconds after the picture's beginning."""

    label: str
    start: float
    seconds: float
    note: str = ""


def terminal_width() -> int:
    """Columns to fill: the terminal's, but never so few or so many that the tables become hard to read."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, NARROWEST), WIDEST)


def account(outcome: Outcome, width: int | None = None) -> str:
    """The whole account, no line wider than ``width``."""
    columns = width or terminal_width()
    parts = [pilot_page(pilot, outcome.jobs, columns) for pilot in outcome.pilots]
    parts += [job_table(outcome, columns), visit_lines(outcome.visit, columns), cleaned_lines(outcome, columns)]
    return "\n\n".join(parts) + "\n"


def heading(text: str, width: int) -> str:
    """A title that runs over the whole width."""
    return f"== {text} ".ljust(width, "=")[:width]


def pilot_page(pilot: PilotStory, jobs: Iterable[Job], width: int) -> str:
    """One pilot: who it was, its start and its life as bars, its node."""
    title = f"pilot {pilot.pilot_id or pilot.row.id}, entry {pilot.row.entry}, {pilot.row.payload}"
    lines = [heading(title, width), *_ending(pilot, width)]
    if not pilot.report:
        return "\n".join(lines)
    start_up = start_up_bars(pilot.report)
    if start_up:
        lines += ["", "Start:", *picture(start_up, max(bar.start + bar.seconds for bar in start_up), width)]
    lines += ["", "Life:", *picture(life_bars(pilot, jobs), max(pilot.finished - pilot.started, 0.1), width)]
    lines += ["", "Node:", *node_lines(pilot.report, width)]
    return "\n".join(lines)


def _ending(pilot: PilotStory, width: int) -> list[str]:
    row = pilot.row
    lived = f", lived {pilot.finished - pilot.started:.1f} s" if pilot.finished else ""
    text = f"on {row.host or 'no node'}{lived}, {row.state} with exit status {row.exit_code}, outcome {row.outcome}"
    counted = ", ".join(f"{count} x {how}" for how, count in pilot.report.get("jobs", {}).get("ended", {}).items())
    if counted:
        text += f"; jobs: {counted}"
    if row.message:
        text += f"; {row.message}"
    return textwrap.wrap(text, width)


def start_up_bars(report: Mapping[str, Any]) -> list[Bar]:
    """The stages from the pilot's start to the start of HTCondor."""
    stages = [entry for entry in report.get("timeline", []) if entry["what"] in ("stage", "plugins")]
    return [Bar(entry["stage"], entry["start"], entry["seconds"]) for entry in stages]


def life_bars(pilot: PilotStory, jobs: Iterable[Job]) -> list[Bar]:
    """Start, each job, teardown, over the pilot's whole life."""
    timeline = pilot.report.get("timeline", [])
    start_up = start_up_bars(pilot.report)
    bars = [Bar("start", 0.0, max((bar.start + bar.seconds for bar in start_up), default=0.0))]
    bars += [Bar("HTCondor", entry["start"], entry["seconds"]) for entry in timeline if entry["stage"] == "run"]
    mine = sorted((job for job in jobs if pilot.ran(job) and job.ended), key=lambda job: job.started)
    bars += [
        Bar(f"job {job.number} {job.plan.name}", job.started - pilot.started, job.ended - job.started) for job in mine
    ]
    return bars + [
        Bar("teardown", entry["start"], entry["seconds"]) for entry in timeline if entry["stage"] == "teardown"
    ]


def picture(bars: Sequence[Bar], total: float, width: int) -> list[str]:
    """Bars under each other on one scale from 0 to ``total`` seconds."""
    room = width - LABEL - 16
    lines = []
    for bar in bars:
        begin = min(max(int(bar.start / total * room), 0), room - 1)
        length = max(1, min(round(bar.seconds / total * room), room - begin))
        drawn = " " * begin + "#" * length
        lines.append(f"  {bar.label[:LABEL]:<{LABEL}} {bar.seconds:>8.3f} s |{drawn:<{room}}|")
    return lines


def node_lines(report: Mapping[str, Any], width: int) -> list[str]:
    """The node's facts, and what was decided about containers."""
    words = [f"{label} {text}" for name, label in FACTS if (text := _fact(report, name))]
    lines = textwrap.wrap("; ".join(words), width - 2, initial_indent="  ", subsequent_indent="  ")
    container = report.get("container") or {}
    if container:
        runtime = container.get("runtime") or {}
        text = f"containers {container.get('decision')} ({container.get('cell')})"
        if runtime:
            text += f" with {runtime.get('path')} {runtime.get('version')}, {runtime.get('mode')}"
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ")
    for verdict in container.get("why", []):
        mark = "taken" if verdict["taken"] else "not"
        text = f"image {verdict['platform']}: {verdict['candidate']} {mark}: {verdict['reason']}"
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ")
    for service in report.get("services", []):
        lines.append(f"  service {service['name']}: {service['status']}")
    for score in report.get("benchmarks", []):
        if score["score"] is not None:
            lines.append(f"  benchmark {score['name']}: {score['score']:.4g} {score['unit']}")
    return lines


def _fact(report: Mapping[str, Any], name: str) -> str:
    group, _, key = name.partition(".")
    fact = report.get("node", {}).get(group, {}).get(key)
    if fact is None:
        return ""
    if fact["status"] != "known":
        return str(fact["status"])
    value = fact["value"]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item.get("repository", item)) if isinstance(item, dict) else str(item) for item in value)
    unit = fact.get("unit") or ""
    return f"{value} {unit}".strip() if name.endswith("_mib") else str(value)


def job_table(outcome: Outcome, width: int) -> str:
    """What each job asked for, where it ran, what it saw, how it ended."""
    rows = [("job", "asked for", "saw", "uid", "on", "exit", "token", "s")]
    for job in outcome.jobs:
        rows.append(
            (
                f"{job.number} {job.plan.name}",
                job.plan.asks,
                job.said.get("os", "nothing"),
                job.said.get("uid", "?"),
                job.said.get("host", "?"),
                job.state if job.exit_code is None else str(job.exit_code),
                _token(job),
                f"{job.ended - job.started:.0f}" if job.ended else "",
            )
        )
    return "\n".join([heading("jobs", width), *table(rows, width)])


def _token(job: Job) -> str:
    if "tokens" not in job.said:
        return "?"
    return "SEEN" if job.said["tokens"].strip() else "unseen"


def table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Aligned columns; the second is cut where the whole would not fit."""
    sizes = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    sizes[1] = max(4, sizes[1] - max(0, sum(sizes) + 2 * (len(sizes) - 1) - width))
    return ["  ".join(f"{cell[:size]:<{size}}" for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows]


def visit_lines(visit: Visit | None, width: int) -> str:
    """What condor_ssh_to_job showed."""
    title = heading("condor_ssh_to_job", width)
    if visit is None:
        return f"{title}\nthere was no visit"
    said = {name: visit.said.get(name, "?") for name in ("os", "directory", "namespace")}
    text = (
        f"into job {visit.job}: sees {said['os']} in {said['directory']}, the job's own mount namespace "
        f"{said['namespace']}, exit status {visit.exit_code} came back after {visit.seconds:.1f} s"
    )
    if "os" not in visit.said:
        text += f"; it said: {visit.errors.strip()[-300:]}"
    return "\n".join([title, *textwrap.wrap(text, width)])


def cleaned_lines(outcome: Outcome, width: int) -> str:
    """What the worker nodes hold now that they did not hold before."""
    lines = [heading("cleaned up", width)]
    for host, traces in outcome.left.items():
        held = outcome.during[host]
        then = f"{len(held.processes)} processes, {len(held.mounts)} mounts and {len(held.files)} files"
        now = "now there is none" if traces.none else f"LEFT: {traces}"
        lines += textwrap.wrap(f"{host}: {then} while its pilot ran; {now}", width, subsequent_indent="  ")
    for pilot in outcome.pilots:
        if not pilot.report:
            continue
        leftovers = pilot.report.get("leftovers", [])
        idle = outcome.idle_seconds(pilot)
        said = (
            f"pilot {pilot.pilot_id}: left after {idle:.0f} s without a job, reports {len(leftovers) or 'no'} leftovers"
        )
        lines += textwrap.wrap(said, width, subsequent_indent="  ")
    return "\n".join(lines)
