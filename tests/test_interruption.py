"""What an exception that ended the pipeline means for the pilot."""

from __future__ import annotations

import errno
import os

import pytest

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


def test_a_workspace_that_is_gone_is_told_by_who_writes_there_and_else_a_bug() -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file or directory")
    assert unwritten(error, "probe").code == "workspace.gone"
    assert bug(error).kind is FailureKind.INTERNAL


def test_a_bug_names_the_place_it_came_from() -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        failure = bug(error)
    assert (failure.kind, failure.exit_code) == (FailureKind.INTERNAL, 70)
    assert "test_interruption.py" in failure.message
