"""The factory takes what its pilots send while they run, judges it, and refuses all the rest."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pilot_agent.lifecycle.final_report import empty_report, failure, set_outcome
from server_stub import uploads
from server_stub.entries import Factory
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.submit import ENTRY_FILE, prepare
from server_stub.web import application


@pytest.fixture
def open_factory(factory: Factory) -> Factory:
    return replace(factory, uploads=True)


@pytest.fixture
def pilot(factory: Factory, store: Store, tmp_path: Path) -> Pilot:
    directory = tmp_path / "p1"
    directory.mkdir()
    made = Pilot("p1", factory.entries[0].name, "S", "pyz", "0", PilotState.RUNNING, 1.0, str(directory), JobId(7, 0))
    store.save(made)
    return made


def post(factory: Factory, store: Store, path: str, content: bytes) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=application(factory, store))
        async with httpx.AsyncClient(transport=transport, base_url="http://factory") as client:
            return await client.post(path, content=content)

    return asyncio.run(once())


def failed_report() -> dict[str, Any]:
    report = empty_report("4f3a", 1.7e9)
    set_outcome(report, failure("node_resource", "disk.too_small", "8 MiB"))
    return report


def test_a_report_is_shown_while_the_pilot_still_holds_its_slot(
    open_factory: Factory, store: Store, pilot: Pilot
) -> None:
    report = failed_report()
    assert post(open_factory, store, "/pilots/p1/report", json.dumps(report).encode()).status_code == 204
    found = store.get("p1")
    assert found is not None
    assert (found.state, found.failure_code, found.message) == (PilotState.RUNNING, "disk.too_small", "8 MiB")
    assert store.report("p1") == report


def test_events_are_kept_in_their_order(open_factory: Factory, store: Store, pilot: Pilot) -> None:
    for line in (b'{"event": 1}\n', b'{"event": 2}\n'):
        assert post(open_factory, store, "/pilots/p1/events", line).status_code == 204
    assert Path(pilot.directory, uploads.EVENTS_FILE).read_bytes() == b'{"event": 1}\n{"event": 2}\n'


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"schema": "x"}', b"[" * 100_000, b'{"a": NaN}'])
def test_what_is_no_report_is_refused(open_factory: Factory, store: Store, pilot: Pilot, content: bytes) -> None:
    answer = post(open_factory, store, "/pilots/p1/report", content)
    assert (answer.status_code, store.report("p1")) == (400, None)


def test_too_much_is_refused(
    open_factory: Factory, store: Store, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "EVENTS_LIMIT_BYTES", 10)
    assert post(open_factory, store, "/pilots/p1/events", b"x" * 11).status_code == 400
    assert post(open_factory, store, "/pilots/p1/events", b"x" * (uploads.BATCH_LIMIT_BYTES + 1)).status_code == 413


def test_a_pilot_that_ended_or_is_unknown_sends_no_more(open_factory: Factory, store: Store, pilot: Pilot) -> None:
    store.save(replace(pilot, state=PilotState.ENDED))
    for name in ("p1", "p2"):
        assert post(open_factory, store, f"/pilots/{name}/events", b"{}\n").status_code == 404


def test_a_factory_takes_nothing_unless_it_says_so(factory: Factory, store: Store, pilot: Pilot) -> None:
    assert post(factory, store, "/pilots/p1/report", json.dumps(failed_report()).encode()).status_code == 405
    assert post(factory, store, "/pilots/p1/events", b"{}\n").status_code == 404


def test_a_pilot_learns_its_address_only_from_a_factory_that_takes_uploads(
    factory: Factory, open_factory: Factory, pilot: Pilot
) -> None:
    entry = replace(factory.entries[0], tokens=None)
    told = []
    for number, one in enumerate((factory, open_factory)):
        made = replace(pilot, id=f"q{number}", directory=f"{pilot.directory}/{number}")
        prepare(one, entry, made)
        told.append(json.loads(Path(made.directory, ENTRY_FILE).read_text()).get("upload"))
    assert told == [None, {"url": f"{factory.url}/pilots/q1"}]
