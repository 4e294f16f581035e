"""What the keeper tells the startd when a clock jumps or the moments of the pilot's end change."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from pilot_agent.events import EventLog
from pilot_agent.lifecycle import timewatch
from pilot_agent.lifecycle.acceptance import Acceptance
from pilot_agent.lifecycle.channel import AdChannel
from pilot_agent.lifecycle.keeper_time import RETIRING, TO_DIE, TO_RETIRE, KeeperTime
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.plan import TimePlan

HOUR = 3600.0


class Bench:
    """A keeper's time whose timers come when the test says so; ``jumped`` is added to the wall clock."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, plan: TimePlan) -> None:
        self.jumped = 0.0
        self.timers: list[Any] = []
        self.ad: dict[str, Any] = {}
        self.calls: list[str] = []
        self.events = EventLog(str(directory / "events.jsonl"), 0.0)
        read = timewatch.read_clocks()
        monkeypatch.setattr(
            timewatch.TimeWatch.__init__, "__kwdefaults__", {"read": lambda: (read[0] + self.jumped, *read[1:])}
        )
        channel, loop = cast("AdChannel", self), cast("Loop", self)
        self.acceptance = Acceptance(channel, lambda: None)
        self.time = KeeperTime(
            plan,
            loop,
            channel,
            self.events,
            self.acceptance,
            busy=lambda: True,
            leave=lambda: self.calls.append("leave"),
            end=lambda problem: self.calls.append(problem["code"]),
            over=lambda: False,
            changed=lambda: self.calls.append("changed"),
        )

    def call_later(self, seconds: float, action: Any) -> None:
        self.timers.append(action)

    def update(self, attributes: dict[str, Any], *, state: bool = True) -> None:
        self.ad |= attributes

    def renew(self) -> None:
        self.calls.append("renew")

    def turn(self) -> None:
        due, self.timers = self.timers, []
        for action in due:
            action()


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_after_a_jump_of_the_clock_the_ad_is_renewed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    bench = Bench(tmp_path, monkeypatch, TimePlan(retire=time.time() + 8 * HOUR, deadline=time.time() + 9 * HOUR))
    bench.turn()
    assert bench.calls == []
    bench.jumped = seconds
    bench.turn()
    assert bench.calls == ["renew"]
    assert bench.acceptance.reasons == set()
    assert "clock.jumped" in (tmp_path / "events.jsonl").read_text()


def test_a_clock_that_jumps_past_the_retirement_closes_the_pilot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch, TimePlan(retire=time.time() + HOUR / 2, deadline=time.time() + 2 * HOUR))
    bench.jumped = HOUR
    bench.turn()
    assert bench.acceptance.reasons == {RETIRING}
    assert bench.ad["PilotAccepting"] is False


def test_an_announced_end_is_in_the_ad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, TimePlan(retire=time.time() + 8 * HOUR, deadline=time.time() + 9 * HOUR))
    end = int(time.time() + 2 * HOUR)
    bench.time.hear({"PilotShutdownTime": end})
    assert bench.calls == ["changed"]
    assert bench.ad[TO_DIE] == end - 25
    assert bench.ad[TO_RETIRE] < bench.ad[TO_DIE]
