"""User jobs in the user pool, and what the pool knows of a pilot's slots."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.testbed.grid import Grid
from tests.testbed.hosts import Host
from tests.testbed.pilots import PATIENCE_SECONDS, RUN_ATTRIBUTE, PilotError, PilotRun, pause
from tests.testbed.trees import USER

_numbers = itertools.count(1)


class Jobs:
    """User jobs in the user pool."""

    def __init__(self, grid: Grid, account: str = USER.name) -> None:
        self._pool = grid.pool
        self._account = account
        self._home = f"/home/{account}"

    def submit(self, text: str, *, pilot: PilotRun | str | None, count: int = 1) -> Job:
        """Queue jobs that only this pilot (or the pilots of this name) may run, whatever else `text` requires: the ads
        of pilots that were killed stay in the pool for a while. Without a pilot `text` alone says where they may."""
        name = pilot.name if isinstance(pilot, PilotRun) else pilot
        number = next(_numbers)
        common = (
            f"output = j{number}.$(Process).out\nerror = j{number}.$(Process).err\nlog = j{number}.log\n"
            "should_transfer_files = YES\nwhen_to_transfer_output = ON_EXIT\ntransfer_executable = false\n"
            "request_cpus = 1\nrequest_memory = 64M\nrequest_disk = 32M\njob_lease_duration = 20\n"
        )
        path = self._pool.path(f"{self._home}/j{number}.sub")
        path.write_text(
            common + (text if name is None else _required(text, name)) + f"\nqueue {count}\n", encoding="utf-8"
        )
        done = self._pool.run(["condor_submit", "-terse", path.name], user=self._account, cwd=self._home)
        if done.returncode != 0:
            raise PilotError(f"condor_submit refused: {done.stderr}\n{path.read_text()}")
        files = self._pool.path(f"{self._home}/j{number}")
        return Job(self._pool, int(done.stdout.split(".")[0]), files, count, self._account)

    def shell(self, script: str, *, pilot: PilotRun | str, extra: str = "", count: int = 1) -> Job:
        """Queue jobs that run a shell script of one line; it may hold no double quote."""
        quoted = script.replace("'", "''")
        return self.submit(f"executable = /bin/sh\narguments = \"-c '{quoted}'\"\n{extra}", pilot=pilot, count=count)


class Job:
    """One cluster of jobs."""

    def __init__(self, pool: Host, cluster: int, files: Path, count: int, account: str = USER.name) -> None:
        self._pool = pool
        self.cluster = cluster
        self._files = files
        self._account = account
        self.count = count
        self._held = 0

    @property
    def log(self) -> str:
        """The event log so far."""
        path = self._files.with_name(self._files.name + ".log")
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def events(self, number: int) -> int:
        """How often an event with this number is in the log: 1 executes, 4 evicted, 5 terminated, 12 held."""
        return sum(line.startswith(f"{number:03d} (") for line in self.log.splitlines())

    def wait_running(self, times: int = 1) -> Job:
        """Wait until every job executes (for the `times`-th time)."""
        self._wait("execute", lambda: self.events(1) >= times * self.count)
        return self

    def wait_evicted(self) -> Job:
        """Wait until every job that ran is back in the queue."""
        self._wait("go back to the queue", lambda: self.status() in ({1}, {2}) and self.events(4) + self.events(22) > 0)
        return self

    def wait_done(self, seconds: float = PATIENCE_SECONDS) -> Job:
        """Wait until every job has ended by itself."""
        self._wait("end", lambda: self.events(5) >= self.count, seconds)
        return self

    def wait_held(self, seconds: float = PATIENCE_SECONDS) -> Job:
        """Wait until every job is held."""
        until = time.monotonic() + seconds
        while self.events(12) < self.count:
            if time.monotonic() > until:
                raise PilotError(f"job {self.cluster} was not held in {seconds:g} s\n{self.log}")
            time.sleep(0.05)
        return self

    def exit_codes(self) -> list[int]:
        """The exit codes in the log, in the order of the ends."""
        marker = "Normal termination (return value "
        return [int(line.split(marker)[1].split(")")[0]) for line in self.log.splitlines() if marker in line]

    def output(self, process: int = 0) -> str:
        """Standard output of one job."""
        return self._files.with_name(f"{self._files.name}.{process}.out").read_text(encoding="utf-8", errors="replace")

    def error(self, process: int = 0) -> str:
        """Standard error of one job."""
        return self._files.with_name(f"{self._files.name}.{process}.err").read_text(encoding="utf-8", errors="replace")

    def attribute(self, name: str) -> list[str]:
        """An attribute of every job that is still in the queue."""
        return self._pool.run(["condor_q", str(self.cluster), "-af", name], user=self._account).stdout.split()

    def status(self) -> set[int]:
        """JobStatus of the jobs in the queue: 1 idle, 2 running, 5 held."""
        return {int(word) for word in self.attribute("JobStatus")}

    def remove(self) -> None:
        """Take what is left out of the queue, at once."""
        for words in (["condor_rm", str(self.cluster)], ["condor_rm", "-forcex", str(self.cluster)]):
            self._pool.run(words, user=self._account)

    def hold(self) -> Job:
        """Hold it, as its user would."""
        self._pool.run(["condor_hold", str(self.cluster)], user=self._account)
        return self.wait_held()

    def release(self) -> Job:
        """Let it go on, as its user would who mended what it was held for."""
        self._pool.run(["condor_release", str(self.cluster)], user=self._account)
        self._held = self.events(12)
        return self

    def _wait(self, what: str, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        until = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            if condition():
                return
            if self.events(12) > self._held:
                raise PilotError(f"job {self.cluster} was held\n{self.log}")
            if time.monotonic() > until:
                analysis = self._pool.run(["condor_q", "-better-analyze", str(self.cluster)], user="user").stdout
                raise PilotError(f"job {self.cluster} did not {what} in {seconds:g} s\n{self.log}\n{analysis[-2500:]}")
            pause(began)


def _required(text: str, name: str) -> str:
    """A submit file for the pilots of this name, with what it requires itself."""
    wanted = f'requirements = TARGET.{RUN_ATTRIBUTE} == "{name}"'
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("requirements = "):
            lines[number] = f"{wanted} && ({line.removeprefix('requirements = ')})"
            return "\n".join(lines)
    return f"{wanted}\n{text}"


def slot_ads(grid: Grid, pilot: PilotRun, constraint: str = "true") -> list[dict[str, Any]]:
    """The ads of a pilot's slots as the user pool knows them."""
    wanted = f'{RUN_ATTRIBUTE} == "{pilot.name}" && ({constraint})'
    done = grid.pool.run(["condor_status", "-json", "-constraint", wanted])
    ads: list[dict[str, Any]] = json.loads(done.stdout) if done.stdout.strip() else []
    return ads
