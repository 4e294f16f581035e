"""Memory of the pilot's resident processes while a job runs."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import life, processes
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import MeasurementError, Place
from pilot_agent.startd.configuration import CHANNEL_JOB
from tests.testbed.trees import PILOT, USER

KIB_PER_MIB = 1024
JOB_SECONDS = 60.0
POLL_SECONDS = 0.5
# Until the job's first seconds, with HTCondor's own messages to and fro, are over.
QUIET_SECONDS = 2.0
RUNNING = "2"
IDLE_PYTHON = ("/usr/bin/python3", "-I", "-S", "-c", "import time; time.sleep(600)")
JOB = """\
executable = /bin/sleep
arguments = 600
transfer_executable = false
should_transfer_files = yes
request_cpus = 1
request_memory = 64
request_disk = 1024
log = sleep.log
queue
"""


def measure(place: Place, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """One pilot with one job in each round; before it one idle Python process, the peer."""
    ours: list[float] = []
    peer: list[float] = []
    parts: dict[str, list[float]] = {}
    _separate_from_other_grids(place)
    for turn in range(rounds):
        peer.append(_idle_python_mib(place))
        with life.pilot(place) as started:
            with _job(place):
                found = {pid: processes.memory(pid) for pid in processes.own_processes(started.guardian)}
                commands = {pid: processes.arguments(pid) for pid in found}
            life.stop(place, started)
        ours.append(sum(memory.pss_kib for memory in found.values()) / KIB_PER_MIB)
        for name, value in _parts(found, commands).items():
            parts.setdefault(name, []).append(value)
        say(f"round {turn + 1}/{rounds}: {len(found)} processes, {ours[-1]:.2f} MiB")
    return [
        Figure(
            "memory",
            "MiB",
            Samples("PSS of the pilot's own processes", tuple(ours)),
            Samples("one idle python3 -I -S", tuple(peer)),
            Goal(20, note=" (14 wanted)"),
            method="sum of Pss (smaps_rollup) of all processes from the guardian down, without HTCondor's and the "
            "job's, while a job runs; PSS divides a page by all on the node who map it, so the sums of private pages "
            "and of RSS are given too",
            parts={name: statistics.median(values) for name, values in parts.items()},
        )
    ]


def _separate_from_other_grids(place: Place) -> None:
    """Give the node its own copies of the files that the pilot maps.

    Hosts of all grids on this machine are overlays on one tree, and PSS would be divided by their processes too. A
    change of its time makes overlayfs copy a file up.
    """
    with life.pilot(place) as started:
        time.sleep(QUIET_SECONDS)
        files = {file for pid in processes.own_processes(started.guardian) for file in processes.mapped_files(pid)}
        life.stop(place, started)
    for file in files:
        os.utime(place.worker.path(file))


def _parts(found: dict[int, processes.Memory], commands: dict[int, list[str]]) -> dict[str, float]:
    parts = {
        "processes": float(len(found)),
        "rss": sum(memory.rss_kib for memory in found.values()) / KIB_PER_MIB,
        "private": sum(memory.private_kib for memory in found.values()) / KIB_PER_MIB,
    }
    for pid, memory in found.items():
        parts[f"pss {role(commands[pid])}"] = memory.pss_kib / KIB_PER_MIB
    return parts


def role(words: list[str]) -> str:
    """What a process of the pilot is: the command that it was started with, or its program."""
    # HTCondor gives a cron job's process the job's name.
    if words[:1] == [CHANNEL_JOB]:
        return "ad channel"
    for word in words[1:]:
        if word.startswith("_") or word == "run":
            return {"run": "guardian", "_pipeline": "pipeline", "_keeper": "keeper"}.get(word, word)
    return words[0].rpartition("/")[2] if words else "?"


def _idle_python_mib(place: Place) -> float:
    door = place.worker.popen(IDLE_PYTHON, user=PILOT.name)
    try:
        time.sleep(0.5)
        (pid,) = processes.children(door.pid)
        return processes.memory(pid).pss_kib / KIB_PER_MIB
    finally:
        door.kill()
        door.wait()


@contextmanager
def _job(place: Place) -> Iterator[None]:
    """A running job of an ordinary user; removed at the end."""
    cluster = _as_user(place, ["condor_submit", "-terse", "-"], JOB).split(".")[0]
    try:
        until = time.monotonic() + JOB_SECONDS
        while _as_user(place, ["condor_q", cluster, "-af", "JobStatus"]).strip() != RUNNING:
            if time.monotonic() > until:
                why = _as_user(place, ["condor_q", "-better-analyze", cluster], check=False)
                raise MeasurementError(f"the job did not start within {JOB_SECONDS:.0f} s\n{why}")
            time.sleep(POLL_SECONDS)
        time.sleep(QUIET_SECONDS)
        yield
    finally:
        _as_user(place, ["condor_rm", cluster])


def _as_user(place: Place, words: list[str], text: str | None = None, *, check: bool = True) -> str:
    done: subprocess.CompletedProcess[str] = place.grid.pool.run(words, user=USER.name, input=text)
    if check and done.returncode != 0:
        raise MeasurementError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
