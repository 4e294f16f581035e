"""Pilots that run and say nothing are found; those that wait, have ended, or said all there is are not."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from server_stub.entries import Factory
from server_stub.factory.application import application
from server_stub.factory.live import live
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.silence import silent_before, silent_seconds, silent_since
from server_stub.factory.store import Store
from tests.server_stub.factory.test_application import Client

NOW = time.time()
LONG, SHORT = NOW - 7200, NOW - 60
RUNNING = Pilot("p1", "site-a", "S", "pyz", "0", PilotState.RUNNING, NOW - 9000, "/state", started=LONG, seen=LONG)


@pytest.fixture(autouse=True)
def the_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as late when a test runs as it was when its pilots were described."""
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.fixture
def hearing(factory: Factory) -> Factory:
    """A factory that takes uploads."""
    return replace(factory, uploads=True)


def test_the_most_patient_entry_decides_when_silence_begins(hearing: Factory) -> None:
    assert silent_seconds(hearing) == 3 * 300 + 60
    patient = replace(hearing.entries[0], pilot={"upload": {"heartbeat_seconds": 1000}})
    layered = replace(hearing, entries=(patient, *hearing.entries[1:]), pilot={"upload": {"period_seconds": 10}})
    assert silent_seconds(layered) == 3 * 1000 + 10
    assert silent_seconds(replace(hearing, uploads=False)) is None


@pytest.mark.parametrize(
    ("pilot", "since"),
    [
        (RUNNING, LONG),
        (replace(RUNNING, seen=None), LONG),
        (replace(RUNNING, seen=None, started=None), None),
        (replace(RUNNING, seen=SHORT), None),
        (replace(RUNNING, seen=None, started=SHORT), None),
        (replace(RUNNING, report=True), None),
        (replace(RUNNING, state=PilotState.QUEUED), None),
        (replace(RUNNING, state=PilotState.ENDED), None),
    ],
    ids=[
        "fell silent",
        "never heard",
        "unknown since when",
        "heard",
        "just began",
        "holds its slot",
        "queued",
        "ended",
    ],
)
def test_who_is_silent_is_the_same_to_pages_and_store(
    hearing: Factory, store: Store, pilot: Pilot, since: float | None
) -> None:
    store.save(pilot)
    assert silent_since(pilot, silent_before(hearing, NOW)) == since
    client = Client(application(live(hearing, store)))
    listed = client.get("/api/v1/pilots?state=silent").json()["pilots"]
    assert [one["id"] for one in listed] == ([] if since is None else ["p1"])
    assert client.get("/api/v1/pilots/p1").json()["silent_since"] == since


def test_silence_is_shown_and_leads_to_the_silent(hearing: Factory, store: Store) -> None:
    store.save(RUNNING)
    client = Client(application(live(hearing, store)))
    assert "silent <b>1</b>" in client.get("/pilots").text
    assert "silent for 2.0 h</span>" in client.get("/pilots?state=silent&entry=site-a").text
    page = client.get("/pilots/p1").text
    assert "silent for 2.0 h</span>" in page
    assert ", 2.0 h ago" in page


def test_a_factory_that_takes_nothing_calls_nobody_silent(factory: Factory, store: Store) -> None:
    store.save(RUNNING)
    client = Client(application(live(factory, store)))
    assert "silent for" not in client.get("/pilots/p1").text
    assert client.get("/api/v1/pilots?state=silent").json()["pilots"] == []


def lines(*events: Mapping[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_the_events_of_a_pilot_stand_on_its_page_and_nothing_in_them_is_markup(factory: Factory, store: Store) -> None:
    store.save(RUNNING)
    first = lines({"seconds": 0.5, "event": "pilot.started", "host": "<script>alert(1)</script>"})
    second = lines({"seconds": 7, "event": "stage.finished", "stage": "probe"}, {"event": "<b>", "seconds": "x"})
    for upto, told in ((10, first), (20, second), (30, b"torn\n")):
        assert store.add_events("p1", told, upto=upto, dropped=0, limit_bytes=1 << 20)
    client = Client(application(live(factory, store)))
    page = client.get("/pilots/p1").text
    order = [page.index(text) for text in ("pilot.started</a>", "stage.finished</a>", "&lt;b&gt;</a>", ">torn<")]
    assert order == sorted(order)
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    found = client.get("/pilots/p1?event=stage.&q=PROBE").text
    assert "stage.finished</a>" in found
    assert "pilot.started</a>" not in found
    assert 'value="PROBE"' in found
    assert "no event fits" in client.get("/pilots/p1?q=nowhere").text


def test_of_very_many_events_the_newest_are_shown(factory: Factory, store: Store) -> None:
    store.save(RUNNING)
    for upto in range(1, 4):
        told = lines(*({"event": f"e{upto}-{number}"} for number in range(100)))
        store.add_events("p1", told, upto=upto, dropped=0, limit_bytes=1 << 20)
    page = Client(application(live(factory, store))).get("/pilots/p1").text
    assert "e3-99</a>" in page
    assert "e2-0</a>" in page
    assert "e1-99</a>" not in page
    assert "in the whole log" in page
