"""Slots as they were planned, shown by real startds; which jobs come to them, which are held, and when pilots leave."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Job, Jobs, slot_ads

TAIL_SECONDS = 8
# Long enough for an evicted job to come back on a busy machine.
RETURN_SECONDS = 30
PLUGIN = """
from pilot_agent.hookspecs import StartdFragment, hookimpl


@hookimpl
def pilot_startd(config):
    yield StartdFragment(name="note", text="STARTD_ATTRS = $(STARTD_ATTRS) FromFragment\\nFromFragment = 7")
"""
HASTY = """
from pilot_agent.hookspecs import StartdFragment, hookimpl


@hookimpl
def pilot_startd(config):
    yield StartdFragment(name="hasty", text="STARTER_UPDATE_INTERVAL = 5")
"""
FIXED = {
    "site": {"cpus": 2, "resource": "Testbed-CE", "memory_mib": 2000},
    "factory": {"glidein": "instance", "schedd": "schedd@factory", "cluster": 17, "process": 4, "credential": "id-1"},
    "vo": {"group": "main"},
    "startd": {
        "slots": "fixed",
        "resource_slots": "ioslot,2,300,disk=10%",
        "start": "TARGET.Unwanted =!= True",
        "rank": "TARGET.Wanted",
        "tail_shutdown_seconds": TAIL_SECONDS,
        "claim_worklife_seconds": 0,
        "memory_policy": "hold",
        "disk_policy": "hold",
    },
}
PARTITIONABLE = {
    "site": {"cpus": 2, "memory_mib": 2000},
    "startd": {
        "resource_slots": "ioslot,number=1,type=main;license,1,type=static",
        "preempt": "TARGET.Unwelcome",
        "tail_shutdown_seconds": RETURN_SECONDS,
        "claim_worklife_seconds": 0,
        "memory_policy": "hold",
        "disk_policy": "hold",
    },
}
EAT = "x=$(head -c {} /dev/zero | tr '\\0' a); touch eaten; sleep 600"
FILL = "head -c {} /dev/zero > big; sync; sleep 600"


@dataclass(frozen=True)
class Seen:
    """A pilot from its beginning to its end: its slots before a job came, its jobs, where they ran, how it ended."""

    pilot: PilotRun
    slots: list[dict[str, Any]]
    jobs: dict[str, Job]
    places: dict[str, str]
    waiting: set[int]
    exit_code: int


@pytest.fixture(scope="module")
def pilots(grid: Grid, payload: object, good_token: str) -> Iterator[tuple[PilotRun, PilotRun]]:
    """One of each layout, on a node of its own, started together."""
    made = (
        PilotRun(grid.wn1, good_token, FIXED, plugins={"noting": PLUGIN}),
        PilotRun(grid.wn2, good_token, PARTITIONABLE, plugins={"hasty": HASTY}),
    )
    try:
        for run in made:
            run.start()
        yield made
    finally:
        for run in made:
            run.destroy()


@pytest.fixture(scope="module")
def fixed(grid: Grid, pilots: tuple[PilotRun, PilotRun]) -> Iterator[Seen]:
    run, queue = pilots[0], Jobs(grid)
    slots = run.wait_until("three slots", lambda: _all(slot_ads(grid, run), 3))
    jobs = {
        "plain": queue.shell("sleep 1", pilot=run),
        "io": queue.shell("sleep 1", pilot=run, extra="request_ioslot = 1\n"),
        "unwanted": queue.shell("sleep 1", pilot=run, extra="+Unwanted = True\n"),
    }
    yield from _seen(run, slots, jobs, waits="unwanted")


@pytest.fixture(scope="module")
def partitionable(grid: Grid, pilots: tuple[PilotRun, PilotRun]) -> Iterator[Seen]:
    run, queue = pilots[1], Jobs(grid)
    slots = run.wait_until("two slots", lambda: _all(slot_ads(grid, run), 2))
    jobs = {
        "plain": queue.shell("sleep 1", pilot=run, extra="request_ioslot = 1\n"),
        "licensed": queue.shell("sleep 1", pilot=run, extra="request_license = 1\n"),
        "eater": queue.shell(EAT.format(400_000_000), pilot=run),
        "filler": queue.shell(FILL.format(200_000_000), pilot=run),
    }
    yield from _seen(run, slots, jobs, held=("eater", "filler"))


def _seen(
    run: PilotRun, slots: list[dict[str, Any]], jobs: dict[str, Job], *, waits: str = "", held: tuple[str, ...] = ()
) -> Iterator[Seen]:
    try:
        for name, job in jobs.items():
            if name in held:
                job.wait_held(150)
            elif name != waits:
                job.wait_done(120)
        code = run.wait(RETURN_SECONDS + 90)

        waiting = jobs[waits].status() if waits else set()
        places = {name: _place(job) for name, job in jobs.items()}
        yield Seen(run, slots, jobs, places, waiting, code)
    finally:
        for job in jobs.values():
            job.remove()


def _all(ads: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return ads if len(ads) == count else []


def _place(job: Job) -> str:
    """The name of the slot that the job ran in, without its host."""
    found = re.search(r"SlotName: (\S+?)@", job.log)
    return found[1] if found else ""


def of_type(seen: Seen, number: int) -> list[dict[str, Any]]:
    return [ad for ad in seen.slots if ad["SlotTypeID"] == number]


def test_fixed_slots_share_the_node_evenly(fixed: Seen) -> None:
    one, two = of_type(fixed, 1)
    assert one["SlotType"] == two["SlotType"] == "Static"
    assert (one["Cpus"], one["GPUs"], one["ioslot"]) == (two["Cpus"], two["GPUs"], two["ioslot"]) == (1, 0, 0)
    assert one["Memory"] == two["Memory"] == (one["GLIDEIN_MaxMemMBs"] - 300) // 2


def test_a_resource_has_a_slot_of_its_own(fixed: Seen) -> None:
    (slot,) = of_type(fixed, 2)
    assert (slot["SlotType"], slot["ioslot"], slot["Memory"], slot["GPUs"]) == ("Partitionable", 2, 300, 0)


@pytest.mark.parametrize("layout", ["fixed", "partitionable"])
def test_no_slots_have_more_than_the_node(layout: str, request: pytest.FixtureRequest) -> None:
    seen: Seen = request.getfixturevalue(layout)
    assert sum(ad["Memory"] for ad in seen.slots) <= seen.slots[0]["GLIDEIN_MaxMemMBs"]
    assert sum(ad["TotalSlotDisk"] for ad in seen.slots) <= seen.slots[0]["TotalDisk"]
    assert seen.slots[0]["GLIDEIN_CPUS"] == 2


def test_jobs_come_to_the_slots_that_have_what_they_ask_for(fixed: Seen, partitionable: Seen) -> None:
    assert fixed.places["plain"] in ("slot1", "slot2")
    assert fixed.places["io"] == "slot3_1"
    assert partitionable.places["plain"].startswith("slot1_")
    assert partitionable.places["licensed"] == "slot2"


def test_a_job_that_a_layer_does_not_want_waits(fixed: Seen) -> None:
    assert fixed.places["unwanted"] == ""
    assert fixed.waiting == {1}


def test_a_partitionable_slot_has_what_is_left(partitionable: Seen) -> None:
    (main,), (licensed,) = of_type(partitionable, 1), of_type(partitionable, 2)
    assert (main["SlotType"], main["Cpus"], main["ioslot"], main["license"]) == ("Partitionable", 2, 1, 0)
    assert (licensed["SlotType"], licensed["Cpus"], licensed["Memory"], licensed["license"]) == ("Static", 1, 128, 1)
    assert main["Memory"] == main["GLIDEIN_MaxMemMBs"] - 128


def test_a_job_that_takes_too_much_memory_is_held_with_the_numbers(partitionable: Seen) -> None:
    log = partitionable.jobs["eater"].log
    assert re.search(r"The job used \d+ MiB of memory; its slot has 128 MiB \(request_memory\)", log), log
    assert "Subcode 102" in log
    assert partitionable.jobs["eater"].events(1) == 1, log


def test_a_job_that_takes_too_much_disk_is_held_with_the_numbers(partitionable: Seen) -> None:
    log = partitionable.jobs["filler"].log
    assert re.search(r"The job used \d+ KiB of disk; its slot has \d+ KiB \(request_disk\)", log), log
    assert "Subcode 104" in log
    assert partitionable.jobs["filler"].events(1) == 1, log


@pytest.mark.parametrize("layout", ["fixed", "partitionable"])
def test_a_pilot_whose_last_job_is_long_gone_leaves(layout: str, request: pytest.FixtureRequest) -> None:
    seen: Seen = request.getfixturevalue(layout)
    assert seen.exit_code == 0
    assert seen.pilot.report()["outcome"]["status"] == "ok"


def test_what_was_configured_is_in_the_ad_with_its_type(fixed: Seen) -> None:
    ad = of_type(fixed, 1)[0]
    told = {"GLIDEIN_Name": "instance", "GLIDEIN_ClusterId": 17, "GLIDEIN_ProcId": 4, "GLIDECLIENT_Group": "main"}
    assert {name: ad[name] for name in told} == told
    assert ad["GLIDEIN_MASTER_NAME"] == ad["Name"].split("@", 1)[1]
    assert ad["FromFragment"] == 7
