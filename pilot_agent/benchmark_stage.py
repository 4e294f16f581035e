"""The benchmark stage: each benchmark in its turn, within the time that all of them may take from the first job."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pilot_agent import child, tasks
from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.collect import Declared
from pilot_agent.facts import known_value
from pilot_agent.files import write_json
from pilot_agent.hookspecs import Benchmark
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.final_report import SCORE_PREFIX
from pilot_agent.lifecycle.plan import PeriodicPlan
from pilot_agent.model import BenchmarkScore, Json, PilotError, TimelineEntry
from pilot_agent.ordering import in_order
from pilot_agent.plugins.measuring import Job, Measured, explain, measure
from pilot_agent.process import Result, Runner
from pilot_agent.state import State

if TYPE_CHECKING:
    from pilot_agent.stages import Session

GRACE_SECONDS = 15.0
"""What the process around a benchmark may take longer than that: it ends what is left, and writes."""
OUTPUT_LIMIT_BYTES = 4 << 20
BESIDE_PATIENCE_SECONDS = 600.0
"""How long one beside the jobs waits while another pilot on the node runs the same."""


def run_before(session: Session, state: State) -> State:
    """Run those that come before the jobs, as far as their time fits ``benchmarks.budget_seconds``."""
    budget = Budget(float(state.config.get("benchmarks.budget_seconds")))
    for declared in in_order(session.loaded.of("pilot_benchmarks")):
        if declared.record.when == "before":
            state = run_one(session, state, declared, budget)
    return state


def run_one(session: Session, state: State, declared: Declared, budget: Budget, *, use_kept: bool = True) -> State:
    """The state with the score of one more benchmark, or with why it has none."""
    record: Benchmark = declared.record
    began, ticks = session.events.seconds(), time.monotonic()
    measured = _measured(session, state, declared, budget, use_kept=use_kept)
    score = measured.score
    session.events.write(
        "benchmark.ended",
        plugin=declared.plugin,
        name=record.name,
        status=score.status,
        score=score.score,
        unit=score.unit,
        cached=score.cached,
        message=score.message,
    )
    if measured.log.strip():
        session.events.write("task.log", plugin=declared.plugin, name=record.name, text=measured.log)
    entry = TimelineEntry(
        "benchmark",
        declared.plugin,
        record.name,
        began,
        round(time.monotonic() - ticks, 4),
        score.status,
        score.message if score.score is None else "",
    )
    return replace(state, benchmarks=(*state.benchmarks, score), timeline=(*state.timeline, entry))


def _measured(session: Session, state: State, declared: Declared, budget: Budget, *, use_kept: bool) -> Measured:
    record: Benchmark = declared.record
    left = budget.left()
    patience = left - record.timeout_seconds
    message = ""
    if patience < 0:
        message = (
            f"it may take {record.timeout_seconds:g} s, and {left:.0f} s are left of benchmarks.budget_seconds; "
            "whoever configures the pilot raises that, or lets it run beside the jobs"
        )
    try:
        job = prepared(session, state, declared, use_kept=use_kept)
    except PilotError as error:
        return Measured(failed(record, error.failure.message))
    job = replace(job, patience_seconds=patience, message=message)
    context = replace(session.context(state), workspace=job.directory)
    allowed = max(patience, 0.0) + record.timeout_seconds + GRACE_SECONDS
    try:
        return _supervised(session, job, lambda: child.call(record.run, context), allowed)
    except PilotError as error:  # the node allows no further process
        return Measured(failed(record, error.failure.message))
    finally:
        shutil.rmtree(job.directory, ignore_errors=True)


def _supervised(session: Session, job: Job, call: Callable[[], Json], allowed_seconds: float) -> Measured:
    """In a process of its own, which can end whatever the benchmark leaves."""
    with Runner(session.around.wake) as runner:
        handle = runner.start_call(
            lambda: json.dumps(to_json(measure(job, call, _explain(job)))).encode(),
            name=f"benchmark {job.record.name}",
            deadline_seconds=allowed_seconds,
            output_limit_bytes=OUTPUT_LIMIT_BYTES,
        )
        result = runner.wait(handle)
    return read_measured(job.record, result)


def read_measured(record: Benchmark, result: Result) -> Measured:
    """What the process around a benchmark told."""
    try:
        return from_json(Measured, json.loads(result.answer))
    except (ValueError, CodecError):
        return Measured(failed(record, f"it could not be supervised: {result.explain()}"))


def failed(record: Benchmark, message: str, *, status: Literal["failed", "skipped"] = "failed") -> BenchmarkScore:
    """The line of a benchmark that could not even be begun."""
    return BenchmarkScore(record.name, None, "", 0.0, version=record.version, status=status, message=message)


def _explain(job: Job) -> Callable[[Result], str]:
    return explain if job.image is not None else lambda _: ""


def plans_beside(session: Session, state: State, environment: Mapping[str, str]) -> list[PeriodicPlan]:
    """How the keeper runs those that come beside the jobs, in a process with this ``environment``. Until one has run
    its line in the report says that it has not, or why it cannot."""
    plans: list[PeriodicPlan] = []
    ordered = in_order(session.loaded.of("pilot_benchmarks"))
    beside = [declared for declared in ordered if declared.record.when != "before"]
    for number, declared in enumerate(beside):
        record: Benchmark = declared.record
        place = os.path.join(session.workspace.private, f"{SCORE_PREFIX}{number:03d}.json")
        job_path = os.path.join(session.workspace.private, f"benchmark-{number:03d}.json")
        try:
            job = replace(prepared(session, state, declared), idle=True, patience_seconds=BESIDE_PATIENCE_SECONDS)
            write_json(place, to_json(failed(record, "the pilot ended before it was measured", status="skipped")))
            write_json(job_path, to_json(job))
        except (PilotError, OSError) as error:
            message = error.failure.message if isinstance(error, PilotError) else str(error)
            session.events.write("benchmark.ended", name=record.name, status="failed", message=message)
            with contextlib.suppress(OSError):  # the disk may be the reason
                write_json(place, to_json(failed(record, message)))
            continue
        plans.append(
            PeriodicPlan(
                name=record.name,
                argv=[*session.around.interpreter, "_child", "bench", job_path, session.workspace.state, place],
                environment=environment,
                period_seconds=record.period_seconds if record.when == "periodic" else 0.0,
                timeout_seconds=BESIDE_PATIENCE_SECONDS + record.timeout_seconds + GRACE_SECONDS,
            )
        )
    return plans


def prepared(session: Session, state: State, declared: Declared, *, use_kept: bool = True) -> Job:
    """How a benchmark is run, in a directory that was made for it. Raises ``PilotError``."""
    record: Benchmark = declared.record
    directory, argv, environment, image = tasks.benchmark_command(session, state, declared)
    digest = {"run": record.run, "command": list(record.command), "script": record.script, "score_at": record.score_at}
    return Job(
        record=record,
        builtin=declared.builtin,
        directory=directory,
        workspace=session.workspace.root,
        cores=_cores(state, record),
        patience_seconds=0.0,
        argv=tuple(argv),
        environment=environment,
        key={
            "name": record.name,
            "plugin": declared.plugin,
            "version": record.version,
            "image": _image_identity(state, image),
            "does": digest,
        },
        cache_directory=state.config.get("benchmarks.cache_directory"),
        use_kept=use_kept,
        image=image,
    )


def _cores(state: State, record: Benchmark) -> int:
    usable = int(known_value(state.facts, "cpu.usable", 0))
    if record.cores == "one":
        return 1
    if record.cores == "all" or not usable:
        return usable
    config = state.config
    if (given := config.get("startd.cores_per_slot")) is not None:
        return min(int(given), usable)
    if str(config.get("startd.slots")) == "partitionable":
        return usable
    return max(1, usable // int(config.get("startd.fixed_slots") or usable))


def _image_identity(state: State, image: str | None) -> Json:
    """What tells one image from another: its digest where it is known, else what the file system says of it."""
    if image is None or state.container is None:
        return None
    known = next((one.digest for one in state.container.verdicts if one.taken and one.path == image and one.digest), "")
    if known:
        return known
    try:
        status = os.stat(image)
    except OSError:
        return image
    return [image, status.st_ino, status.st_mtime_ns]
