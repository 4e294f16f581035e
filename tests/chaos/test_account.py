"""What the suite prints says what happened, and its last line is the one that programs read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import account
from tests.chaos.choice import choose
from tests.chaos.evidence import Evidence, begin


@pytest.fixture
def tried() -> list[Evidence]:
    """Five points that were survived."""
    found = [begin(point, seed=1) for point in choose(1, 5)]
    for one in found:
        one.exit_code, one.report, one.seconds = one.expected_exit_codes[0], "valid", 12.3
    return found


def test_the_last_line_counts_points_leftovers_and_lost_jobs(tried: list[Evidence]) -> None:
    assert account.last_line(tried) == "chaos: 5 tried, 5 survived, 0 leftovers, 0 jobs lost"
    tried[0].problems.append("exit code 1, expected [143]")
    tried[1].leftovers += ["files: /tmp/a", "files: /tmp/b"]
    tried[2].jobs_lost = 3
    assert account.last_line(tried) == "chaos: 5 tried, 4 survived, 2 leftovers, 3 jobs lost"


def test_the_table_fits_a_terminal_and_marks_what_was_not_survived(tried: list[Evidence]) -> None:
    tried[0].problems.append("no report was published")
    lines = account.table(tried).splitlines()
    row = next(line for line in lines if line.startswith(tried[0].fault + " "))
    assert "1!" in row
    assert max(map(len, lines[:-1])) <= 80


def test_a_failed_point_comes_with_its_evidence_and_the_command_that_repeats_it(tried: list[Evidence]) -> None:
    tried[0].problems.append("no report was published")
    text = account.failures(tried, {one.number: Path(f"build/chaos/{one.number}.json") for one in tried})
    assert "no report was published" in text
    assert "evidence: build/chaos/1.json" in text
    assert f"make chaos CHAOS_SEED=1 CHAOS_ONLY={tried[0].fault}@{tried[0].stage}:{tried[0].payload}" in text
    assert tried[1].fault + "@" not in text.replace(tried[0].name, "")


def test_a_progress_line_says_what_where_and_how_it_went(tried: list[Evidence]) -> None:
    line = account.line(tried[0], 5)
    assert line.startswith("[  1/5] ")
    assert f"{tried[0].fault} at {tried[0].stage}" in line
    assert " ok " in line
    tried[0].leftovers.append("files: /tmp/a")
    assert "FAILED" in account.line(tried[0], 5)
    assert "1 left" in account.line(tried[0], 5)
