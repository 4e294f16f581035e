"""HTCondor's LIBEXEC of the pilot is the node's, but for the script that enters jobs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pilot_agent.startd.libexec import SHELL_SETUP, make_libexec


def test_everything_is_linked_and_one_script_replaced(tmp_path: Path) -> None:
    node, own = tmp_path / "node", tmp_path / "own"
    node.mkdir()
    for name in (SHELL_SETUP, "curl_plugin"):
        (node / name).write_text("the node's")
    make_libexec(str(node), str(own), {"own_program": "#!/bin/sh\n"})
    assert os.readlink(own / "curl_plugin") == str(node / "curl_plugin")
    assert not (own / SHELL_SETUP).is_symlink()
    assert os.access(own / SHELL_SETUP, os.X_OK)
    assert (node / SHELL_SETUP).read_text() == "the node's"
    assert (own / "own_program").stat().st_mode & 0o777 == 0o500


def test_the_script_refuses_when_there_is_no_container_to_enter(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    make_libexec(str(tmp_path / "node"), str(tmp_path / "own"), {})
    told = tmp_path / "environment"
    told.write_text(f"export _CONDOR_JOB_PIDS='{os.getpid()}'\ntouch {tmp_path}/sourced\n")
    done = subprocess.run(
        [tmp_path / "own" / SHELL_SETUP, told],
        env={"PATH": os.environ["PATH"], "SSH_ORIGINAL_COMMAND": f"touch {tmp_path}/ran"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no container that can be entered" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "sourced").exists()
