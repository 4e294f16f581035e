"""A pilot that is well: it joins the pool, runs users' jobs in containers, leaves when there are none, and is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pilot_agent
from tests.testbed.grid import IMAGES_INSIDE, PILOT_IDENTITY, Grid
from tests.testbed.inspection import HostProcess
from tests.testbed.leftovers import Snapshot, pilot_processes, snapshot
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Job, Jobs, slot_ads

WORKERS = ("wn1", "wn2")
IDLE_SECONDS = 8
SCHEMA = Path(pilot_agent.__file__).with_name("report.schema.json")

OS = ". /etc/os-release; echo $ID $VERSION_ID"
# A job looks for a token everywhere it can: by the form of its content, and below the pilot's own directory.
HUNT = (
    "echo begun; grep -rlsE eyJ[A-Za-z0-9_-]+[.]eyJ /home /tmp /var /srv /run /dev/shm /etc /mnt /opt 2>/dev/null;"
    " cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -E eyJ[A-Za-z0-9_-]+[.]eyJ;"
    " ls -d {start}/pool.token {start}/pilot-*/private /proc/[0-9]*/root{start}/pool.token /proc/[0-9]*/cwd/pilot-*"
    " 2>/dev/null; ls -A {start} 2>/dev/null; echo ended"
)
STAY = "touch here; while [ ! -e seen ]; do sleep 0.2; done"
JOBS = {
    "debian13": (OS, '+REQUIRED_OS = "debian13"'),
    "debian12": (OS, '+REQUIRED_OS = "debian12"'),
    "default": (OS, ""),
    "own image": (OS, f'+SingularityImage = "{IMAGES_INSIDE}/debian12"'),
    "fails": ("exit 3", '+REQUIRED_OS = "debian12"'),
    "hunts": (HUNT, ""),
    "environment": ("env", ""),
    "visited": (STAY, '+REQUIRED_OS = "debian12"'),
}


@dataclass(frozen=True)
class Seen:
    """What was seen while jobs ran: the ads of the whole slot and of the jobs' slots, HTCondor's word on the channel
    to the pool, what a visitor of a job saw, and the pilot's processes."""

    slot: dict[str, Any]
    claimed: list[dict[str, Any]]
    handshake: str
    visit: str
    processes: list[HostProcess]


@dataclass(frozen=True)
class Day:
    """One pilot's whole life with the jobs it ran, and what was seen of it."""

    pilot: PilotRun
    jobs: dict[str, Job]
    seen: Seen
    exit_code: int
    after: Snapshot


@pytest.fixture(scope="module")
def days(grid: Grid, payload: Path, good_token: str) -> Iterator[dict[str, Day]]:
    """The same day on both nodes, at once: pilot.pyz on the one with Python, pilot.sh on the one without."""
    queue = Jobs(grid)
    pilots = [PilotRun(grid.hosts[name], good_token, {"startd": {"idle_shutdown_seconds": IDLE_SECONDS}}).start()
              for name in WORKERS]  # fmt: skip
    submitted = {}
    try:
        submitted = {run.host.plan.name: _submit(queue, run) for run in pilots}
        seen = {run: _watch(grid, run, submitted[run.host.plan.name]) for run in pilots}
        yield {run.host.plan.name: _finish(run, submitted[run.host.plan.name], seen[run]) for run in pilots}
    finally:
        for run in pilots:
            run.destroy()
        for jobs in submitted.values():
            for job in jobs.values():
                job.remove()


def _submit(queue: Jobs, run: PilotRun) -> dict[str, Job]:
    jobs = {
        name: queue.shell(script.replace("{start}", run.start_directory), pilot=run, extra=extra)
        for name, (script, extra) in JOBS.items()
    }
    image = f"universe = container\ncontainer_image = {IMAGES_INSIDE}/debian12.sif\nexecutable = /bin/cat\n"
    jobs["sif"] = queue.submit(image + "arguments = /etc/os-release", pilot=run)
    return jobs


