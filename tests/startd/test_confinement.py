"""HTCondor's starter runs where the tokens are not; a node that does not allow it is told apart."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pilot_agent.startd.confinement import can_confine, runtime_text, starter_text


def test_the_starter_gets_its_own_arguments_and_paths_are_no_shell_words(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(starter_text("/usr/sbin/condor_starter", source="/t'o", private="/w/$(x)"))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "unshare").write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    (tools / "unshare").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", program, "-f", "x y"], env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.stdout.endswith("<sh></t'o></w/$(x)></usr/sbin/condor_starter><-f><x y>")


def test_the_runtime_finds_its_helpers_on_the_node_only(tmp_path: Path) -> None:
    (tmp_path / "program").write_text(runtime_text("/usr/bin/env"))
    done = subprocess.run(
        ["/bin/sh", tmp_path / "program"],
        env={"PATH": "/proc/self/cwd:/usr/bin", "A": "1"},
        capture_output=True,
        text=True,
    )
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in done.stdout.splitlines()
    assert "A=1" in done.stdout.splitlines()


def test_a_node_without_the_tools_cannot_confine(tmp_path: Path) -> None:
    here, absent = str(tmp_path), str(tmp_path / "none")
    assert not can_confine({"PATH": here}, source=absent, private=here)


def test_what_cannot_be_covered_is_not_called_confined(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert not can_confine(dict(os.environ), source=absent, private=absent)
