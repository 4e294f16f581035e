"""Environment modules: their answer is read, nothing of it is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.containers.modules import directories, program, read_path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("PATH=/sw/bin:/bin; export PATH;", ["/sw/bin", "/bin"]),
        ('PATH="/sw/bin:/bin";\nexport PATH;\n', ["/sw/bin", "/bin"]),
        ("export PATH='/sw a/bin:/bin';", ["/sw a/bin", "/bin"]),
        ("PATH=/one;\nPATH=/two; export PATH", ["/two"]),
        ("MANPATH=/man; PATH=/sw/bin;", ["/sw/bin"]),
        ("PATH=.:bin:/sw/bin", ["/sw/bin"]),
        ("LD_LIBRARY_PATH=/lib; export LD_LIBRARY_PATH", []),
        ('PATH="$(touch /tmp/x):/bin"', []),
        ("PATH=`id`:/bin", []),
        ("false", []),
        ("", []),
    ],
)
def test_only_a_plain_assignment_of_the_search_path_counts(text: str, found: list[str]) -> None:
    assert read_path(text) == found


@given(st.text(alphabet="PATH=/:;'\"$` \nabc"))
def test_whatever_is_printed_only_absolute_plain_directories_come_out(text: str) -> None:
    assert all(directory.startswith("/") and not set(directory) & set("$`") for directory in read_path(text))


def executable(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_program_is_found_by_what_the_sites_set_up_left(tmp_path: Path) -> None:
    lmod = executable(tmp_path / "lmod", "")
    home = executable(tmp_path / "home" / "libexec" / "modulecmd.tcl", "")
    assert program({"LMOD_CMD": lmod, "MODULESHOME": str(tmp_path / "home")}) == [lmod, "sh"]
    assert program({"MODULESHOME": str(tmp_path / "home")}) == [home, "sh"]
    assert program({"LMOD_CMD": "lmod", "MODULES_CMD": str(tmp_path / "none")}) is None
    assert program({}) is None


def test_only_added_directories_are_told(tmp_path: Path) -> None:
    command = [executable(tmp_path / "m", "echo 'PATH=/sw/bin:/usr/bin:/bin; export PATH'"), "sh"]
    assert directories("apptainer", command, {}, {"PATH": "/usr/bin:/bin"}) == ["/sw/bin"]


def test_a_program_that_fails_brings_nothing(tmp_path: Path) -> None:
    command = [executable(tmp_path / "m", "echo no such module >&2; exit 1"), "sh"]
    assert directories("apptainer", command, {}, {"PATH": "/bin"}) == []
    assert directories("apptainer", ["/no/such", "sh"], {}, {"PATH": "/bin"}) == []
