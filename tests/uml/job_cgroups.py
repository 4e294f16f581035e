"""Each job in a control group of its own: a kernel with version 2 alone, a batch system that gave its group away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

MOUNT = Path("/sys/fs/cgroup")
CONTROLLERS = "+cpu +io +memory +pids"
# The batch system's script: it waits until it is in the group that is its job's, and stays above the pilot.
SCRIPT = ["sh", "-c", 'until [ -e go ]; do sleep 0.1; done; "$@"; code=$?; sleep 1; exit $code', "script"]
EAT = "tail /dev/zero"
# It also tries to leave its group, and says what came of that.
NEIGHBOUR = (
    "for g in /sys/fs/cgroup/site/job/pilot-agent-*/agent; do echo $$ > $g/cgroup.procs; done; "
    "cat /proc/self/cgroup; sleep 60; echo fine"
)
# Such a kernel is slow: probes may not end in their time.
SIZES = """
from pilot_agent.hookspecs import Probe, hookimpl
from pilot_agent.model import Limit

def look(context):
    yield Limit("cpu.usable", 2, "cores", "the test")
    yield Limit("memory.usable_mib", 1024, "MiB", "the test")
    yield Limit("disk.workspace_free_mib", 500, "MiB", "the test")

@hookimpl
def pilot_probes():
    yield Probe(name="size", run=f"{__name__}:look", timeout_seconds=120)
"""
PATIENCE_SECONDS = 400.0
LIMITED = {
    "startd": {"memory_policy": "hold", "job_cgroups": "required"},
    "pool": {"join_seconds": 300},
    "site": {"cpus": 2, "containers": "never"},
    "images": {},
}


@pytest.fixture
def batch_group(grid: Grid) -> Iterator[Path]:
    """A group as a batch system makes it for a job whose account may divide it."""
    grid.wn1.run(["mount", "-o", "remount,bind,rw", "/sys/fs/cgroup"])
    site = MOUNT / "site"
    for group in (site, site / "job"):
        group.mkdir()
        (group.parent / "cgroup.subtree_control").write_text(CONTROLLERS)
    for path in (site / "job", site / "job/cgroup.procs", site / "job/cgroup.subtree_control"):
        os.chown(path, PILOT.uid, PILOT.uid)
    yield site / "job"
    # What a probe left that was killed because it was slow stays where no pilot came after it.
    for group in [
        *sorted((site / "job").glob("pilot-agent-trial-*/leaf")),
        *(site / "job").glob("*/"),
        site / "job",
        site,
    ]:
        group.rmdir()


def begin(run: PilotRun, group: Path) -> PilotRun:
    """Start the pilot below a batch script, both in the group."""
    run.start()
    script = run.wait_until("the batch script", lambda: run.process("sh"))
    listed = int(next(p.name for p in Path("/proc").iterdir() if p.name.isdigit() and _inside(p) == script.pid))
    (group / "cgroup.procs").write_text(str(listed))
    run.write("go", "")
    return run


def _inside(process: Path) -> int:
    """The number of a process of the pilots' account in its own PID namespace."""
    try:
        lines = (process / "status").read_text().splitlines()
        if process.stat().st_uid != PILOT.uid:
            return 0
    except OSError:
        return 0
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


def joined(run: PilotRun) -> bool:
    assert run.running, run.story()
    return any(event["event"] == "pool.joined" for event in run.events())


def divided(group: Path) -> list[Path]:
    return list(group.glob("pilot-agent-*"))


def job_group(made: Path) -> Path | None:
    """The first group of a job in which there is a process."""
    groups = [path for path in (made / "jobs").iterdir() if path.is_dir()]
    return next((path for path in groups if (path / "cgroup.procs").read_text()), None)


