"""What an exception that ended the pipeline means for the pilot."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pilot_agent import interruption
from pilot_agent.interruption import bug, unwritten
from pilot_agent.model import FailureKind


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk.full"),
        (errno.EDQUOT, "disk.full"),
        (errno.EROFS, "workspace.write"),
        (errno.EIO, "workspace.write"),
        (errno.ESTALE, "workspace.write"),
        (errno.ENOTCONN, "workspace.write"),
    ],
)
def test_a_disk_that_fails_is_the_nodes_fault_wherever_it_was_met(number: int, code: str) -> None:
    failure = bug(OSError(number, os.strerror(number)))
    assert (failure.kind, failure.code, failure.retry) == (FailureKind.NODE_RESOURCE, code, True)
    assert os.strerror(number) in failure.message


def test_the_place_that_fails_is_named() -> None:
    assert bug(OSError(errno.EIO, "Input/output error", "/cvmfs/data")).message.startswith("/cvmfs/data cannot be used")
    assert bug(OSError(errno.EIO, "Input/output error")).message.startswith("the workspace cannot be used")


def test_a_workspace_that_is_gone_is_told_by_who_writes_there_and_else_a_bug() -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file or directory")
    assert unwritten(error, "probe").code == "workspace.gone"
    assert bug(error).kind is FailureKind.INTERNAL


def test_a_payload_that_was_removed_while_it_ran_is_no_bug(tmp_path: Path) -> None:
    archive = tmp_path / "pilot.pyz"
    source = Path(interruption.__file__).parent
    with zipfile.ZipFile(archive, "w") as file:
        for path in source.rglob("*.py"):
            file.write(path, path.relative_to(source.parent))
    program = (
        "import os, sys; from pilot_agent.interruption import bug\n"
        "os.remove(sys.path[0])\n"
        "try:\n    import pilot_agent.pipeline\n"
        "except (OSError, ImportError) as error:\n    print(bug(error).code)\n"
        "print(bug(KeyError('x')).code)\n"
    )
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(archive)!r})\n{program}"]
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["workspace.gone", "internal.bug"]


def test_a_bug_names_the_place_it_came_from() -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        failure = bug(error)
    assert (failure.kind, failure.exit_code) == (FailureKind.INTERNAL, 70)
    assert "test_interruption.py" in failure.message
