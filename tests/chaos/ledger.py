"""The user jobs of the points: none may be lost, each ends once or is run again by the pool."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection
from pathlib import Path

from tests.chaos.ground import RESCUE
from tests.testbed.hosts import Host
from tests.testbed.pilots import RUN_ATTRIBUTE, PilotError

EXECUTES, EVICTED, TERMINATED, DISCONNECTED, HELD = 1, 4, 5, 22, 12
"""Event numbers of HTCondor's user log."""
HOME = "/home/user"
LAST_PATIENCE_SECONDS = 180.0
FINISH = "finish"
READY = "ready"

# On the pilot that is never broken the job ends at once. Elsewhere it waits to be told, or for its eviction.
WAITING = f"grep -q PilotTestRun.*{RESCUE} $_CONDOR_MACHINE_AD && exit 0; touch {READY}; "
PATIENT_JOB = WAITING + f"until [ -e {FINISH} ]; do sleep 0.2; done"
STUBBORN_JOB = "trap '' TERM INT HUP QUIT; " + PATIENT_JOB
RAPID_JOB = "exit 0"
# Without a limit this takes the whole machine, so it ends where its shell cannot set one (dash says -p, others -u).
FORKING_JOB = WAITING + "ulimit -p @LIMIT@ && touch bombing && { b() { b | b & wait; }; while :; do b; done; }"

_numbers = itertools.count(1)


class PointJob:
    """The cluster of jobs of one point: for its pilot only, until it is released to the rescue pilot."""

    def __init__(self, pool: Host, pilot: str, script: str, count: int = 1) -> None:
        number = next(_numbers)
        self._pool = pool
        self.count = count
        self._log = pool.path(f"{HOME}/chaos{number}.log")
        quoted = script.replace("'", "''")
        text = (
            f"executable = /bin/sh\narguments = \"-c '{quoted}'\"\ntransfer_executable = false\n"
            f"log = chaos{number}.log\nshould_transfer_files = YES\nwhen_to_transfer_output = ON_EXIT\n"
            "request_cpus = 1\nrequest_memory = 64M\nrequest_disk = 32M\njob_lease_duration = 60\n"
            # The ads of a pilot that was killed stay in the pool for a while: a released job must not be drawn to them.
            f'requirements = TARGET.{RUN_ATTRIBUTE} == ifThenElse(MY.ChaosReleased =?= true, "{RESCUE}", "{pilot}")\n'
            f"queue {count}\n"
        )
        path = pool.path(f"{HOME}/chaos{number}.sub")
        path.write_text(text, encoding="utf-8")
        done = pool.run(["condor_submit", "-terse", path.name], user="user", cwd=HOME)
        if done.returncode != 0:
            raise PilotError(f"condor_submit refused: {done.stderr}\n{text}")
        self.cluster = int(done.stdout.split(".")[0])
        self._released = False

    def log(self) -> str:
        """The user log so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def events(self, number: int) -> int:
        """How often an event with this number is in the log."""
        return sum(line.startswith(f"{number:03d} (") for line in self.log().splitlines())

    def over(self) -> bool:
        """Whether every job has ended by itself."""
        return self.events(TERMINATED) >= self.count

    def stirred(self) -> bool:
        """Whether something happened to the running job: it ended, was evicted, held or lost from sight."""
        return any(self.events(number) for number in (EVICTED, TERMINATED, DISCONNECTED, HELD))

    def release(self) -> None:
        """Let the rescue pilot run what is left."""
        if not self._released and not self.over():
            done = self._pool.run(["condor_qedit", str(self.cluster), "ChaosReleased", "True"], user="user")
            self._released = done.returncode == 0

    def left(self) -> int:
        """How many have not ended."""
        return 0 if self.over() else self.count - self.events(TERMINATED)

    def tell(self) -> dict[str, int]:
        """What happened to the jobs, for the evidence."""
        names = {"executed": EXECUTES, "evicted": EVICTED, "disconnected": DISCONNECTED, "held": HELD,
                 "ended": TERMINATED}  # fmt: skip
        return {"jobs": self.count} | {name: self.events(number) for name, number in names.items()}

    def remove(self) -> None:
        """Take what is left out of the queue."""
        for words in (["condor_rm", str(self.cluster)], ["condor_rm", "-forcex", str(self.cluster)]):
            self._pool.run(words, user="user")


def wait_for_all(jobs: Collection[PointJob]) -> None:
    """Wait until every job has ended, or none did for `LAST_PATIENCE_SECONDS`: there may be hundreds of them, and the
    machine may be busy."""
    left, until = -1, 0.0
    while left != 0:
        now_left = sum(job.left() for job in jobs)
        if now_left != left:
            left, until = now_left, time.monotonic() + LAST_PATIENCE_SECONDS
        if time.monotonic() > until:
            return
        for job in jobs:
            job.release()
        time.sleep(0.5)


def made_by_job(workspace: Path | None, name: str) -> Path | None:
    """A file that a running job made in its directory, as the outer machine finds it."""
    if workspace is None:
        return None
    # A starter with a PID namespace of its own makes its directory in one that is its own too.
    places = [f"condor/execute/{inner}/{name}" for inner in ("dir_*/dir_*", "dir_*")]
    return next((path for place in places for path in workspace.glob(place)), None)