@contextmanager
def shown(run: PilotRun, group: Path) -> Iterator[None]:
    """What is in the groups when a test fails."""
    try:
        yield
    except BaseException:
        for path in [group, *group.rglob("*")]:
            if path.is_dir():
                files = [path / "cgroup.procs", path / "cgroup.subtree_control", path / "memory.max"]
                print(path, [file.read_text().split() for file in files if file.exists()])
        for log in run.outer.glob("pilot-*/condor/log/StarterLog*"):
            print(
                log.name,
                *(line for line in log.read_text().splitlines() if "group" in line or "amily" in line),
                sep="\n",
            )
        raise


def test_a_job_over_its_memory_is_killed_in_its_own_group_and_held(
    grid: Grid, batch_group: Path, pilot: StartPilot, jobs: Jobs
) -> None:
    run = begin(pilot(LIMITED, wrapper=SCRIPT, plugins={"sizes": SIZES}), batch_group)
    with shown(run, batch_group):
        run.wait_until("pool.joined", lambda: joined(run), PATIENCE_SECONDS)
        neighbour = jobs.shell(NEIGHBOUR, pilot=run)
        run.wait_until("the neighbour", lambda: neighbour.events(1), PATIENCE_SECONDS)
        (made,) = divided(batch_group)
        assert (batch_group / "cgroup.procs").read_text() == ""
        group = run.wait_until("a job's group", lambda: job_group(made), 60)
        assert (group / "memory.max").read_text().strip() == str(128 << 20)
        eater = jobs.shell(EAT, pilot=run).wait_held(PATIENCE_SECONDS)
        assert eater.attribute("HoldReasonCode") == ["34"]
        assert "Job has gone over cgroup memory limit" in eater.log
        neighbour.wait_done(PATIENCE_SECONDS)
        assert neighbour.output().splitlines()[-1] == "fine"
        assert {ad["PilotJobCgroups"] for ad in slot_ads(grid, run)} == {True}
        run.signal(signal.SIGTERM, "_keeper")
        assert run.wait(PATIENCE_SECONDS) == 143, run.story()
        told = run.report()["startd"]["job_cgroups"]
        assert (told["used"], told["memory_limit"]) == (True, "hard")
        assert sorted(told["controllers"]) == ["cpu", "io", "memory", "pids"]
        assert run.report()["leftovers"] == []
        assert divided(batch_group) == []
        assert (batch_group / "cgroup.subtree_control").read_text().split() == []
    print(eater.log, neighbour.output(), told, sep="\n")
    run.nothing_left(allowed=("report.json", "events.jsonl", "logs", "go"))


def test_the_next_pilot_gives_the_group_back_that_a_killed_one_divided(batch_group: Path, pilot: StartPilot) -> None:
    run = begin(pilot(LIMITED, wrapper=SCRIPT, plugins={"sizes": SIZES}), batch_group)
    with shown(run, batch_group):
        run.wait_until("pool.joined", lambda: joined(run), PATIENCE_SECONDS)
        assert divided(batch_group)
        run.signal_all(signal.SIGKILL)
        run.wait(PATIENCE_SECONDS)
        assert divided(batch_group)
        following = pilot(LIMITED, plugins={"sizes": SIZES}).start()
        following.wait_until("its end", lambda: not following.running, PATIENCE_SECONDS)
        assert following.failure()["code"] == "cgroups.unusable"
        assert divided(batch_group) == []
        assert (batch_group / "cgroup.subtree_control").read_text().split() == []


def test_with_containers_nothing_is_divided_and_the_reason_is_told(batch_group: Path, pilot: StartPilot) -> None:
    contained = {"site": {"cpus": 2}, "startd": {"job_cgroups": "required"}}
    run = begin(pilot(contained, wrapper=SCRIPT, plugins={"sizes": SIZES}), batch_group)
    assert run.wait(PATIENCE_SECONDS) == 66, run.story()
    failure = run.failure()
    assert failure["code"] == "cgroups.contained"
    assert "for which it has run a hook before" in failure["message"]
