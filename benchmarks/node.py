"""Where measurements are made: the testbed's worker node, with the payload on it and the pool's collector in sight."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import processes
from tests.testbed import condor
from tests.testbed.grid import USER_POOL, Grid
from tests.testbed.hosts import Host
from tests.testbed.runs import run_directory
from tests.testbed.trees import PILOT

REPOSITORY = Path(__file__).resolve().parents[1]
PAYLOADS = REPOSITORY / "build"
HOME = f"{PILOT.home}/bench"
PYZ = f"{HOME}/pilot.pyz"
SCRIPT = f"{HOME}/pilot.sh"
CONFIGURATION = f"{HOME}/factory.json"
OUTPUT = f"{HOME}/output"
RUNTIMES = f"{HOME}/runtimes"
STOPWATCH = f"{HOME}/alternate.py"
IMAGE = "/images/debian13"
MASTER = "/usr/sbin/condor_master"
COLLECTOR_LOG = "/var/log/condor/CollectorLog"
NOTHING = ("/usr/bin/python3", "-c", "pass")
BARE_APPTAINER = ("/usr/bin/apptainer", "exec", IMAGE, "/bin/true")
AD_LINE = re.compile(r"^(\d\d/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}) .*MachineSlotAd\s*: (?:Inserting|Updating)")
AD_SECONDS = 60.0
LOG_POLL_SECONDS = 0.1


class MeasurementError(RuntimeError):
    """Something did not happen that had to be measured."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What the stopwatch measured: for each command a value for each round."""

    seconds: list[list[float]]
    processes: list[list[int]]


@dataclass(frozen=True, slots=True)
class Place:
    """The running grid, and the directory that its payload came from."""

    grid: Grid
    payloads: Path

    @property
    def worker(self) -> Host:
        """The node that pilots are measured on: Debian 13, Python 3.13."""
        return self.grid.wn1

    def time_commands(
        self,
        commands: Sequence[Sequence[str]],
        *,
        rounds: int,
        warmup: int,
        environment: Mapping[str, str] | None = None,
    ) -> Timed:
        """Run the commands alternately as the pilot's account. Raises MeasurementError when one fails."""
        plan = {
            "rounds": rounds,
            "warmup": warmup,
            "commands": [{"argv": list(argv), "environment": dict(environment or {})} for argv in commands],
        }
        words = ["python3", "-I", "-S", STOPWATCH]
        done = self.worker.run(words, user=PILOT.name, cwd=HOME, input=json.dumps(plan), timeout_seconds=600)
        if done.returncode != 0:
            raise MeasurementError(f"the stopwatch failed: {done.stderr.strip()}")
        return Timed(**json.loads(done.stdout))

    def slot_ad(self, since: float) -> float:
        """The time (by the clock) at which the user pool's collector took the first slot ad after `since`.

        It is what CollectorLog says, in milliseconds (D_FULLDEBUG, D_SUB_SECOND); the log is read every 0.1 s, which
        decides only when this returns. Raises MeasurementError after a minute.
        """
        until = time.monotonic() + AD_SECONDS
        log = self.grid.pool.path(COLLECTOR_LOG)
        while time.monotonic() < until:
            moments = slot_ad_moments(log.read_text(encoding="utf-8", errors="replace"))
            found = next((moment for moment in moments if moment >= since), None)
            if found is not None:
                return found
            time.sleep(LOG_POLL_SECONDS)
        raise MeasurementError(f"no slot ad came to the collector within {AD_SECONDS:.0f} s")

    def spent_seconds(self) -> float:
        """CPU time so far of all that the pilot's account runs on the node, with what has ended below it."""
        pids = [process.pid for process in self.worker.processes() if process.uid == PILOT.uid]
        return processes.spent_seconds(pids, self.worker.path("/proc"))

    def left_behind(self) -> list[str]:
        """Processes of the pilot's account and workspaces that are there now."""
        running = [" ".join(process.argv) for process in self.worker.processes() if process.uid == PILOT.uid]
        roots = (HOME, PILOT.home, "/tmp", "/var/tmp")
        patterns = ("pilot-*", "pilot-runtime*")
        files = [path for root in roots for pattern in patterns for path in self.worker.path(root).glob(pattern)]
        return running + [str(path) for path in files]


def slot_ad_moments(log: str) -> list[float]:
    """When the collector took slot ads, in seconds since the epoch. The testbed's hosts are on UTC."""
    found = (AD_LINE.match(line) for line in log.splitlines())
    return [
        datetime.strptime(match[1], "%m/%d/%y %H:%M:%S.%f").replace(tzinfo=UTC).timestamp() for match in found if match
    ]


@contextmanager
def place(payloads: Path = PAYLOADS) -> Iterator[Place]:
    """Start the grid for the length of a block, with everything on the node that is measured there."""
    with run_directory() as directory, Grid(directory) as grid:
        _talkative_collector(grid)
        _equip(grid, payloads)
        yield Place(grid, payloads)


def _talkative_collector(grid: Grid) -> None:
    path = grid.pool.path(condor.CONFIGURATION)
    with path.open("a", encoding="utf-8") as file:
        file.write("COLLECTOR_DEBUG = D_FULLDEBUG D_SUB_SECOND\nMAX_COLLECTOR_LOG = 100 Mb\n")
    done = grid.pool.run(["condor_reconfig"])
    if done.returncode != 0:
        raise MeasurementError(f"condor_reconfig on the pool's head: {done.stderr.strip()}")


def _equip(grid: Grid, payloads: Path) -> None:
    worker = grid.wn1
    made = worker.run(["install", "-d", "-m", "755", HOME], user=PILOT.name)
    if made.returncode != 0:
        raise MeasurementError(f"{HOME}: {made.stderr.strip()}")
    configuration = {
        "pool": {"collectors": [f"{USER_POOL.head}:9618"], "token": f"{HOME}/token"},
        "site": {"name": "Bench", "containers": "required"},
        "images": {"debian13": [{"path": IMAGE}]},
        "plugins": {"local": True},
        "on_failure": {"hold_seconds": 0},
    }
    put(worker, CONFIGURATION, json.dumps(configuration).encode(), 0o644)
    put(worker, f"{HOME}/token", grid.token().encode() + b"\n", 0o600)
    put(worker, STOPWATCH, Path(__file__).with_name("alternate.py").read_bytes(), 0o644)
    for path in (PYZ, SCRIPT):
        payload = payloads / Path(path).name
        if not payload.exists():
            raise MeasurementError(f"{payload} is missing; run `make payload`")
        put(worker, path, payload.read_bytes(), 0o755)


def put(host: Host, inside: str, data: bytes, mode: int) -> None:
    """Write a file of the pilot's account on a host."""
    path = host.path(inside)
    path.write_bytes(data)
    path.chmod(mode)
    os.chown(path, PILOT.uid, PILOT.uid)
