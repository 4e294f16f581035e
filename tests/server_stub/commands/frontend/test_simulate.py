"""`simulate` answers people with lines of blocks, programs with JSON, and mistakes with a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from server_stub.cli import main

SCENARIO = "sites: [{name: <b>}]\nload: [{jobs: 20, seconds: 1800}]\n"


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "a&b.yaml"
    path.write_text(SCENARIO)
    return str(path)


def test_people_see_every_series_and_what_was_paid(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frontend", "simulate", scenario]) == 0
    told = capsys.readouterr().out
    assert "20 of 20 jobs in" in told
    assert "core hours paid" in told
    waiting = next(line for line in told.splitlines() if line.startswith("jobs waiting"))
    assert "█" in waiting
    assert waiting.endswith(" 20")


@pytest.mark.parametrize("words", [[], ["simulate"]])
def test_help_has_examples_and_fits_a_terminal(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["frontend", *words, "--help"])
    told = capsys.readouterr().out
    assert "\nexamples:\n  pilot-frontend simulate scenario.yaml\n" in told
    assert max(map(len, told.splitlines())) <= 80


def test_programs_get_the_figures_and_every_cycle(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frontend", "simulate", scenario, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["figures"]["jobs_done"] == 20
    assert told["cycles"][0]["jobs_waiting"] == 20
    assert set(told["figures"]["waste"]) == {"starting", "lost_jobs", "idle"}


def test_the_plots_are_one_picture(scenario: str, tmp_path: Path) -> None:
    assert main(["frontend", "simulate", scenario, "--svg", str(tmp_path / "plot.svg")]) == 0
    picture = ET.fromstring((tmp_path / "plot.svg").read_text())
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 8
    assert all(len(line.attrib["points"].split()) > 10 for line in lines)
    assert "a&b: 20 of 20 jobs" in "".join(picture.itertext())


def test_a_wrong_scenario_is_a_configuration_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace("jobs", "job"))
    assert main(["frontend", "simulate", str(path)]) == 66
    assert "load[0].job: unknown key; did you mean jobs?" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frontend", "simulate", scenario, "--svg", "/nowhere/plot.svg"]) == 2
    assert "/nowhere/plot.svg cannot be written" in capsys.readouterr().err
