"""Logs are lines of JSON, as many as were asked for, and their events are told in the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from server_stub.log import configure_log

ROOT = Path(__file__).parents[2]
SAID = re.compile(r"\blog\.(?:debug|info|warning|error)(?: if [^,()]*)?[(,]\s*(?:[a-z.]+,\s*)?\"([a-z_.]+)\"")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def lines(capsys: pytest.CaptureFixture[str], **environment: str) -> list[dict[str, object]]:
    configure_log(environment)
    log = structlog.get_logger("server_stub.test")
    log.debug("entry", name="a")
    log.info("cycle", number=3, text='two\nlines "quoted"')
    log.error("cycle.failed")
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = lines(capsys)
    assert (first["event"], first["level"], first["number"]) == ("cycle", "info", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", str(first["timestamp"]))
    assert first["text"] == 'two\nlines "quoted"'
    assert second["event"] == "cycle.failed"


@pytest.mark.parametrize(("level", "number"), [("debug", 3), ("INFO", 2), ("error", 1), ("nonsense", 2)])
def test_as_much_is_told_as_was_asked_for(level: str, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(lines(capsys, PILOT_LOG_LEVEL=level)) == number


def events() -> set[str]:
    """What the servers' sources log by a name that stands there."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "server_stub").rglob("*.py"))]
    return {name for text in texts for name in SAID.findall(text)}


def test_every_event_is_told_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "servers.md").read_text(encoding="utf-8")
    found = events()
    assert {"serving", "stopped", "reloaded", "control.submitted", "cycle"} <= found
    assert [name for name in sorted(found) if f"`{name}`" not in page] == []