def _watch(grid: Grid, run: PilotRun, jobs: dict[str, Job]) -> Seen:
    visited = jobs["visited"].wait_running()
    processes = pilot_processes(run.host)
    slot = run.wait_until("slot ad", lambda: slot_ads(grid, run, 'SlotType == "Partitionable"'))[0]
    claimed = run.wait_until("claimed slot", lambda: slot_ads(grid, run, 'SlotType == "Dynamic"'))
    handshake = _handshake(run)
    words = ["condor_ssh_to_job", "-auto-retry", f"{visited.cluster}.0", f"{OS}; ls here && touch seen"]
    visit = grid.pool.run(words, user="user", cwd="/home/user", timeout_seconds=60)
    return Seen(slot, claimed, handshake, visit.stdout + visit.stderr, processes)


def _finish(run: PilotRun, jobs: dict[str, Job], seen: Seen) -> Day:
    for job in jobs.values():
        job.wait_done(90)
    code = run.wait(IDLE_SECONDS + 60)
    run.wait_until("end of every process", lambda: not pilot_processes(run.host))
    return Day(run, jobs, seen, code, snapshot(run.host))


def _handshake(run: PilotRun) -> str:
    """What HTCondor's own tool says of the channel that the pilot's daemons use."""
    workspace = run.workspace
    assert workspace is not None
    configuration = f"{run.start_directory}/{workspace.name}/private/condor/condor_config"
    words = ["condor_ping", "-verbose", "-type", "collector", "ADVERTISE_STARTD"]
    said = run.host.run(words, user="pilot", env={"CONDOR_CONFIG": configuration})
    return said.stdout + said.stderr


@pytest.fixture(params=WORKERS)
def day(request: pytest.FixtureRequest, days: dict[str, Day]) -> Day:
    found: Day = days[request.param]
    return found


@pytest.mark.parametrize(
    ("name", "os"),
    [("debian13", "debian 13"), ("debian12", "debian 12"), ("default", "debian 13"), ("own image", "debian 12")],
)
def test_a_job_runs_in_the_image_it_asked_for(day: Day, name: str, os: str) -> None:
    assert day.jobs[name].output().strip() == os, day.jobs[name].error()
    assert day.jobs[name].exit_codes() == [0]


def test_a_job_brings_its_own_image_file(day: Day) -> None:
    assert 'VERSION_ID="12"' in day.jobs["sif"].output(), day.jobs["sif"].error()
    assert day.jobs["sif"].exit_codes() == [0]


def test_a_jobs_exit_code_reaches_its_user(day: Day) -> None:
    assert day.jobs["fails"].exit_codes() == [3]


def test_a_job_finds_neither_the_token_nor_the_pilots_private_directory(day: Day) -> None:
    assert day.jobs["hunts"].output().split() == ["begun", "ended"]
    assert day.jobs["hunts"].error() == ""


def test_a_jobs_environment_holds_nothing_of_the_pilots(day: Day) -> None:
    lines = [line for line in day.jobs["environment"].output().splitlines() if "=" in line]
    assert not [line for line in lines if line.startswith(("PILOT_AGENT", "CONDOR_CONFIG", "LD_", "PYTHONPATH"))]
    # Of the paths outside, HTCondor tells a job only that of its own directory.
    paths = {line.split("=", 1)[1] for line in lines if day.pilot.start_directory in line}
    assert len(paths) == 1
    assert re.fullmatch(r".*/pilot-[0-9a-f]+/condor/execute/dir_[0-9]+", paths.pop())


def test_a_visitor_of_a_job_comes_into_its_container(day: Day) -> None:
    assert "debian 12" in day.seen.visit
    assert day.jobs["visited"].exit_codes() == [0]


def test_an_idle_pilot_leaves_with_success_and_nothing_else(day: Day) -> None:
    assert day.exit_code == 0, day.pilot.story()
    assert day.pilot.report()["outcome"] == {"status": "ok", "failure": None}
    assert day.pilot.report()["leftovers"] == []
    day.pilot.nothing_left()


def test_the_report_fits_its_schema_and_counts_the_jobs(day: Day) -> None:
    report = day.pilot.report()
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert report["jobs"]["started"] == len(day.jobs)
    assert report["jobs"]["ended"] == {"exit 0": len(day.jobs) - 1, "exit 3": 1}
    assert report["pilot"]["user"] == "pilot"
    assert report["pilot"]["finished"] is not None


