"""`import glideinwms` writes files that the frontend's own reader takes, and writes over nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server_stub.cli import main
from server_stub.frontend.configuration import read_frontend
from tests.server_stub.frontend.importing.test_glideinwms import FRONTEND

Told = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "frontend.xml"
    path.write_text(FRONTEND)
    return str(path)


def words(file: str, *more: str) -> list[str]:
    return ["frontend", "import", "glideinwms", file, "--vo", "example", *more]


def test_files_are_written_that_a_frontend_takes(file: str, tmp_path: Path, capsys: Told) -> None:
    new = tmp_path / "new"
    assert main(words(file, "--output", str(new))) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "note: stage.base_dir: " in told.err
    assert sorted(path.name for path in new.iterdir()) == ["Example_fe-main.pilots.yaml", "Example_fe-main.yaml"]
    assert read_frontend(str(new / "Example_fe-main.yaml")).name == "Example_fe-main"
    assert main(words(file, "--output", str(new))) == 2
    assert "Example_fe-main.yaml: exists already, and nothing was written" in capsys.readouterr().err


def test_documents_are_printed_for_people_and_for_programs(file: str, capsys: Told) -> None:
    assert main(words(file)) == 0
    assert capsys.readouterr().out.startswith("# Example_fe-main.yaml\nname: Example_fe-main\n")
    assert main(words(file, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found["documents"]) == ["Example_fe-main.pilots.yaml", "Example_fe-main.yaml"]
    assert found["problems"] == []


def test_what_the_frontend_would_refuse_is_told(file: str, capsys: Told) -> None:
    Path(file).write_text(FRONTEND.replace("factory.example.org:9618", "nobody here"))
    assert main(words(file)) == 66
    assert "problem: Example_fe-main: the frontend's file has 1 problem: factories" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [("<frontend/>", "has no enabled group"), ("<frontend", "the document is not taken")],
)
def test_what_is_no_frontend_is_refused(file: str, content: str, said: str, capsys: Told) -> None:
    Path(file).write_text(content)
    assert main(words(file)) == 66
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_and_a_vo_that_is_no_name_are_told(file: str, capsys: Told) -> None:
    assert main(words("/nowhere.xml")) == 66
    assert main(["frontend", "import", "glideinwms", file, "--vo", "a b"]) == 2
    assert "--vo 'a b' is no name" in capsys.readouterr().err
