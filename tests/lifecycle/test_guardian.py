"""A guardian whose child cannot be ended goes on to the end without it."""

from __future__ import annotations

import os
import signal
import subprocess
from types import SimpleNamespace
from typing import cast

import pytest

from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.finish import FINAL_SECONDS
from pilot_agent.lifecycle.guardian import DEFAULT_BUDGET_SECONDS, Guardian
from pilot_agent.lifecycle.signals import Alarm


def guardian(pid: int) -> Guardian:
    """One that told its child to stop and has waited long enough."""
    made = Guardian.__new__(Guardian)
    made._pid, made._status, made._killed = pid, None, False
    made._silence = Budget(0)
    made._budget_seconds, made._patience = DEFAULT_BUDGET_SECONDS, Budget(0)
    return made


def test_a_child_that_does_not_die_of_being_killed_is_waited_for_no_longer() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        waiting = guardian(child.pid)
        waiting._lose_patience()
        assert child.wait() == -signal.SIGKILL
        assert waiting._status is None
        assert waiting._patience is not None
        assert waiting._patience.left() > 0, "it gets a moment to die"
        waiting._patience = Budget(0)
        waiting._lose_patience()
        assert os.waitstatus_to_exitcode(waiting._status or 0) == -signal.SIGKILL


def test_the_end_that_a_child_did_not_come_to_has_no_second_budget() -> None:
    waiting = guardian(0)
    assert waiting._left() == FINAL_SECONDS
    waiting._patience = Budget(3600)
    assert waiting._left() == DEFAULT_BUDGET_SECONDS
    waiting._patience = None
    assert waiting._left() == DEFAULT_BUDGET_SECONDS


@pytest.mark.parametrize(("code", "ends_with"), [(0, 0), (2, 2), (64, 64), (143, 143), (1, 70), (127, 70), (250, 70)])
def test_a_child_that_could_not_begin_ends_the_pilot_with_a_code_that_says_who_acts(
    code: int, ends_with: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """An interpreter that does not start exits 1."""
    ended = guardian(0)
    ended._workspace, ended._role, ended._alarm = None, "pipeline", cast("Alarm", SimpleNamespace(signal=None))
    assert ended._clean_up(code << 8) == ends_with
    assert ("internal: pipeline.killed" in capfd.readouterr().err) == (ends_with == 70)


def hearing(monkeypatch: pytest.MonkeyPatch) -> tuple[Guardian, list[int]]:
    """A guardian without a workspace, and the signals that its child gets."""
    made, sent = guardian(0), list[int]()
    made._workspace, made._role, made._draining, made._child_hears = None, "pipeline", False, ()
    made._output, made._started, made._told = None, 0.0, {}
    monkeypatch.setattr(Guardian, "_send", lambda _, number: sent.append(number))
    return made, sent


def test_a_drain_waits_for_a_child_that_would_die_of_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    made, sent = hearing(monkeypatch)
    made._drain("SIGUSR1")
    assert sent == [], "one that just begins has no handler yet"
    made._take({"hears": [signal.SIGUSR1]})
    assert sent == [signal.SIGUSR1]


def test_a_child_that_hears_drains_without_a_workspace_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made, sent = hearing(monkeypatch)
    made._take({"hears": [signal.SIGUSR1]})
    assert sent == []
    made._drain("SIGUSR1")
    assert sent == [signal.SIGUSR1]


def test_a_factory_that_knows_only_two_exit_codes_gets_these() -> None:
    told = guardian(0)
    told._workspace, told._output, told._started, told._role, told._child_hears = None, None, 0.0, "pipeline", ()
    told._told, told._draining, told._ended = {}, False, None
    assert [told.exit_code(code) for code in (0, 64, 143)] == [0, 64, 143]
    told._take({"zero_or_one": True})
    told._take({"role": "keeper"})
    assert [told.exit_code(code) for code in (0, 64, 143)] == [0, 1, 0]
