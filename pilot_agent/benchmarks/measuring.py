"""One run of one benchmark, by a process of its own that is there for nothing else: it waits for its turn, looks for a
kept score, keeps the benchmark in its bounds, ends whatever that left, and judges the answer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from pilot_agent.benchmarks.answers import AnswerError, from_function, from_program
from pilot_agent.benchmarks.bounds import IDLE_LOOK_SECONDS, LOOK_SECONDS, Watch, chosen, confine
from pilot_agent.benchmarks.conditions import conditions, processor
from pilot_agent.benchmarks.job import Job, Measured
from pilot_agent.benchmarks.kept import DAY_SECONDS, Kept, alone
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.processes import kill_descendants
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.model import BenchmarkScore, Json
from pilot_agent.process import Interrupted, Runner
from pilot_agent.running import Result

LOG_LETTERS = 2000
KILL_SECONDS = 5.0
OWN = ".pilot"
"""What the pilot put into a benchmark's directory: it stays for the next run."""
EXEC_FAILED = 71
ANSWER_DESCRIPTOR = 3


def measure(job: Job, call: Callable[[], Json], explain: Callable[[Result], str] = lambda result: "") -> Measured:
    """Run it, or find its kept score. ``call`` is the payload's own function; ``explain`` tells from a program's end
    why something else kept it from running, else empty.

    Only for a process that does nothing else: its signals, its timer and all its descendants are taken.
    """
    become_subreaper()
    record = job.record
    kept = Kept.of(job.cache_directory) if record.cache_days > 0 else Kept(None)
    days = record.cache_days if job.use_kept else 0.0
    if record.when == "periodic":  # a score of the period before is none of this one
        days = min(days, record.period_seconds / 2 / DAY_SECONDS)
    key = {**job.key, **processor(), "cores": job.cores}
    if (found := kept.find(key, days)) is not None:
        return Measured(found)
    if job.patience_seconds < 0:
        return Measured(_without(job, "skipped", job.message))
    with alone(record.name, job.patience_seconds) as granted:
        # Whoever was waited for may have kept what is looked for.
        if (found := kept.find(key, days)) is not None:
            return Measured(found)
        if not granted:
            reason = f"another pilot on this node still ran it after {job.patience_seconds:.0f} s"
            return Measured(_without(job, "skipped", reason))
        measured = _run(job, call, explain)
        if measured.score.status == "ok" and record.cache_days > 0 and (problem := kept.keep(key, measured.score)):
            return replace(measured, log=f"{measured.log}\nthe score was not kept: {problem}".strip())
        return measured


def _run(job: Job, call: Callable[[], Json], explain: Callable[[Result], str]) -> Measured:
    record = job.record
    cpus = chosen(job.cores) if job.cores else tuple(sorted(os.sched_getaffinity(0)))
    before = conditions(set(cpus), job.workspace)
    watch = Watch(record.memory_mib, record.disk_mib, job.directory)
    began, measured = time.monotonic(), time.time()
    result: Result | None = None
    watch.begin(IDLE_LOOK_SECONDS if job.idle else LOOK_SECONDS)
    try:
        with Runner(watch) as runner:
            handle = runner.start_call(
                lambda: _become(job, cpus, call), name=record.name, deadline_seconds=record.timeout_seconds
            )
            result = runner.wait(handle)
    except Interrupted:
        pass
    finally:
        watch.end()
        left = kill_descendants(Budget(KILL_SECONDS))
    seconds = round(time.monotonic() - began, 4)
    score = _judged(job, result, watch.problem, explain)
    _clear(job.directory)
    if left:
        score = replace(score, message=f"{score.message}; {len(left)} of its processes could not be ended".lstrip("; "))
    log = (result.stderr if result is not None else b"").decode("utf-8", "replace")[-LOG_LETTERS:]
    told = {**score.conditions, **before}
    return Measured(replace(score, seconds=seconds, measured=round(measured, 3), conditions=told, image=job.image), log)


def _become(job: Job, cpus: tuple[int, ...], call: Callable[[], Json]) -> bytes:
    """The rest of the child's life: confined, it runs the function or becomes the program."""
    record = job.record
    for name in ("TMPDIR", "TMP", "TEMP", "HOME"):
        os.environ[name] = job.directory
    os.chdir(job.directory)
    whole = job.image is None or os.path.isdir(job.image)
    confine(
        memory_mib=record.memory_mib,
        disk_mib=record.disk_mib if whole else None,
        cpus=cpus,
        address_space=bool(record.run),
        contained=job.image is not None,
        idle=job.idle,
    )
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if not job.argv:
        return json.dumps({"result": call()}).encode()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by the interpreter, and that would be passed on
        signal.signal(number, signal.SIG_DFL)
    os.set_inheritable(ANSWER_DESCRIPTOR, bool(record.run))
    try:
        os.execve(job.argv[0], list(job.argv), job.environment)
    except OSError as error:
        os.write(2, f"{job.argv[0]} could not be started: {error.strerror}\n".encode())
        os._exit(EXEC_FAILED)


def _judged(job: Job, result: Result | None, problem: str, explain: Callable[[Result], str]) -> BenchmarkScore:
    record = job.record
    if problem or result is None:
        return _without(job, "failed", problem or "it was interrupted")
    if result.timed_out:
        return _without(job, "timeout", f"it did not end within {record.timeout_seconds:g} s")
    if reason := explain(result):
        return _without(job, "failed", reason)
    try:
        if record.run:
            return _of_function(job, result)
        if not result.ok:
            return _without(job, "failed", _ended(result))
        return from_program(record, job.directory, result.stdout, truncated=result.truncated)
    except AnswerError as error:
        return _without(job, "failed", str(error))


def _of_function(job: Job, result: Result) -> BenchmarkScore:
    try:
        answer = json.loads(result.answer) if result.answer else None
    except ValueError:
        raise AnswerError("its answer was cut, or is none") from None
    if isinstance(answer, dict) and "result" in answer:
        return from_function(job.record, answer["result"], builtin=job.builtin)
    return _without(job, "failed", _ended(result))


def _ended(result: Result) -> str:
    """How it ended, without the command line that the host made."""
    said = (result.stderr or result.stdout).decode("utf-8", "replace").strip().splitlines()
    tail = f": {said[-1][:300]}" if said else ""
    if result.signal is not None:
        return f"it was ended by signal {result.signal}{_of_signal(result.signal)}{tail}"
    return f"it exited {result.code}{tail}"


def _of_signal(number: int) -> str:
    return " (a file grew beyond disk_mib)" if number == signal.SIGXFSZ else ""


def _without(job: Job, status: Literal["failed", "timeout", "skipped"], message: str) -> BenchmarkScore:
    record = job.record
    return BenchmarkScore(
        record.name, None, "", 0.0, version=record.version, image=job.image, status=status, message=message
    )


def _clear(directory: str) -> None:
    """Remove what it wrote, as the directory may be used again."""
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.name == OWN:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