def test_the_report_tells_every_stage_in_its_order(day: Day) -> None:
    stages = [line["stage"] for line in day.pilot.report()["timeline"] if line["what"] == "stage"]
    assert stages == ["probe", "mount", "setup_early", "container", "validate", "setup_late", "service", "benchmark",
                      "advertise", "handoff"]  # fmt: skip
    names = [event["event"] for event in day.pilot.events()]
    assert names[0] == "pilot.started"
    for first, second in (("condor.started", "pool.joined"), ("pool.joined", "condor.ended")):
        assert names.index(first) < names.index(second)


def test_the_report_compares_the_nodes_clock_with_the_collectors(day: Day) -> None:
    fact = day.pilot.report()["node"]["clock"]["collector_offset_seconds"]
    assert (fact["status"], fact["unit"]) == ("known", "s")
    assert abs(fact["value"]) <= 60, "both are on this machine"


def test_the_report_says_which_image_was_proven(day: Day) -> None:
    container = day.pilot.report()["container"]
    assert container["decision"] == "REQUIRED"
    taken = {why["candidate"]: why["proven"] for why in container["why"] if why["taken"]}
    assert taken == {f"{IMAGES_INSIDE}/debian13": True, f"{IMAGES_INSIDE}/debian12": True}
    assert container["image"]["platforms"] == {name: f"{IMAGES_INSIDE}/{name}" for name in ("debian13", "debian12")}


def test_the_slot_offers_what_the_report_says_and_no_gpu(day: Day) -> None:
    report, slot = day.pilot.report(), day.seen.slot
    assert slot["TotalSlotCpus"] == report["node"]["cpu"]["usable"]["value"]
    assert slot["TotalSlotMemory"] == report["node"]["memory"]["usable_mib"]["value"]
    offered = report["node"]["disk"]["workspace_free_mib"]["value"]
    assert slot["TotalSlotDisk"] == pytest.approx(offered * 1024, rel=0.02)
    assert slot["TotalSlotGPUs"] == slot["GPUs"] == 0
    assert slot["IS_GLIDEIN"] is True
    assert slot["GLIDEIN_Site"] == "Testbed"
    assert slot["PilotId"] == report["pilot"]["id"]
    assert slot["PartitionableSlot"] is True


def test_the_ad_in_the_report_is_the_one_that_the_pool_has(day: Day) -> None:
    ad = day.pilot.report()["ad"]
    assert ad["IS_GLIDEIN"] is True
    same = {name: day.seen.slot.get(name) for name in ad}
    assert same == ad


def test_the_pilot_comes_to_the_pool_by_its_token_over_a_protected_channel(day: Day) -> None:
    assert day.seen.slot["AuthenticatedIdentity"] == PILOT_IDENTITY
    said = dict(line.split(":", 1) for line in day.seen.handshake.splitlines() if ":" in line)
    wanted = {"Encryption": "AES", "Integrity": "AES", "Authenticated using": "IDTOKENS", "Authorized": "TRUE"}
    assert {name: said.get(name, "").strip() for name in wanted} == wanted, day.seen.handshake


def test_a_job_runs_inside_a_slot_of_its_own_size(day: Day) -> None:
    assert day.seen.claimed
    assert {ad["Cpus"] for ad in day.seen.claimed} == {1}
    assert {ad["State"] for ad in day.seen.claimed} == {"Claimed"}


def test_every_daemon_of_the_pilot_is_the_pilots_account(day: Day) -> None:
    names = {process.argv[0].rsplit("/", 1)[-1] for process in day.seen.processes}
    assert {"condor_master", "condor_startd", "condor_starter"} <= names
    before = set(day.pilot.before.processes)
    assert not set(day.after.processes) - before


def test_a_job_that_asks_for_an_unknown_platform_stays_in_the_queue(pilot: Any, jobs: Jobs, grid: Grid) -> None:
    run = pilot().start()
    strange = jobs.shell("true", pilot=run, extra='+REQUIRED_OS = "el7"')
    jobs.shell("true", pilot=run).wait_done()
    assert strange.status() == {1}
    assert strange.events(1) == 0


def test_a_pilot_without_any_job_leaves_by_itself(pilot: Any) -> None:
    run = pilot({"startd": {"idle_shutdown_seconds": 2}})
    assert run.run() == 0, run.story()
    assert run.report()["outcome"]["status"] == "ok"
    assert run.report()["jobs"]["started"] == 0
    run.nothing_left()
