"""A place where a part of the keeper is tried: the real loop and event log, and the ad as it would be."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pilot_agent.events import EventLog
from pilot_agent.lifecycle.acceptance import Acceptance
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.lifecycle.task_tally import TALLY_ATTRIBUTES

PATIENCE_SECONDS = 60.0
ENVIRONMENT = {"PATH": os.environ["PATH"]}


class Ad:
    """The channel's other end: the attributes as they are now."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = {}
        self.states: set[str] = set()

    def update(self, attributes: Mapping[str, Any], *, state: bool = True) -> None:
        self.now |= attributes
        if state:
            self.states |= set(attributes)

    def note(self, attributes: Mapping[str, Any]) -> None:
        self.now |= attributes

    def without_tally(self) -> dict[str, Any]:
        """What the ad has beside how the tasks went."""
        return {name: value for name, value in self.now.items() if name not in TALLY_ATTRIBUTES}


class Bench:
    """A loop, an ad, events, and what was called."""

    def __init__(self, directory: Path, alarm: Alarm) -> None:
        self.loop = Loop(alarm)
        self.ad = Ad()
        self.log = directory / "events.jsonl"
        self.events = EventLog(str(self.log), 0.0)
        self.calls: list[Any] = []
        self.acceptance = Acceptance(self.ad, lambda: self.calls.append("changed"))  # type: ignore[arg-type]

    def until(self, what: str, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < end, f"{what} did not happen: {self.names()} {self.ad.now}"
            self.loop.turn()

    def names(self) -> list[str]:
        return [event["event"] for event in self.all_events()]

    def all_events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
