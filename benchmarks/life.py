"""One life of a pilot, and one of HTCondor configured by hand, from exec to the end, watched from outside the node.

The moments of exec are those at which the kernel opens the payload and condor_master (see `watch`). The pilot opens the
latter too, to read its version: the moment of its exec is that of the last opening before a process has its name.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.node import CONFIGURATION, HOME, MASTER, OUTPUT, PYZ, MeasurementError, Place, put
from benchmarks.watch import Moment, Openings, machine_processes, openings
from tests.testbed.hosts import SEARCH_PATH, Host
from tests.testbed.trees import PILOT

START_SECONDS = 60.0
END_SECONDS = 40.0
# An idle pilot: its slot is in the pool and its own questions to the pool are answered.
SETTLE_SECONDS = 2.0
MASTER_NAME = "condor_master"
# How often is looked whether an opening of its file was its start.
NAME_SECONDS = 0.02
HAND = f"{HOME}/hand"
HAND_CONFIGURATION = Path(__file__).with_name("hand_condor.conf")
PREEMPTED = 128 + signal.SIGTERM
SAID = "said.txt"


@dataclass(frozen=True, slots=True)
class Started:
    """A pilot between its exec and the start of condor_master.

    `node_processes` are those of the node's PID namespace; `machine_processes` are the whole machine's.
    """

    door: subprocess.Popen[str]
    guardian: int
    began: Moment
    master: Moment
    node_processes: int

    @property
    def seconds(self) -> float:
        """From exec of the payload to exec of condor_master."""
        return self.master.monotonic - self.began.monotonic

    @property
    def machine_processes(self) -> int:
        """Processes and threads that the machine made meanwhile."""
        return self.master.processes - self.began.processes


def background_rate(seconds: float) -> float:
    """Processes and threads per second that the machine makes without the pilot."""
    before, began = machine_processes(), time.monotonic()
    time.sleep(seconds)
    return (machine_processes() - before) / (time.monotonic() - began)


@contextmanager
def pilot(place: Place, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[Started]:
    """A running pilot, from the exec of condor_master on. It is killed if the block does not end it."""
    worker = place.worker
    command = [PYZ, "run", "--config", f"factory={CONFIGURATION}", "--output", OUTPUT, *options]
    with (
        openings(worker.path(PYZ), once=True) as payload,
        openings(worker.path(MASTER)) as master,
        worker.path(f"{HOME}/{SAID}").open("w", encoding="utf-8") as said,
    ):
        door = worker.popen(command, user=PILOT.name, cwd=HOME, env=environment, stdout=said, stderr=said)
        try:
            until = time.monotonic() + START_SECONDS
            began = payload.wait(until)
            started = _exec_of_master(master, _behind(door), until) if began else None
            if began is None or started is None:
                raise MeasurementError(f"condor_master was not started: {_said(worker)}")
            guardian, (moment, pid) = _behind(door), started
            yield Started(door, guardian, began, moment, _made_between(guardian, pid))
        finally:
            worker.signal(door, signal.SIGKILL)
            door.wait()


def stop(place: Place, started: Started, *, alone: bool = True) -> float:
    """Send SIGTERM to the guardian; seconds until it is gone.

    Raises MeasurementError if that takes 40 s, with another exit code than 143, or, where the pilot was ``alone`` on
    the node, if anything is left behind.
    """
    seconds = _terminate(started.guardian)
    code = started.door.wait()
    if code != PREEMPTED:
        raise MeasurementError(f"the pilot ended with {code} instead of {PREEMPTED}: {_said(place.worker)}")
    left = place.left_behind() if alone else []
    if left:
        raise MeasurementError(f"the pilot left behind: {', '.join(left)}")
    return seconds


def hand_slot_ad(place: Place, turn: int) -> float:
    """Seconds from exec of condor_master to its slot ad in the collector, with the configuration by hand."""
    # A name of its own for each round, so that no ad of the round before is taken for this one's.
    with by_hand(place, f"hand{turn}") as moment:
        seconds = place.slot_ad(moment.wall) - moment.wall
        time.sleep(SETTLE_SECONDS)
    return seconds


@contextmanager
def by_hand(place: Place, name: str, more: str = "") -> Iterator[Moment]:
    """HTCondor configured by hand, with ``more`` lines, from the exec of condor_master to its end by a signal."""
    worker = place.worker
    _prepare_hand(place, more)
    environment = {"CONDOR_CONFIG": f"{HAND}/condor.conf", "_CONDOR_STARTD_NAME": name}
    with openings(worker.path(MASTER)) as master, worker.path(f"{HOME}/{SAID}").open("w", encoding="utf-8") as said:
        words = ["env", "-i", f"PATH={SEARCH_PATH}", f"HOME={PILOT.home}"]
        words += [f"{name}={value}" for name, value in environment.items()]
        door = worker.popen([*words, MASTER, "-f"], user=PILOT.name, cwd=HOME, stdout=said, stderr=said)
        try:
            moment = master.wait(time.monotonic() + START_SECONDS)
            if moment is None:
                raise MeasurementError(f"condor_master was not started: {_said(worker)}")
            yield moment
            _terminate(_behind(door))
        finally:
            worker.signal(door, signal.SIGKILL)
            door.wait()


def _prepare_hand(place: Place, more: str) -> None:
    worker = place.worker
    directories = [f"{HAND}/{name}" for name in ("log", "lock", "run", "spool", "execute", "etc", "tokens")]
    script = ["rm", "-rf", HAND], ["install", "-d", "-m", "700", HAND, *directories]
    for words in script:
        done = worker.run(words, user=PILOT.name)
        if done.returncode != 0:
            raise MeasurementError(f"{' '.join(words)}: {done.stderr.strip()}")
    put(worker, f"{HAND}/condor.conf", HAND_CONFIGURATION.read_bytes() + more.encode(), 0o644)
    put(worker, f"{HAND}/tokens/pool", worker.path(f"{HOME}/token").read_bytes(), 0o600)


def _behind(door: subprocess.Popen[str]) -> int:
    found = processes.children(door.pid)
    if not found:
        raise MeasurementError(f"the program ended at once with {door.wait()}")
    return found[0]


def _exec_of_master(master: Openings, guardian: int, until: float) -> tuple[Moment, int] | None:
    """The moment at which condor_master was started below the guardian, and its process; None when it was not."""
    moment = master.wait(until)
    while moment is not None and time.monotonic() < until:
        for pid in processes.descendants(guardian):
            if processes.name(pid) == MASTER_NAME:
                return moment, pid
        moment = master.wait(time.monotonic() + NAME_SECONDS) or moment
    return None


def _made_between(first: int, last: int) -> int:
    """Processes and threads of one PID namespace, whose numbers are given in order, made after `first` up to `last`."""
    difference = processes.number_inside(last) - processes.number_inside(first)
    if difference < 0:
        difference += int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    return difference


def _terminate(pid: int) -> float:
    handle = os.pidfd_open(pid)
    try:
        began = time.monotonic()
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], END_SECONDS)[0]:
            raise MeasurementError(f"process {pid} did not end within {END_SECONDS:.0f} s after SIGTERM")
        return time.monotonic() - began
    finally:
        os.close(handle)


def _said(worker: Host) -> str:
    return worker.path(f"{HOME}/{SAID}").read_text(encoding="utf-8", errors="replace").strip()[-2000:]
