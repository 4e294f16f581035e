"""What the image hook tells the keeper of its failures, and what the ad says then."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.events import EventLog
from pilot_agent.lifecycle.image_failures import FAILING_IMAGES_ATTRIBUTE, MOST_IMAGES, ImageFailures
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.startd import plan

REFERENCE = "docker://registry.example.org/el9:1"


class Told:
    """The last value that the channel was given, and the loop that makes it happen."""

    def __init__(self, path: Path, loop: Loop) -> None:
        self.value: Any = "never told"
        self.loop = loop
        self.path = path
        self.events = path.parent / "events.jsonl"
        self.failures = ImageFailures(str(path), loop, self, EventLog(str(self.events), 0.0))  # type: ignore[arg-type]

    def update(self, attributes: dict[str, Any]) -> None:
        (self.value,) = attributes.values()
        assert list(attributes) == [FAILING_IMAGES_ATTRIBUTE]

    def hear(self, *lines: str) -> Any:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, "".join(f"{line}\n" for line in lines).encode())
        os.close(descriptor)
        self.loop.turn()
        return self.value


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    alarm = Alarm(None, sticky=False)
    os.mkfifo(tmp_path / "failures.fifo", 0o600)
    made = Told(tmp_path / "failures.fifo", Loop(alarm))
    yield made
    made.failures.close()
    made.failures.close()
    alarm.close()


def test_the_configuration_names_the_same_attribute() -> None:
    assert plan.FAILING_IMAGES_ATTRIBUTE == FAILING_IMAGES_ATTRIBUTE


def test_a_failing_image_is_in_the_ad_until_its_pause_is_over(told: Told) -> None:
    assert told.hear(json.dumps([REFERENCE, 60])) == REFERENCE
    assert told.hear(json.dumps(["oras://a/b", 0.2]), json.dumps([REFERENCE, 0.1])) == f"oras://a/b {REFERENCE}"
    while told.value is not None:
        told.loop.turn()
    assert "image.failing" in told.events.read_text()


def test_the_number_of_images_in_the_ad_is_bounded(told: Told) -> None:
    lines = [json.dumps([f"docker://r/{number}", 60]) for number in range(MOST_IMAGES + 3)]
    assert told.hear(*lines).split() == [f"docker://r/{number}" for number in range(3, MOST_IMAGES + 3)]


@pytest.mark.parametrize(
    "line",
    ["", "{", "7", "[]", '["a"]', '["a b", 60]', '["", 60]', '["a\\nb", 60]', '[7, 60]', '["a", "x"]', '["a", NaN]',
     '["a", -1]', '{"a": 1}', "\\xff", json.dumps(["a" * 3000, 60]),
     json.dumps(["a", 10**400])],
)  # fmt: skip
def test_what_is_no_message_of_the_hook_changes_nothing(told: Told, line: str) -> None:
    assert told.hear(line) is None
    assert told.hear(line, json.dumps([REFERENCE, 60])) == REFERENCE


def test_no_image_is_kept_out_for_long(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(Loop, "call_later", lambda self, seconds, action: asked.append(seconds))
    told.hear(json.dumps([REFERENCE, 1e9]))
    assert asked == [3600]


def test_without_the_fifo_there_is_nothing_to_hear(tmp_path: Path) -> None:
    alarm = Alarm(None, sticky=False)
    ImageFailures(str(tmp_path / "none"), Loop(alarm), None, EventLog(str(tmp_path / "events"), 0.0))  # type: ignore[arg-type]
    alarm.close()
