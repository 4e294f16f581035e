"""``pilot-agent report``: an operator gets a pilot's report out of a batch job's output, or hears why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle.final_report import empty_report, failure, set_outcome
from pilot_agent.lifecycle.printed import printed
from pilot_agent.startd.history import JobRecord, summarize
from tests.commands.test_control import REPORTED

ROOT = Path(__file__).parents[2]
RECORDS = [
    JobRecord(
        identifier="1.0", user=user, project="atlas", ending=ending, cores=1, wall_seconds=10, begun=100, finished=110
    )
    for user, ending in (("a@pool", "exit 0"), ("a@pool", "signal 9"), ("b\x1b[2J@pool", "evicted"))
]


def report(name: str = "4f3a") -> dict[str, Any]:
    made = empty_report(name, 1.7e9)
    hint = "the site mounts a larger scratch"
    set_outcome(made, failure("node_resource", "disk.too_small", "8 MiB are free", hint=hint, stage="validate"))
    made["jobs"] = summarize(RECORDS, began=90, ended=150, cores=2, validation_seconds=4)
    return made


def call(directory: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "pilot_agent" / "__main__.py"), "report", *words]
    environment = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=directory, env=environment, input=given, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_report_is_printed_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "job.out").write_text("prologue\n" + printed(report()) + "epilogue\n")
    done = call(tmp_path, "extract", "job.out")
    assert (done.returncode, json.loads(done.stdout)) == (0, report()), done.stderr


def test_it_is_written_to_a_file_and_read_from_standard_input(tmp_path: Path) -> None:
    done = call(tmp_path, "extract", "-", "--output", "r.json", given=printed(report()))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert json.loads((tmp_path / "r.json").read_text()) == report()


@pytest.mark.parametrize("form", ["printed", "file"])
def test_it_is_shown_in_brief(tmp_path: Path, form: str) -> None:
    (tmp_path / "r").write_text(printed(report()) if form == "printed" else json.dumps(report()))
    done = call(tmp_path, "show", "r")
    assert done.returncode == 0, done.stderr
    for words in (
        "disk.too_small",
        "the site mounts a larger scratch",
        "Who acts: the site",
        "signal 9",
        "user a@pool",
        "2023-11-14 22:13:20 UTC to",
        "exit zero 1, busy 20 s, busy core 20 s",
        "from the pilot's start to HTCondor's",
    ):
        assert words in done.stdout
    assert "meaning" not in done.stdout
    assert "\x1b" not in done.stdout


def test_it_shows_what_the_pilot_offered(tmp_path: Path) -> None:
    (tmp_path / "r").write_text(json.dumps(report() | REPORTED))
    done = call(tmp_path, "show", "r")
    assert done.returncode == 0, done.stderr
    for words in ("23.9.6, tarball", "2 slots, each 4 cores", "box_plugin.py takes box", "the batch job ends"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("state", ["taken", "refused"])
def test_it_says_by_which_way_jobs_had_cvmfs(tmp_path: Path, state: str) -> None:
    rung = {"name": "native", "mode": None, "state": state, "tried": True, "reason": "all of a.org answer at /cvmfs"}
    ladder = {"decision": "REQUIRED", "cell": "REQUIRED x OPTIONAL", "reason": "", "rungs": [rung]}
    (tmp_path / "report.json").write_text(json.dumps(report() | {"cvmfs": ladder}))
    shown = " ".join(call(tmp_path, "show", "report.json").stdout.split())
    how = "native: all of a.org answer at /cvmfs" if state == "taken" else "no way was taken"
    assert f"CVMFS: REQUIRED (REQUIRED x OPTIONAL); {how}" in shown


def test_output_that_was_cut_off_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "job.out").write_text(printed(report())[:200])
    done = call(tmp_path, "extract", "job.out")
    assert (done.returncode, done.stdout) == (68, "")
    assert "the report of pilot 4f3a in job.out is not whole" in done.stderr
    assert "cut off" in done.stderr


def test_of_one_pilots_reports_the_last_whole_one_counts(tmp_path: Path) -> None:
    later = report() | {"leftovers": [{"path": "/x", "cause": "busy"}]}
    (tmp_path / "job.out").write_text(printed(report()) + printed(later) + printed(report())[:150])
    assert json.loads(call(tmp_path, "extract", "job.out").stdout) == later


def test_where_several_pilots_wrote_one_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "job.out").write_text(printed(report("aa")) + printed(report("bb")))
    undecided = call(tmp_path, "extract", "job.out")
    assert undecided.returncode == 2
    assert "aa, bb" in undecided.stderr
    assert json.loads(call(tmp_path, "extract", "job.out", "--pilot", "bb").stdout)["pilot"]["id"] == "bb"
    missing = call(tmp_path, "extract", "job.out", "--pilot", "cc")
    assert missing.returncode == 2
    assert "there are those of aa, bb" in missing.stderr


@pytest.mark.parametrize("content", ["", "some words\n", "{}"])
def test_a_file_without_a_report_is_said_to_have_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "job.out").write_text(content)
    done = call(tmp_path, "show", "job.out")
    assert done.returncode == 2
    assert "no report of a pilot begins in job.out" in done.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = call(tmp_path, "extract", "nowhere.out")
    assert done.returncode == 2
    assert "nowhere.out cannot be read" in done.stderr
