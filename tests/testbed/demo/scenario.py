"""The run itself: jobs in, pilots in, wait, visit, wait, look."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.testbed.command import CommandError
from tests.testbed.demo import jobs
from tests.testbed.demo.factory import ENTRIES, IDLE_SHUTDOWN_SECONDS, FactoryHost, PilotRow
from tests.testbed.demo.outcome import Outcome, PilotStory, Visit, visited
from tests.testbed.demo.progress import Progress
from tests.testbed.demo.traces import Traces, left_behind, look
from tests.testbed.grid import Grid

JOBS_TIMEOUT_SECONDS = 180.0
PILOTS_TIMEOUT_SECONDS = IDLE_SHUTDOWN_SECONDS + 60.0
POLL_SECONDS = 1.0
VISITED = "long"


class Scenario:
    """One run on a running grid."""

    def __init__(self, grid: Grid, factory: FactoryHost, progress: Progress) -> None:
        self._grid = grid
        self._factory = factory
        self._progress = progress
        self._trouble: list[str] = []
        self._visit: Visit | None = None

    def run(self) -> Outcome:
        """Everything, in order. Raises CommandError only for what keeps it from beginning."""
        began = time.monotonic()
        before = {host.plan.name: look(host) for host in self._grid.workers}
        self._progress.say("installing and starting the factory")
        self._factory.install()
        self._factory.start()
        self._progress.say("submitting jobs and pilots")
        jobs.submit(self._grid.pool)
        for entry in ENTRIES:
            self._factory.submit(entry)
        self._progress.say("waiting for the jobs")
        self._until("the jobs' end", JOBS_TIMEOUT_SECONDS, self._jobs_done)
        during = {host.plan.name: look(host).beyond(before[host.plan.name]) for host in self._grid.workers}
        self._progress.say("waiting for the pilots to leave, as they have no more jobs")
        self._until("the pilots' end", PILOTS_TIMEOUT_SECONDS, self._pilots_ended)
        self._progress.say("looking for what is left on the worker nodes")
        left = {host.plan.name: left_behind(host, before[host.plan.name]) for host in self._grid.workers}
        return self._outcome(left, during, time.monotonic() - began)

    def _jobs_done(self) -> bool:
        found = jobs.poll(self._grid.pool)
        pilots = self._factory.pilots()
        self._progress.detail(f"{jobs.summary(found)}; pilots {_states(pilots)}")
        running = [job for job in found if job.plan.name == VISITED and job.state == "running"]
        if running and self._visit is None:
            self._go_and_see(running[0])
        if all(job.done for job in found):
            return True
        if all(pilot.ended for pilot in pilots):
            raise CommandError("all pilots have ended, and there are jobs that did not run")
        return False

    def _go_and_see(self, job: jobs.Job) -> None:
        self._progress.say(f"visiting job {job.number} with condor_ssh_to_job")
        began = time.monotonic()
        done = jobs.visit(self._grid.pool, job)
        self._visit = visited(job, done.returncode, done.stdout, done.stderr, time.monotonic() - began)
        self._progress.say("waiting for the jobs")

    def _pilots_ended(self) -> bool:
        pilots = self._factory.pilots()
        self._progress.detail(_states(pilots))
        return all(pilot.ended for pilot in pilots)

    def _until(self, what: str, seconds: float, condition: Callable[[], bool]) -> None:
        """Wait; what goes wrong is noted, so that the account of the rest is still given."""
        until = time.monotonic() + seconds
        try:
            while not condition():
                if time.monotonic() > until:
                    self._trouble.append(f"{what}: expected within {seconds:.0f} s, and it did not come")
                    return
                time.sleep(POLL_SECONDS)
        except CommandError as error:
            self._trouble.append(f"{what}: {error}")

    def _outcome(self, left: dict[str, Traces], during: dict[str, Traces], seconds: float) -> Outcome:
        return Outcome(
            pilots=tuple(
                PilotStory(row, self._factory.report(row) if row.report else {}) for row in self._factory.pilots()
            ),
            jobs=tuple(jobs.poll(self._grid.pool)),
            visit=self._visit,
            left=left,
            during=during,
            seconds=seconds,
            trouble=tuple(self._trouble),
        )


def _states(pilots: list[PilotRow]) -> str:
    return ", ".join(f"{pilot.entry} {pilot.state}" for pilot in pilots)


def save(outcome: Outcome, factory: FactoryHost, output: Path) -> None:
    """Keep what every pilot returned under ``output``/pilots, and what the busiest one did in ``output`` itself."""
    shutil.rmtree(output, ignore_errors=True)
    for pilot in outcome.pilots:
        _copy(factory.returned(pilot.row), output / "pilots" / pilot.row.entry)
    if outcome.busiest is not None:
        _copy(factory.returned(outcome.busiest.row), output)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "events.jsonl", "pilot.out", "pilot.err", "pilot.log"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    if (source / "logs").is_dir():
        shutil.copytree(source / "logs", target / "logs", dirs_exist_ok=True, copy_function=shutil.copyfile)
