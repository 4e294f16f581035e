"""The startd's history becomes the report's account of jobs, however damaged or hostile it is."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.report import report_schema
from pilot_agent.startd.history import (
    MOST_NAMES,
    MOST_RECORDS,
    JobRecord,
    no_jobs,
    read_history,
    read_records,
    summarize,
)
from pilot_agent.startd.history_ads import LINE_LIMIT_BYTES
from tests.startd.histories import banner

OWN = 'ToE = [ How = "OF_ITS_OWN_ACCORD"; Who = "itself"; When = 1001; HowCode = 0 ]'
TAKEN = 'ToE = [ How = "DEACTIVATE_CLAIM"; Who = "SHADOW <10.0.0.2:9618?sock=a> on x"; When = 1001; HowCode = 1 ]'
STALE = 'ToE = [ How = "OF_ITS_OWN_ACCORD"; Who = "itself"; When = 900; HowCode = 0 ]'
NAMES = ("Owner", "User", "ProjectName", "ExitCode", "ExitSignal", "ExitBySignal", "JobStartDate", "JobDuration")
VALUES = st.text(max_size=30) | st.integers() | st.floats() | st.sampled_from(['"', '"a', "[", '[How="', "1e400"])


def ad(*lines: str, **attributes: object) -> bytes:
    values = {"ClusterId": 1, "ProcId": 0, "Owner": '"user"', "User": '"user@pool"', "JobStatus": 4}
    values |= {"JobStartDate": 1000, "CompletionDate": 1010, "CpusProvisioned": 1} | attributes
    text = "\n".join([f"{name} = {value}" for name, value in values.items()] + list(lines))
    return (text + "\n" + banner(0, f"1.{values['ProcId']}", str(values["Owner"]).strip('"'))).encode(
        "utf-8", "replace"
    )


def endings(content: bytes) -> list[str]:
    return [record.ending for record in read_records(io.BytesIO(content))]


def account(*ads: bytes, began: float = 990, ended: float = 1030, cores: int = 2) -> dict[str, Any]:
    """The account of a pilot that could run jobs for 40 s on two cores, after 12.3 s of validation."""
    records = [record for content in ads for record in read_records(io.BytesIO(content))]
    found = summarize(records, began=began, ended=ended, cores=cores, validation_seconds=12.34)
    schema = report_schema()
    jsonschema.validate(found, {**schema["properties"]["jobs"], "$defs": schema["$defs"]})
    return found


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (ad(OWN, ExitCode=0, ExitBySignal="false"), "exit 0"),
        (ad(OWN, ExitCode=3, ExitBySignal="false"), "exit 3"),
        (ad(OWN, ExitSignal=9, ExitBySignal="true"), "signal 9"),
        (ad(TAKEN, ExitSignal=15, ExitBySignal="true", BadputCausedByPreemption="false"), "removed or held"),
        (ad(ExitSignal=9, ExitBySignal="true", BadputCausedByPreemption="true"), "evicted"),
        (ad(ExitSignal=9, ExitBySignal="true", BadputCausedByDraining="true"), "evicted"),
        (ad(STALE, ExitSignal=15, ExitBySignal="true", BadputCausedByPreemption="true"), "evicted"),
        (ad(ExitBySignal="false"), "not started"),
        (ad(STALE, ExitBySignal="false"), "not started"),
        (ad(ExitBySignal="false", ExitCode=7), "exit 7"),
        (ad(OWN, ExitBySignal="true", ExitSignal=10**40), "not started"),
        (ad('ToE = [ Who = "x; How = \\"OF"; When = 1001 ]', ExitBySignal="false"), "not started"),
    ],
)
def test_a_run_ended_as_its_ticket_of_execution_says(content: bytes, ending: str) -> None:
    assert endings(content) == [ending]


def test_busy_and_idle_are_told_by_the_clock_and_by_cores() -> None:
    one = ad(OWN, ExitCode=0, ExitBySignal="false", JobDuration=10.0)
    other = ad(OWN, ExitCode=1, ExitBySignal="false", JobDuration=10, JobStartDate=1005, User='"b@pool"')
    assert account(one, other) == {
        "started": 2,
        "ended": {"exit 0": 1, "exit 1": 1},
        "validation_seconds": 12.3,
        "busy_seconds": 15.0,
        "idle_seconds": 25.0,
        "busy_core_seconds": 20.0,
        "idle_core_seconds": 60.0,
        "users": {
            "b@pool": {"jobs": 1, "exit_zero": 0, "busy_seconds": 10.0, "busy_core_seconds": 10.0},
            "user@pool": {"jobs": 1, "exit_zero": 1, "busy_seconds": 10.0, "busy_core_seconds": 10.0},
        },
        "projects": {},
    }


def test_a_job_on_two_cores_counts_twice_and_a_project_has_its_account() -> None:
    found = account(ad(OWN, ExitCode=0, JobDuration=10, CpusProvisioned=2, ProjectName='"atlas"'))
    assert (found["busy_seconds"], found["busy_core_seconds"]) == (10.0, 20.0)
    assert found["projects"] == {"atlas": {"jobs": 1, "exit_zero": 1, "busy_seconds": 10.0, "busy_core_seconds": 20.0}}


def test_nothing_counts_outside_of_the_pilots_time_or_beyond_its_cores() -> None:
    found = account(ad(OWN, ExitCode=0, JobDuration=1e9, CpusProvisioned=1e9, JobStartDate=5))
    assert (found["busy_seconds"], found["idle_seconds"]) == (40.0, 0.0)
    assert (found["busy_core_seconds"], found["idle_core_seconds"]) == (80.0, 0.0)
    later = account(ad(OWN, ExitCode=0, JobDuration=10, JobStartDate=2000))
    assert (later["busy_seconds"], later["started"]) == (0.0, 1)


def test_very_many_users_and_endings_are_counted_together() -> None:
    ads = [ad(OWN, User=f'"u{number}@pool"', ExitCode=number, JobDuration=1) for number in range(MOST_NAMES + 7)]
    found = account(*ads)
    assert found["users"]["other"]["jobs"] == found["ended"]["other"] == 7
    assert len(found["users"]) == len(found["ended"]) == MOST_NAMES + 1
    assert sum(user["jobs"] for user in found["users"].values()) == found["started"] == MOST_NAMES + 7


@pytest.mark.parametrize(
    ("given", "shown"),
    [('"a\x1b[2Jb@pool"', "a [2Jb@pool"), ('"' + "x" * 500 + '"', "x" * 100), ("undefined", "owner"), ('""', "owner")],
)
def test_a_users_name_is_one_short_line(given: str, shown: str) -> None:
    assert list(account(ad(OWN, User=given, Owner='"owner"'))["users"]) == [shown]


def test_a_job_of_nobody_is_an_unknown_users() -> None:
    assert list(account(ad(OWN, User="error", Owner="?"))["users"]) == ["unknown"]


def test_a_pilot_without_jobs_has_an_account_too() -> None:
    found = no_jobs(3.21)
    assert (found["started"], found["validation_seconds"], found["idle_seconds"]) == (0, 3.2, 0.0)


def test_a_file_that_is_not_there_has_no_jobs(tmp_path: Path) -> None:
    assert read_history(str(tmp_path / "startd_history")) == []


def test_rotated_files_come_first(tmp_path: Path) -> None:
    (tmp_path / "startd_history").write_bytes(ad(OWN, ExitCode=1, ProcId=1))
    (tmp_path / "startd_history.20260101T000000").write_bytes(ad(OWN, ExitCode=0))
    assert [record.identifier for record in read_history(str(tmp_path / "startd_history"))] == ["1.0", "1.1"]


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_what_is_no_file_of_the_startds_has_no_jobs(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "startd_history"
    (tmp_path / "other").write_bytes(ad(OWN))
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "other")
    assert read_history(str(path)) == []


def test_of_endless_records_not_all_are_kept(tmp_path: Path) -> None:
    for number in range(3):
        content, last = bytearray(), 0
        for _ in range(MOST_RECORDS // 2 - 1):
            now = len(content)
            content += banner(last).encode()
            last = now
        (tmp_path / f"startd_history.2026010{number}T000000").write_bytes(content)
    assert len(read_history(str(tmp_path / "startd_history"))) == MOST_RECORDS


def test_a_file_cut_off_in_an_ad_gives_the_ads_before(tmp_path: Path) -> None:
    whole = ad(OWN, ExitCode=0)
    path = tmp_path / "startd_history"
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert len(read_history(str(path))) == 1


def test_a_huge_line_is_passed_over_and_is_no_end_of_an_ad(tmp_path: Path) -> None:
    path = tmp_path / "startd_history"
    filler = 'Args = "' + "x" * (LINE_LIMIT_BYTES - 8) + "***" + "x" * LINE_LIMIT_BYTES + '"'
    path.write_bytes(ad(filler, OWN, ExitCode=4))
    assert [record.ending for record in read_history(str(path))] == ["exit 4"]


@given(st.binary(max_size=400))
def test_no_content_breaks_the_reader(content: bytes) -> None:
    account(ad(OWN) + content + b"\n" + banner(0).encode())


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES), max_size=5), st.text(max_size=60))
def test_no_jobs_ad_breaks_the_account(ads: list[dict[str, Any]], ticket: str) -> None:
    found = account(*(ad(f"ToE = [{ticket}", **values) for values in ads))
    assert 0 <= found["busy_seconds"] <= 40
    assert found["busy_core_seconds"] >= 0
    assert sum(found["ended"].values()) == found["started"]


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=8))
def test_the_clock_is_never_busier_than_the_cores(spans: list[tuple[float, float]]) -> None:
    records = [
        JobRecord(
            identifier="1.0", user="u", project="", ending="exit 0", cores=1, wall_seconds=wall, begun=990 + begin,
            finished=0,
        )
        for begin, wall in spans
    ]  # fmt: skip
    found = summarize(records, began=990, ended=1030, cores=2, validation_seconds=0)
    assert found["busy_seconds"] <= found["busy_core_seconds"] + 0.11
    assert found["busy_seconds"] + found["idle_seconds"] == pytest.approx(40, abs=0.11)
