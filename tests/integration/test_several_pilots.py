"""Several pilots at once: one on each node of a job, several on one node, and side by side without any job."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import BUILT, StartPilot
from tests.testbed import mpi
from tests.testbed.grid import Grid
from tests.testbed.hosts import Host
from tests.testbed.pilots import PilotRun, install_payload
from tests.testbed.runs import run_directory
from tests.testbed.slurm import ClusterPlan, SlurmCluster
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Job, Jobs, slot_ads

NO_CONTAINERS = {"site": {"containers": "never"}, "images": {}}
PARTITIONABLE = "PartitionableSlot"
RETURNED = ("report.json", "logs/StartLog", "events.jsonl")
STAY = "while :; do sleep 0.2; done"


@dataclass(frozen=True)
class Step:
    """Two pilots that one srun started: their slots in the pool, their reports, logs of their startds and events."""

    ads: list[dict[str, Any]]
    reports: list[dict[str, Any]]
    logs: list[str]
    events: list[str]


@pytest.fixture(scope="module")
def slurm(grid: Grid) -> Iterator[SlurmCluster]:
    """Two nodes beside the grid, which reach the user pool and have HTCondor."""
    with run_directory() as directory, SlurmCluster(directory, ClusterPlan(nodes=2), beside=grid) as cluster:
        for host in (cluster.host, *cluster.others):
            install_payload(host, BUILT)
        yield cluster


def start_directory_on(host: Host, run: PilotRun) -> None:
    """The pilot's start directory as a node without a shared file system gets it."""
    target = host.path(run.start_directory)
    shutil.copytree(run.outer, target)
    for path in (target, *target.rglob("*")):
        shutil.chown(path, PILOT.uid, PILOT.uid)


def text(path: Path) -> str:
    """What a file holds."""
    return path.read_text(encoding="utf-8", errors="replace")


def two_pilots(grid: Grid, slurm: SlurmCluster, token: str, options: tuple[str, ...], hosts: list[Host]) -> Step:
    """Start two pilots with one srun, see both in the pool with a job each, and end them."""
    run = PilotRun(slurm.host, token, NO_CONTAINERS, wrapper=("srun", "--time=30", *options))
    job: Job | None = None
    try:
        for host in set(hosts) - {slurm.host}:
            start_directory_on(host, run)
        run.start()
        run.wait_until("two slots in the pool", lambda: len(slot_ads(grid, run, PARTITIONABLE)) == 2, 120)
        ads = slot_ads(grid, run, PARTITIONABLE)
        job = Jobs(grid).shell(STAY, pilot=run, count=2).wait_running()
        # A signal to srun would cancel the step, and this Slurm kills what has not ended five seconds later.
        slurm.host.run(["scancel", "--signal=TERM", f"--user={PILOT.name}"])
        run.wait()
        outputs = [host.path(f"{run.start_directory}/rank-{number}") for number, host in enumerate(hosts)]
        for output in outputs:
            run.wait_until(f"report in {output.name}", (output / "report.json").exists)
        reports, logs, events = ([text(output / name) for output in outputs] for name in RETURNED)
        assert not list(run.outer.glob("pilot-*")), run.story()
        return Step(ads, [json.loads(report) for report in reports], logs, events)
    finally:
        run.destroy()
        if job is not None:
            job.remove()


@pytest.fixture(scope="module")
def on_two_nodes(grid: Grid, slurm: SlurmCluster, good_token: str) -> Step:
    options = ("--nodes=2", "--ntasks-per-node=1", "--mem=900")
    return two_pilots(grid, slurm, good_token, options, [slurm.host, *slurm.others])


@pytest.fixture(scope="module")
def on_one_node(grid: Grid, slurm: SlurmCluster, good_token: str) -> Step:
    options = ("--nodes=1", "--ntasks=2", "--cpus-per-task=1", "--mem=1600", f"--nodelist={slurm.host.plan.name}")
    return two_pilots(grid, slurm, good_token, options, [slurm.host, slurm.host])


def slot_of(grid: Grid, run: PilotRun) -> dict[str, Any]:
    """The pilot's slot, once the pool knows it."""
    ads: list[dict[str, Any]] = run.wait_until("slot", lambda: slot_ads(grid, run, PARTITIONABLE))
    return ads[0]


def values(reports: list[dict[str, Any]], group: str, name: str) -> list[Any]:
    return [report["node"][group][name]["value"] for report in reports]


def test_every_node_of_a_job_has_a_pilot_of_its_own(on_two_nodes: Step) -> None:
    assert len({report["pilot"]["id"] for report in on_two_nodes.reports}) == 2
    assert sorted(report["pilot"]["host"] for report in on_two_nodes.reports) == ["slurm1", "slurm2"]
    assert {ad["PilotId"] for ad in on_two_nodes.ads} == {report["pilot"]["id"] for report in on_two_nodes.reports}
    assert len({ad["Name"] for ad in on_two_nodes.ads}) == 2
    assert len({ad["Machine"] for ad in on_two_nodes.ads}) == 2


