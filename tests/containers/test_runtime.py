"""Where runtimes are looked for, and what their answers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.containers.runtime import (
    RuntimeProgram,
    RuntimeRefusal,
    ask,
    mode_of,
    parse_version,
    told,
)


def program(path: Path, text: str = "exit 0") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "flavour", "version", "numbers"),
    [
        ("apptainer version 1.4.5", "apptainer", "1.4.5", (1, 4, 5)),
        ("apptainer version 1.4.5-1.el9\n", "apptainer", "1.4.5-1.el9", (1, 4, 5)),
        ("apptainer version 1.6.0-rc.1", "apptainer", "1.6.0-rc.1", (1, 6, 0)),
        ("singularity-ce version 4.1.0-jammy", "singularity-ce", "4.1.0-jammy", (4, 1, 0)),
        ("singularity version 3.8.7-1.el7", "singularity", "3.8.7-1.el7", (3, 8, 7)),
        ("2.6.1-dist", "singularity", "2.6.1-dist", (2, 6, 1)),
        ("WARNING: something\napptainer version 1.1.0", "apptainer", "1.1.0", (1, 1, 0)),
    ],
)
def test_versions_of_all_flavours_are_read(text: str, flavour: str, version: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == (flavour, version, numbers)


@pytest.mark.parametrize("text", ["", "command not found", "version"])
def test_a_text_without_a_version_is_none(text: str) -> None:
    assert parse_version(text) is None


def test_a_runtime_that_answers_is_known_by_its_version(tmp_path: Path) -> None:
    path = program(tmp_path / "apptainer", "echo apptainer version 1.3.4")
    assert ask(path, "PATH", {}) == RuntimeProgram(
        path, "apptainer", "1.3.4", (1, 3, 4), "PATH", "apptainer version 1.3.4"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo broken >&2; exit 3", "exited 3: broken"),
        ("echo hello", "names no version"),
        ("kill -9 $$", "ended by signal 9"),
    ],
)
def test_a_runtime_that_does_not_answer_is_refused_with_the_reason(tmp_path: Path, text: str, expected: str) -> None:
    answer = ask(program(tmp_path / "apptainer", text), "PATH", {})
    assert isinstance(answer, RuntimeRefusal)
    assert expected in answer.reason


def test_a_missing_runtime_is_refused_with_the_reason() -> None:
    answer = ask("/no/such/apptainer", "containers.runtime", {})
    assert isinstance(answer, RuntimeRefusal)
    assert "ENOENT" in answer.reason
    assert "containers.runtime" in answer.reason


def test_only_the_nodes_own_user_namespace_speaks_of_a_privileged_helper() -> None:
    assert mode_of("0 0 4294967295") == "setuid"
    assert mode_of("1500 1500 1") == "userns"
    assert mode_of("0 1500 1") == "userns"
    assert mode_of("") == "userns"


def entry(**changes: object) -> dict[str, object]:
    return {"path": "/usr/bin/apptainer", "kind": "apptainer", "version": "1.4.5-2", "problem": ""} | changes


def test_a_runtime_that_told_its_version_to_the_probes_need_not_be_asked() -> None:
    found = told("/usr/bin/apptainer", "PATH", [entry(path="/opt/apptainer"), entry()])
    assert found == RuntimeProgram(
        "/usr/bin/apptainer", "apptainer", "1.4.5-2", (1, 4, 5), "PATH", "apptainer version 1.4.5-2"
    )


@pytest.mark.parametrize(
    "software",
    [None, [], [entry(path="/opt/apptainer")], [entry(kind="singularity")], [entry(version=None, problem="it hung")]],
)
def test_a_runtime_that_did_not_is_asked(software: object) -> None:
    assert told("/usr/bin/apptainer", "PATH", software) is None
