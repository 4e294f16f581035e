"""Programs that the resident processes start."""

from __future__ import annotations

import os
import signal

import pytest

from pilot_agent.lifecycle.spawn import run_short
from tests.lifecycle.bench import ENVIRONMENT


def test_a_helper_that_may_not_be_killed_is_left_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def refuse(pid: int, number: int) -> None:
        tried.append(pid)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refuse)
    assert run_short(["/bin/sleep", "600"], ENVIRONMENT, 0.1) is None
    [pid] = tried
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