def test_a_pilot_of_a_job_with_several_nodes_offers_its_own_nodes_cores(on_two_nodes: Step) -> None:
    assert values(on_two_nodes.reports, "cpu", "usable") == [1, 1]
    assert values(on_two_nodes.reports, "memory", "usable_mib") == [ad["TotalSlotMemory"] for ad in on_two_nodes.ads]
    assert sorted(values(on_two_nodes.reports, "batch", "node_index")) == [0, 1]
    assert values(on_two_nodes.reports, "batch", "nodes") == [["slurm1", "slurm2"]] * 2


@pytest.mark.parametrize("where", ["on_two_nodes", "on_one_node"])
def test_every_pilot_ran_a_job_and_brought_its_own_report_and_logs_home(
    where: str, request: pytest.FixtureRequest
) -> None:
    step: Step = request.getfixturevalue(where)
    # Slurm's signal reaches every process of the step: the job may end by it before the pilot takes the job back.
    assert all(report["jobs"]["ended"] in ({"evicted": 1}, {"signal 15": 1}) for report in step.reports)
    assert [report["leftovers"] for report in step.reports] == [[], []]
    for report, log, events in zip(step.reports, step.logs, step.events, strict=True):
        assert report["pilot"]["id"] in log
        assert report["pilot"]["id"] in events


def test_pilots_on_one_node_share_what_their_step_has_there(on_one_node: Step) -> None:
    assert values(on_one_node.reports, "cpu", "usable") == [1, 1]
    assert all(memory <= 800 for memory in values(on_one_node.reports, "memory", "usable_mib"))
    assert len({ad["Name"] for ad in on_one_node.ads}) == len({ad["MyAddress"] for ad in on_one_node.ads}) == 2


def test_pilots_side_by_side_do_not_disturb_each_other(grid: Grid, pilot: StartPilot, jobs: Jobs) -> None:
    first, second = (pilot(NO_CONTAINERS).start() for _ in range(2))
    ads = [slot_of(grid, run) for run in (first, second)]
    assert len({ad["Name"] for ad in ads}) == len({ad["MyAddress"] for ad in ads}) == 2
    evicted = jobs.shell(STAY, pilot=first).wait_running()
    kept = jobs.shell("while [ ! -e go ]; do sleep 0.2; done; exit 4", pilot=second).wait_running()
    first.signal(signal.SIGTERM)
    assert first.wait() == 128 + signal.SIGTERM, first.story()
    assert first.report()["leftovers"] == []
    evicted.wait_evicted()
    assert second.running
    (second.job_file("_condor_stdout").parent / "go").touch()
    kept.wait_done()
    assert kept.exit_codes() == [4]
    second.signal(signal.SIGTERM)
    assert second.wait() == 128 + signal.SIGTERM, second.story()
    assert second.report()["jobs"]["ended"] == {"exit 4": 1}
    second.nothing_left()


@pytest.fixture
def mpiexec(grid: Grid) -> Iterator[tuple[str, ...]]:
    """The command that starts two ranks on this node; MPICH is there as long as the test lasts."""
    host = grid.hosts["wn1"]
    program = mpi.install(host)
    yield ("env", *(f"{name}={value}" for name, value in mpi.environment().items()), program, "-n", "2")
    mpi.remove(host)


def test_every_rank_of_mpiexec_is_a_pilot_of_its_own(
    grid: Grid, pilot: StartPilot, jobs: Jobs, mpiexec: tuple[str, ...]
) -> None:
    run = pilot(NO_CONTAINERS, wrapper=mpiexec).start()
    run.wait_until("two slots in the pool", lambda: len(slot_ads(grid, run, PARTITIONABLE)) == 2, 120)
    ads = slot_ads(grid, run, PARTITIONABLE)
    assert len({ad["Name"] for ad in ads}) == len({ad["MyAddress"] for ad in ads}) == 2
    jobs.shell(STAY, pilot=run, count=2).wait_running()
    run.signal(signal.SIGTERM)  # mpiexec hands it on, waits, and ends with the exit code of its ranks
    assert run.wait() == 128 + signal.SIGTERM, run.story()
    outputs = [run.outer / f"rank-{number}" for number in range(2)]
    reports = [json.loads(text(output / "report.json")) for output in outputs]
    assert {report["pilot"]["id"] for report in reports} == {ad["PilotId"] for ad in ads}
    for report, output in zip(reports, outputs, strict=True):
        assert report["outcome"]["status"] == "preempted"
        assert (report["jobs"]["ended"], report["leftovers"]) == ({"evicted": 1}, [])
        assert report["pilot"]["id"] in text(output / "logs" / "StartLog")
    returned = [path for output in outputs for path in (output, *output.rglob("*"))]
    run.nothing_left(allowed=[str(path.relative_to(run.outer)) for path in returned])
