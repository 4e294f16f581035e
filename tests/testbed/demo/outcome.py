"""What a run of the demo gave, and what of it is not as it must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.testbed.demo.factory import ENTRIES, IDLE_SHUTDOWN_SECONDS, PilotRow
from tests.testbed.demo.jobs import PLANS, VISIT_EXIT_CODE, Job, parse_said
from tests.testbed.demo.traces import Traces


@dataclass(frozen=True, slots=True)
class PilotStory:
    """A pilot as the factory knows it and as it reported itself (empty when it gave no report)."""

    row: PilotRow
    report: Mapping[str, Any]

    @property
    def pilot_id(self) -> str:
        """The name that the pilot gave itself."""
        return str(self.report.get("pilot", {}).get("id", ""))

    @property
    def started(self) -> float:
        """When it began, epoch seconds; 0 when unknown."""
        return _epoch(self.report.get("pilot", {}).get("started"))

    @property
    def finished(self) -> float:
        """When it ended, epoch seconds; 0 when unknown."""
        return _epoch(self.report.get("pilot", {}).get("finished"))

    @property
    def jobs_started(self) -> int:
        """How many jobs it says it ran."""
        return int(self.report.get("jobs", {}).get("started", 0))

    def ran(self, job: Job) -> bool:
        """Whether a job ended on one of its slots."""
        return bool(self.pilot_id) and self.pilot_id in job.slot

    def problems(self) -> list[str]:
        """What is not as it must be."""
        name = f"pilot {self.row.id} ({self.row.entry})"
        if self.row.state != "ended":
            return [f"{name}: expected it to end, found it {self.row.state} {self.row.message}".rstrip()]
        found = []
        if self.row.exit_code != 0:
            found.append(f"{name}: expected exit status 0, found {self.row.exit_code} {self.row.message}".rstrip())
        if not self.report:
            return [*found, f"{name}: expected a report, found none: {self.row.message}"]
        if self.row.outcome != "ok":
            found.append(f"{name}: expected the outcome ok, found {self.row.outcome}: {self.row.message}")
        if self.report.get("leftovers"):
            found.append(f"{name}: expected no leftovers, found {self.report['leftovers']}")
        return found


@dataclass(frozen=True, slots=True)
class Visit:
    """How condor_ssh_to_job into the running job went."""

    job: str
    exit_code: int
    said: Mapping[str, str]
    errors: str
    seconds: float

    def problems(self, jobs: list[Job]) -> list[str]:
        """What is not as it must be: the visitor is in the job's own container and directory, and its status comes
        back."""
        if self.exit_code != VISIT_EXIT_CODE:
            told = self.errors.strip().splitlines()[-1:] or ["nothing"]
            return [
                f"condor_ssh_to_job: expected exit status {VISIT_EXIT_CODE}, found {self.exit_code}; it said {told[0]}"
            ]
        job = next((job for job in jobs if job.number == self.job), None)
        wanted = {key: job.said.get(key) for key in ("os", "directory", "namespace")} if job else {}
        found = [
            f"condor_ssh_to_job: expected the {key} of the job, {value!r}, found {self.said.get(key)!r}"
            for key, value in wanted.items()
            if self.said.get(key) != value
        ]
        if self.said.get("tokens", "?").strip():
            found.append(f"condor_ssh_to_job: expected no token in reach, found {self.said.get('tokens')!r}")
        if job is not None and not job.said.get("visitor"):
            found.append("condor_ssh_to_job: expected the job to see the visitor's file, it saw none")
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of it. ``left`` is what each worker node holds at the end beyond what it held before, ``during`` what it
    held while its pilot ran: what can be seen there must be seen, or nothing follows from seeing nothing."""

    pilots: tuple[PilotStory, ...]
    jobs: tuple[Job, ...]
    visit: Visit | None
    left: Mapping[str, Traces]
    during: Mapping[str, Traces]
    seconds: float
    trouble: tuple[str, ...] = ()

    @property
    def busiest(self) -> PilotStory | None:
        """The pilot that ran most jobs and gave a report."""
        return max((pilot for pilot in self.pilots if pilot.report), key=lambda one: one.jobs_started, default=None)

    def problems(self) -> list[str]:
        """Everything that is not as it must be, each with what was expected and what was found."""
        found = list(self.trouble)
        wanted = sum(plan.count for plan in PLANS)
        if len(self.jobs) != wanted:
            found.append(f"jobs: expected {wanted}, found {len(self.jobs)}")
        if len(self.pilots) != len(ENTRIES):
            found.append(f"pilots: expected {len(ENTRIES)}, found {len(self.pilots)}")
        found += [problem for job in self.jobs for problem in job.problems()]
        found += [problem for pilot in self.pilots for problem in pilot.problems()]
        if self.visit is None:
            found.append("condor_ssh_to_job: expected a visit to the running job, there was none")
        else:
            found += self.visit.problems(list(self.jobs))
        found += self._uncounted()
        for host, traces in self.left.items():
            if not traces.none:
                found.append(f"{host}: expected nothing of a pilot left, found {traces}")
        for host, traces in self.during.items():
            if not (traces.processes and traces.files):
                found.append(f"{host}: expected processes and files of a running pilot, found {traces or 'nothing'}")
        for pilot in self.pilots:
            found += self._not_by_idleness(pilot)
        return found

    def idle_seconds(self, pilot: PilotStory) -> float:
        """How long a pilot had had no job when it ended."""
        jobs = [job.ended for job in self.jobs if pilot.ran(job)]
        return pilot.finished - max([pilot.started, *jobs])

    def _not_by_idleness(self, pilot: PilotStory) -> list[str]:
        idle = self.idle_seconds(pilot)
        # HTCondor tells whole seconds.
        if not pilot.report or idle >= IDLE_SHUTDOWN_SECONDS - 1:
            return []
        name = f"pilot {pilot.row.id} ({pilot.row.entry})"
        return [f"{name}: expected it to leave after {IDLE_SHUTDOWN_SECONDS} s without a job, found {idle:.1f} s"]

    def _uncounted(self) -> list[str]:
        """The pilots' own account of the jobs against HTCondor's."""
        told: Counter[str] = Counter()
        for pilot in self.pilots:
            told.update(pilot.report.get("jobs", {}).get("ended", {}))
        seen = Counter(f"exit {job.exit_code}" for job in self.jobs if job.exit_code is not None)
        if told == seen:
            return []
        return [f"the pilots' reports: expected jobs that ended {dict(seen)}, found {dict(told)}"]


def visited(job: Job, exit_code: int, output: str, errors: str, seconds: float) -> Visit:
    """The record of one visit."""
    return Visit(job.number, exit_code, parse_said(output), errors, seconds)


def _epoch(text: object) -> float:
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else 0.0
