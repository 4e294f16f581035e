"""The account fits the terminal and shows what happened, also when it did not go well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.testbed.demo.account import Bar, account, picture
from tests.testbed.demo.outcome import Outcome


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal(outcome: Outcome, width: int) -> None:
    assert max(map(len, account(outcome, width).splitlines())) <= width


def test_it_shows_pilots_jobs_visit_and_cleaning(outcome: Outcome) -> None:
    text = account(outcome, 120)
    for piece in (
        "pilot aa, entry with-python",
        "lived 60.0 s, ended with exit status 0",
        "cores 2",
        "CVMFS absent",
        "containers REQUIRED (PREFERRED x REQUIRED) with /usr/bin/apptainer 1.4.5",
        "service clock: ready",
        "container_image",
        "into job 1.0: sees debian 12 in /srv",
        "wn1: 1 processes, 0 mounts and 1 files while its pilot ran; now there is none",
    ):
        assert piece in text


def test_a_run_in_which_nothing_worked_is_still_told(outcome: Outcome) -> None:
    pilots = tuple(replace(pilot, report={}, row=replace(pilot.row, message="no report")) for pilot in outcome.pilots)
    jobs = tuple(replace(job, said={}, exit_code=None, state="idle", ended=0.0) for job in outcome.jobs)
    text = account(replace(outcome, pilots=pilots, jobs=jobs, visit=None), 80)
    assert "no report" in text
    assert "there was no visit" in text
    assert max(map(len, text.splitlines())) <= 80


def test_bars_stand_where_their_time_is() -> None:
    lines = picture([Bar("first", 0.0, 5.0), Bar("second", 5.0, 5.0)], 10.0, 80)
    first, second = (line.partition("|")[2].rstrip("|") for line in lines)
    assert first.rstrip() == "#" * 20
    assert second == " " * 20 + "#" * 20


def test_a_moment_is_still_seen_and_nothing_leaves_the_picture() -> None:
    (line,) = picture([Bar("late", 99.0, 50.0)], 10.0, 80)
    assert line.count("#") == 1
    assert line.endswith("|")
