"""When the startd is asked to report to the collector, and that only it is."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.lifecycle.startd_report import STATE_GAP_SECONDS, VALUE_GAP_SECONDS, StartdReport
from tests.lifecycle.scenario import wait_until


class Clock:
    """A loop whose timers come when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, object]] = []

    def monotonic(self) -> float:
        return self.now

    def call_later(self, seconds: float, action: object) -> None:
        self.timers.append((self.now + seconds, action))

    def pass_seconds(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()  # type: ignore[operator]
        self.now = end


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> tuple[Clock, StartdReport, list[float]]:
    clock = Clock()
    times: list[float] = []
    monkeypatch.setattr(time, "monotonic", clock.monotonic)

    def find() -> list[int]:
        times.append(clock.now - 1000.0)
        return []

    return clock, StartdReport(clock, find), times  # type: ignore[arg-type]


def test_a_state_is_reported_soon_and_states_not_too_often(
    asked: tuple[Clock, StartdReport, list[float]],
) -> None:
    clock, report, times = asked
    clock.pass_seconds(100)
    for _ in range(30):
        report.ask(state=True)
        clock.pass_seconds(1)
    clock.pass_seconds(10)
    assert times[0] <= 102
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= STATE_GAP_SECONDS
    assert max(gaps) < 10, "a state is at the collector within 10 s"


def test_values_that_change_all_the_time_are_reported_once_in_a_while(
    asked: tuple[Clock, StartdReport, list[float]],
) -> None:
    clock, report, times = asked
    for _ in range(300):
        report.ask(state=False)
        clock.pass_seconds(1)
    assert len(times) <= 300 / VALUE_GAP_SECONDS
    report.ask(state=False)
    report.ask(state=True)
    before = len(times)
    clock.pass_seconds(STATE_GAP_SECONDS + 2)
    assert len(times) == before + 1, "a state does not wait behind a value"


def test_the_one_that_is_found_gets_the_signal_and_one_that_is_gone_is_no_problem(tmp_path: Path) -> None:
    alarm = Alarm(None, sticky=False)
    loop = Loop(alarm)
    # A shell cannot catch a signal that whoever started the tests ignores.
    script = (
        "import pathlib, signal, sys, time\nhere = pathlib.Path(sys.argv[1])\n"
        "signal.signal(signal.SIGHUP, lambda *_: ((here / 'told').touch(), sys.exit()))\n"
        "(here / 'up').touch()\nwhile True: time.sleep(0.05)\n"
    )
    startd = subprocess.Popen([sys.executable, "-I", "-S", "-c", script, str(tmp_path)])
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    try:
        wait_until((tmp_path / "up").exists, "it runs")
        StartdReport(loop, lambda: [gone.pid, startd.pid]).ask(state=True)
        while loop._timers:
            loop.turn()
        assert startd.wait(60) == 0
        assert (tmp_path / "told").exists()
    finally:
        startd.kill()
        startd.wait()
        alarm.close()
