"""The eight user jobs: what each asks for, what it must see, and how it ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.command import CommandError
from tests.testbed.hosts import Host
from tests.testbed.trees import USER

DIRECTORY = Path(__file__).resolve().parents[1] / "jobs"
INSIDE = f"{USER.home}/demo"
ATTRIBUTES = (
    "ClusterId,ProcId,JobBatchName,JobStatus,ExitCode,ExitBySignal,LastRemoteHost,RemoteHost,HoldReason,"
    "JobCurrentStartDate,CompletionDate,NumJobStarts"
)
STATES = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "transferring output", 7: "suspended"}


VISIT_EXIT_CODE = 5


@dataclass(frozen=True, slots=True)
class JobPlan:
    """Jobs of one submit description. ``os`` is what they must see in ``/etc/os-release``."""

    name: str
    count: int
    asks: str
    os: str
    exit_code: int = 0


PLANS = (
    JobPlan("long", 1, "platform debian12", "debian 12"),
    JobPlan("asks-debian13", 2, "platform debian13", "debian 13"),
    JobPlan("asks-debian12", 2, "platform debian12", "debian 12"),
    JobPlan("own-image", 1, "SingularityImage", "debian 12"),
    JobPlan("container-image", 1, "container_image", "debian 12"),
    JobPlan("fails", 1, "nothing", "debian 13", exit_code=3),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One job as HTCondor tells it, and what it said itself. Times are epoch seconds."""

    number: str
    plan: JobPlan
    state: str
    exit_code: int | None
    slot: str
    started: float
    ended: float
    hold_reason: str
    said: Mapping[str, str]

    @property
    def done(self) -> bool:
        """True when nothing more will happen to it without somebody's help."""
        return self.state in ("completed", "removed", "held")

    def problems(self) -> list[str]:
        """What is not as it must be, each with what was expected and what was found."""
        name = f"job {self.number} ({self.plan.name})"
        if self.state != "completed":
            because = f": {self.hold_reason}" if self.hold_reason else ""
            return [f"{name}: expected it to complete, found it {self.state}{because}"]
        wanted = {"os": self.plan.os, "tokens": ""}
        found = [
            f"{name}: expected {key} {value!r}, found {self.said.get(key)!r}"
            for key, value in wanted.items()
            if self.said.get(key, "").strip() != value or key not in self.said
        ]
        if self.exit_code != self.plan.exit_code:
            found.append(f"{name}: expected exit status {self.plan.exit_code}, found {self.exit_code}")
        if self.said.get("container", "none") == "none":
            found.append(f"{name}: expected it in a container, found it outside of one")
        return found


def submit(pool: Host) -> None:
    """Submit all jobs as the ordinary user. Raises CommandError."""
    target = pool.path(INSIDE)
    shutil.copytree(DIRECTORY, target, dirs_exist_ok=True)
    for path in (target, *target.iterdir()):
        os.chown(path, USER.uid, USER.uid)
    for plan in PLANS:
        done = pool.run(["condor_submit", "-terse", f"{plan.name}.sub"], user=USER.name, cwd=INSIDE)
        if done.returncode != 0:
            raise CommandError(f"condor_submit {plan.name}.sub: {done.stderr.strip()}")


def poll(pool: Host) -> list[Job]:
    """All jobs, in the queue or ended, in the order of their submission. Raises CommandError."""
    ads: dict[str, dict[str, object]] = {}
    # The queue first: a job that leaves it in between is then found in the history, never in neither.
    for program in ("condor_q", "condor_history"):
        done = pool.run([program, "-json", "-attributes", ATTRIBUTES], user=USER.name)
        if done.returncode != 0:
            raise CommandError(f"{program} on {pool.plan.name}: {done.stderr.strip()}")
        for ad in json.loads(done.stdout or "[]"):
            ads[f"{ad['ClusterId']}.{ad['ProcId']}"] = ad
    plans = {plan.name: plan for plan in PLANS}
    found = [_job(pool, number, ad, plans[str(ad["JobBatchName"])]) for number, ad in ads.items()]
    return sorted(found, key=lambda job: [int(part) for part in job.number.split(".")])


def summary(jobs: list[Job]) -> str:
    """How many jobs are in which state, in words."""
    counted = Counter(job.state for job in jobs)
    return ", ".join(f"{count} {state}" for state, count in sorted(counted.items()))


def visit(pool: Host, job: Job, timeout_seconds: float = 90.0) -> subprocess.CompletedProcess[str]:
    """Look around in a running job with condor_ssh_to_job as the job itself did, then leave a file that ends it.

    The visitor's exit status, which must come back, is ``VISIT_EXIT_CODE``.
    """
    script = (
        "for program in ./condor_exec.exe ./look.sh; do [ ! -f $program ] || break; done; "
        f"sh $program 0 {VISIT_EXIT_CODE}; code=$?; uname -n > seen; exit $code"
    )
    words = ["condor_ssh_to_job", "-auto-retry", job.number, script]
    try:
        return pool.run(words, user=USER.name, cwd=INSIDE, timeout_seconds=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(words, 124, str(error.output or ""), str(error))


def parse_said(text: str) -> dict[str, str]:
    """The ``name=value`` lines of a job's output."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _job(pool: Host, number: str, ad: Mapping[str, object], plan: JobPlan) -> Job:
    output = pool.path(f"{INSIDE}/{plan.name}.{ad['ProcId']}.out")
    text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    code = ad.get("ExitCode")
    return Job(
        number=number,
        plan=plan,
        state=STATES.get(_number(ad.get("JobStatus")), "unknown"),
        exit_code=code if isinstance(code, int) and not ad.get("ExitBySignal") else None,
        slot=str(ad.get("LastRemoteHost") or ad.get("RemoteHost") or ""),
        started=float(_number(ad.get("JobCurrentStartDate"))),
        ended=float(_number(ad.get("CompletionDate"))),
        hold_reason=str(ad.get("HoldReason") or ""),
        said=parse_said(text),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
