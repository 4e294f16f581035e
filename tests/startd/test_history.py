"""The startd's history becomes the report's account of jobs, however damaged it is."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.startd.history import parse_history, read_history, summarize


def ad(process: int, **attributes: object) -> bytes:
    values = {"ClusterId": 1, "ProcId": process, "Owner": '"user"', "JobStatus": 4, "CompletionDate": 1000} | attributes
    lines = [f"{name} = {value}" for name, value in values.items()]
    return ("\n".join(lines) + f'\n*** Offset = 0 ClusterId = 1 ProcId = {process} Owner = "user"\n').encode()


def test_exit_codes_signals_and_vacated_jobs_are_told_apart() -> None:
    content = (
        ad(0, ExitCode=0, ExitBySignal="false", JobDuration=1.5)
        + ad(1, ExitCode=3, ExitBySignal="false")
        + ad(2, ExitSignal=9, ExitBySignal="true")
        + ad(3, JobStatus=2, RemoteWallClockTime=7)
    )
    records = list(parse_history(content))
    assert [record.ending for record in records] == ["exit 0", "exit 3", "signal 9", "vacated"]
    assert [record.wall_seconds for record in records] == [1.5, 0.0, 0.0, 7.0]
    assert records[0].identifier == "1.0"
    assert records[0].owner == "user"


def test_overlapping_jobs_are_busy_once() -> None:
    content = ad(0, ExitCode=0, ExitBySignal="false", JobDuration=10, CompletionDate=110) + ad(
        1, ExitCode=0, ExitBySignal="false", JobDuration=10, CompletionDate=115
    )
    assert summarize(list(parse_history(content)), alive_seconds=40.0) == {
        "started": 2,
        "ended": {"exit 0": 2},
        "busy_seconds": 15.0,
        "idle_seconds": 25.0,
    }


def test_a_file_that_is_not_there_has_no_jobs(tmp_path: Path) -> None:
    assert read_history(str(tmp_path / "startd_history")) == []


def test_rotated_files_come_first(tmp_path: Path) -> None:
    (tmp_path / "startd_history").write_bytes(ad(1, ExitCode=1, ExitBySignal="false"))
    (tmp_path / "startd_history.20260101T000000").write_bytes(ad(0, ExitCode=0, ExitBySignal="false"))
    assert [record.identifier for record in read_history(str(tmp_path / "startd_history"))] == ["1.0", "1.1"]


def test_a_file_cut_off_in_an_ad_gives_the_ads_before() -> None:
    whole = ad(0, ExitCode=0, ExitBySignal="false")
    assert len(list(parse_history(whole + whole[: len(whole) // 2]))) == 1


@given(st.binary(max_size=400))
def test_no_content_breaks_the_reader(content: bytes) -> None:
    list(parse_history(ad(0) + content + b"\n***\n"))
