"""A real factory's door and the frontend's client, over a real connection: the two sides mean the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from server_stub.entries import Factory
from server_stub.factory import demand
from server_stub.factory.application import application
from server_stub.factory.frontends import Frontend
from server_stub.factory.live import live
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.requests import RequestSet, SetAnswer
from server_stub.factory.store import Store
from server_stub.frontend import round  # noqa: A004 - a module's name
from server_stub.frontend.client import FactoryClient, OutdatedError
from server_stub.frontend.configuration import FactoryPlan
from server_stub.frontend.cycle import Request
from server_stub.frontend.doors import doors
from server_stub.frontend.identity import load_identity, make_key
from server_stub.frontend.pressure import EntryState
from server_stub.frontend.removal import Removal
from server_stub.frontend.round import put, with_names
from server_stub.frontend.wire import EntryLimits, request_document


@dataclass(frozen=True)
class Sides:
    """The factory's store, and the client."""

    factory: Factory
    store: Store
    client: FactoryClient


@pytest.fixture
def sides(factory: Factory, store: Store, tmp_path: Path) -> Iterator[Sides]:
    make_key(str(tmp_path / "key"))
    identity = load_identity("example-vo", str(tmp_path / "key"))
    asking = (Frontend("example-vo", identity.public_key(), ("example",)),)
    running = live(replace(factory, frontends=asking), store)
    running.collected = time.time()
    with doors("127.0.0.1", 0, application(running)) as port:
        client = FactoryClient(FactoryPlan(factory.name, f"http://127.0.0.1:{port}"), identity, "example")
        yield Sides(factory, store, client)
        client.close()


def pilot(sides: Sides, name: str, job: int, state: PilotState) -> None:
    made = Pilot(
        name, "site-a", "Example_T2", "pilot.pyz", "0", state, time.time() - 100, "/nowhere", job=JobId(job, 0),
        vo="example", frontend="example-vo",
    )  # fmt: skip
    sides.store.save(made)


def test_what_a_factory_offers_a_frontend_understands_whole(sides: Sides) -> None:
    pilot(sides, "p1", 1, PilotState.QUEUED)
    pilot(sides, "p2", 2, PilotState.RUNNING)
    offered, _ = sides.client.offers()
    assert [offer.name for offer in offered.offers] == [f"site-{name}@{sides.factory.name}" for name in "ab"]
    assert offered.left_out == {}
    state = offered.states[f"site-a@{sides.factory.name}"]
    assert replace(state, oldest_queued_seconds=0.0) == EntryState(queued=1, running=1)
    assert 90 <= state.oldest_queued_seconds < 1000
    assert offered.limits[f"site-a@{sides.factory.name}"] == EntryLimits(2, 2000)
    assert offered.encryption.keys() >= {"id", "x25519"}


def test_what_a_frontend_asks_for_a_factory_keeps_and_names_its_pilots_for_it(sides: Sides) -> None:
    for number in (1, 2):
        pilot(sides, f"p{number}", number, PilotState.RUNNING)
    entry = f"site-a@{sides.factory.name}"
    wanted = with_names(sides.client, [Request(entry, 1, 1, Removal.WHOLE, ("a#2.0", "unknown#7.0", "b"))])
    answer, sequence = put(sides.client, lambda number: request_document(number, 600, wanted, "example", {}), 5)
    assert (answer["accepted"][0]["entry"], answer["refused"]) == ("site-a", [])
    (kept,) = demand.wanted(sides.store)
    assert (kept.queued, kept.pilots, kept.remove, kept.idle) == (1, 1, Removal.WHOLE, ("p2",))
    with pytest.raises(OutdatedError) as caught:
        sides.client.put_requests(request_document(4, 600, [], "example", {}))
    assert caught.value.known == sequence == 5
    assert put(sides.client, lambda number: request_document(number, 600, [], "example", {}), 3)[1] == 6
    assert [row["id"] for row in sides.client.pilots({"state": "running"})["pilots"]]


def test_an_idle_pilot_is_found_however_many_newer_ones_run(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round, "MOST_LISTED", 2)
    for number in range(1, 6):
        pilot(sides, f"p{number}", number, PilotState.RUNNING)
    wanted = [Request(f"site-a@{sides.factory.name}", 0, 0, Removal.WHOLE, ("a#1.0", "b#4.0", "c#7.0"))]
    assert with_names(sides.client, wanted)[0].idle == ("p1", "p4")
    monkeypatch.setattr(round, "MOST_PAGES", 1)
    assert with_names(sides.client, wanted)[0].idle == ("p4",), "and no factory is asked without end"


def test_after_both_clocks_were_set_back_requests_still_count(sides: Sides) -> None:
    ahead = int((time.time() + 86400) * 1e6)
    before = RequestSet(sequence=ahead, lifetime_seconds=600, requests=[])
    demand.take_set(sides.store, "example-vo", before, "digest", SetAnswer(ahead, 0.0, [], []))
    document = partial(request_document, lifetime_seconds=600, requests=[], vo="example", credentials={})
    assert put(sides.client, document, int(time.time() * 1e6))[1] == ahead + 1
    with pytest.raises(PilotError, match="future"):
        sides.client.put_requests(document(ahead + 3))
