"""Pilots go out with what their frontend gave for them, and get newer ones while they are on their way."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.model import PilotError
from server_stub.credentials.kinds import Kind
from server_stub.entries import Factory, parse_factory
from server_stub.factory import lending
from server_stub.factory.live import Live, live
from server_stub.factory.pilots import PilotState
from server_stub.factory.store import Store
from server_stub.submit import submit_pilots
from tests.server_stub.conftest import ScriptedBatch
from tests.server_stub.factory.test_vault import NOW, put, scitoken, token


@pytest.fixture
def running(document: dict[str, Any], store: Store, tmp_path: Path) -> Live:
    """Its first entry is at a compute element, and its pilots join a pool."""
    document["entries"][0] |= {"type": "condor", "contact": "ce.example.org"}
    document["entries"][0].pop("tokens")
    document["pilot"]["pool"] = {"collectors": ["cm.example.org:9618"]}
    document |= {"uploads": True, "url": "https://factory.example.org"}
    return live(parse_factory(document, str(tmp_path)), store)


def submit(running: Live, batch: ScriptedBatch, count: int = 1) -> Any:
    entry = running.factory.entry("site-a")
    given = lending.lend(running)(entry, ("s",))
    return submit_pilots(
        running.factory, entry, count, running.store, batch, vo="v", frontend="fe", credentials=given
    )  # fmt: skip


def test_a_pilot_takes_its_own_token_and_the_sites_along_and_fetches_newer_ones(
    running: Live, batch: ScriptedBatch
) -> None:
    put(running.vault, "a", own := token("a", NOW + 86400))
    put(running.vault, "s", at_site := scitoken("s", NOW + 86400), kind=Kind.SCITOKEN, entry="")
    (pilot,) = submit(running, batch)
    directory = Path(pilot.directory)
    assert (directory / "pilot.token").read_bytes() == own
    assert (directory / "site.scitoken").read_bytes() == at_site
    assert [path.stat().st_mode & 0o777 for path in directory.glob("*.*token")] == [0o600] * 3
    layer = json.loads((directory / "entry.json").read_text())
    assert layer["pool"] == {"token": "pilot.token", "renew_token": True}
    lines = batch.submitted[0].read_text()
    assert f"scitokens_file = {directory}/site.scitoken" in lines
    assert own.decode() not in lines
    put(running.vault, "s", newer := scitoken("s2", NOW + 90000), kind=Kind.SCITOKEN, entry="")
    lending.renew(running.vault, running.factory)
    assert (directory / "site.scitoken").read_bytes() == newer
    running.store.save(replace(pilot, state=PilotState.ENDED, ended=time.time()), known=pilot)
    lending.tidy(running.vault)
    assert [known.id for known in running.vault.known("fe")] == ["s"]


def test_without_a_token_for_it_no_pilot_is_submitted(running: Live, batch: ScriptedBatch, store: Store) -> None:
    put(running.vault, "a", token("a", NOW + 86400))
    with pytest.raises(PilotError, match="gave no token for a further pilot"):
        submit(running, batch, 2)
    assert [pilot.state for pilot in store.pilots()] == [PilotState.QUEUED]


@pytest.mark.parametrize(
    ("tokens", "pool", "needed"),
    [
        (None, {"collectors": ["cm"]}, True),
        ("/tokens", {"collectors": ["cm"]}, False),
        (None, {"collectors": ["cm"], "token": "/etc/token"}, False),
        (None, {}, False),
    ],
)
def test_only_a_pilot_that_joins_a_pool_and_has_no_token_from_elsewhere_needs_one(
    factory: Factory, tokens: str | None, pool: dict[str, Any], needed: bool
) -> None:
    entry = replace(factory.entries[0], tokens=tokens)
    assert lending.needs_token(replace(factory, pilot={"pool": pool}), entry) is needed
