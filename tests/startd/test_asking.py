"""Several programs are asked at once; each answer stands where its question stood."""

from __future__ import annotations

from pathlib import Path

from pilot_agent.startd.asking import ask_all

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def test_the_answers_stand_in_the_order_of_the_questions(tmp_path: Path) -> None:
    commands = [("/bin/sh", "-c", "sleep 0.3; echo first"), ("/nonexistent",), ("/bin/sh", "-c", "pwd; exit 3")]
    first, missing, last = ask_all(commands, ENVIRONMENT, deadline_seconds=60, directories=[None, None, str(tmp_path)])
    assert first.stdout == b"first\n"
    assert not missing.ok
    assert "/nonexistent" in missing.explain()
    assert (last.code, last.stdout.decode().strip()) == (3, str(tmp_path))


def test_one_that_does_not_end_costs_its_deadline_and_no_other_answer() -> None:
    hung, well = ask_all([("/bin/sleep", "600"), ("/bin/echo", "well")], ENVIRONMENT, deadline_seconds=5)
    assert hung.timed_out
    assert well.stdout == b"well\n"
