"""Ads that users and nodes wrote, as HTCondor's own library gives them: none of them hides another."""

from __future__ import annotations

from pathlib import Path

import classad2
import pytest

from server_stub.condor.child import _plain
from server_stub.frontend.jobs import JobReader
from server_stub.frontend.query import access_point
from server_stub.frontend.readable import read_each
from server_stub.frontend.slots import read_slots
from server_stub.frontend.tables import load_slots, save_slots

LATIN = '"\\351"'
ODD = [LATIN, f'strcat({LATIN}, "a")', "1/0", "undefined", "error", "{1, 2}", "[a = 1]", "RequestCpus", 'real("NaN")']


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would choose one, and say so to every child."""
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")


def ad(**told: str) -> classad2.ClassAd:
    return classad2.ClassAd(f"[{'; '.join(f'{name} = {value}' for name, value in told.items())}]")


@pytest.mark.parametrize("odd", ODD)
def test_what_cannot_be_read_of_one_job_is_as_if_it_was_not_there(odd: str) -> None:
    good = ad(RequestCpus="4", RequestMemory="2000", Requirements="TARGET.a")
    names = ("RequestCpus", "RequestGPUs", "EnteredCurrentStatus", "ContainerImage", "A", "L")
    bad = ad(**dict.fromkeys(names, odd), RequestMemory="1000 + 1")
    first, second = JobReader(("A",), (("L", "hours"),)).records([bad, good])
    assert (first.cores, first.gpus, first.memory_mib, first.walltime_seconds, first.attributes) == (
        1, 0, 1001, 0, (None,),
    )  # fmt: skip
    assert (second.cores, second.memory_mib, second.requirements) == (4, 2000, "TARGET.a")


@pytest.mark.parametrize("odd", ODD)
def test_what_cannot_be_read_of_one_slot_hides_no_other(odd: str, tmp_path: Path) -> None:
    names = ("GLIDEIN_Entry_Name", "PilotId", "GLIDEIN_ClusterId", "GLIDEIN_ProcId", "Cpus", "State", "Start")
    table = read_slots([ad(**dict.fromkeys(names, odd)), ad(GLIDEIN_Entry_Name='"e"', PilotId='"p"', Cpus="8")])
    save_slots(str(tmp_path / "slots"), table)
    found = load_slots(str(tmp_path / "slots"))
    assert [found.entries[1], found.pilots[1], found.sizes[:, 0].tolist()] == ["e", "p", [0, 8]]


def test_an_access_point_with_an_odd_ad_is_one_all_the_same() -> None:
    odd = ad(Name='"ap"', CondorVersion=LATIN, TotalIdleJobs="undefined", MaxJobsRunning="1/0", CurbMatchmaking=LATIN)
    (found,) = read_each([odd], access_point)
    assert (found["name"], found["idle"], found["closed"]) == ("ap", 0, "")


@pytest.mark.parametrize("odd", [each for each in ODD if "NaN" not in each])
def test_the_factory_reads_its_jobs_though_a_site_says_something_unreadable(odd: str) -> None:
    names = ("ClusterId", "HoldReason", "ExitCode")
    assert _plain(ad(ClusterId="7", HoldReason=odd, ExitCode=odd), names) == {"ClusterId": 7}
