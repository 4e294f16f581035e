"""The factory takes what its pilots send of themselves, judges it, and refuses all the rest."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from pilot_agent.lifecycle.final_report import empty_report, failure, set_outcome
from server_stub.entries import Factory
from server_stub.factory import receive
from server_stub.factory.application import application
from server_stub.factory.description import description
from server_stub.factory.limits import Rate
from server_stub.factory.live import Live, live
from server_stub.factory.pilots import JobId, Pilot, PilotState, Scores
from server_stub.factory.store import Store
from server_stub.factory.tokens import NEXT_SECONDS, load_key
from server_stub.submit import ENTRY_FILE, UPLOAD_TOKEN_FILE, parcel_of, prepare

EVENTS = b'{"event": "a"}\n{"event": "b"}\n'


@dataclass(frozen=True)
class Door:
    """The application in this process, and who holds which token."""

    running: Live
    app: FastAPI

    def post(self, path: str, content: Any, *, token: str | None = "", **headers: str) -> httpx.Response:
        """As the pilot p1 with a good token, unless another or none (None) is given."""
        if token == "":
            token = self.running.tokens.issue("p1")
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["authorization"] = f"Bearer {token}"

        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="https://factory") as client:
                return await client.post(path, content=content, headers=given)

        return asyncio.run(once())

    def events(self, content: bytes, upto: int, **more: Any) -> httpx.Response:
        return self.post("/pilots/p1/events", content, x_pilot_offset=str(upto), **more)


@pytest.fixture
def open_factory(factory: Factory) -> Factory:
    return replace(factory, uploads=True, url="https://factory")


@pytest.fixture
def pilot(factory: Factory, store: Store, tmp_path: Path) -> Pilot:
    directory = tmp_path / "p1"
    directory.mkdir()
    made = Pilot("p1", factory.entries[0].name, "S", "pyz", "0", PilotState.RUNNING, 1.0, str(directory), JobId(7, 0))
    store.save(made)
    store.save(replace(made, id="p2"))
    return made


@pytest.fixture
def door(open_factory: Factory, store: Store, pilot: Pilot) -> Door:
    running = live(open_factory, store)
    return Door(running, application(running))


def failed_report() -> dict[str, Any]:
    report = empty_report("4f3a", 1.7e9)
    set_outcome(report, failure("node_resource", "disk.too_small", "8 MiB"))
    return report


def test_a_report_is_shown_while_the_pilot_still_holds_its_slot(door: Door, store: Store) -> None:
    report = failed_report()
    assert door.post("/pilots/p1/report", json.dumps(report)).status_code == 204
    found = store.get("p1")
    assert found is not None
    assert (found.state, found.failure_code, found.message) == (PilotState.RUNNING, "disk.too_small", "8 MiB")
    assert found.seen is not None
    assert store.report("p1") == report


def test_events_are_kept_in_their_order_and_once(door: Door, store: Store) -> None:
    for upto, content in ((30, EVENTS), (60, b'{"event": "c"}\n'), (60, b'{"event": "c"}\n')):
        assert door.events(content, upto).status_code == 204
    assert b"".join(store.events("p1")) == EVENTS + b'{"event": "c"}\n'


def test_signs_of_life_scores_and_last_words_are_kept(door: Door, store: Store) -> None:
    scores = {"cpu_model": "CPU", "benchmarks": [{"name": "hash", "score": 3, "unit": "MB/s"}, None, {"score": "x"}]}
    assert door.post("/pilots/p1/benchmarks", json.dumps(scores)).status_code == 204
    assert door.post("/pilots/p1/last-words", b"the end\x1b[2J\xff\n of it").status_code == 204
    assert door.post("/pilots/p1/heartbeat", b"{}").status_code == 204
    assert store.scores() == [Scores("hash", "MB/s", "site-a", "CPU", (3.0,))]
    assert store.last_words("p1") == "the end [2J\ufffd\n of it"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"schema": "x"}', b"[" * 100_000, b'{"a": NaN}'])
def test_what_is_no_report_is_refused(door: Door, store: Store, content: bytes) -> None:
    assert (door.post("/pilots/p1/report", content).status_code, store.report("p1")) == (400, None)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]\n", b"{}\n\n", b"{\n", b"\xff\n"])
def test_what_are_no_events_is_refused(door: Door, store: Store, content: bytes) -> None:
    assert (door.events(content, 9).status_code, list(store.events("p1"))) == (400, [])


@pytest.mark.parametrize("offset", ["", "-1", "x", "9" * 17, "\u0663"])
def test_events_without_their_place_are_refused(door: Door, offset: str) -> None:
    headers = {"x-pilot-offset": offset.encode()} if offset else {}
    answer = door.post("/pilots/p1/events", EVENTS, **headers)  # type: ignore[arg-type]
    assert (answer.status_code, "X-Pilot-Offset" in answer.json()["error"]) == (400, True)


def test_too_much_is_refused(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "EVENTS_LIMIT_BYTES", 10)
    assert door.events(EVENTS, 30).status_code == 400
    too_large = b"x" * (receive.BATCH_LIMIT_BYTES + 1)
    assert door.events(too_large, 30).status_code == 413

    async def unannounced() -> AsyncIterator[bytes]:
        yield too_large

    assert door.post("/pilots/p1/events", unannounced()).status_code == 413


def test_a_pilot_that_ended_sends_no_more(door: Door, store: Store, pilot: Pilot) -> None:
    store.save(replace(pilot, state=PilotState.ENDED))
    assert door.events(EVENTS, 30).status_code == 404
    unknown = door.running.tokens.issue("p3")
    assert door.post("/pilots/p3/report", b"{}", token=unknown).status_code == 404


def wrong_tokens(door: Door) -> dict[str, str | None]:
    """Every way in which a token may not count."""
    tokens, key = door.running.tokens, load_key(door.running.factory.state)
    good = jwt.decode(tokens.issue("p1"), key, algorithms=["HS256"])
    revoked = tokens.issue("p1")
    door.running.store.revoke(jti=jwt.decode(revoked, key, algorithms=["HS256"])["jti"])

    def signed(by: Any = key, algorithm: str = "HS256", **changed: Any) -> str:
        claims = {name: value for name, value in (good | changed).items() if value is not None}
        return jwt.encode(claims, by, algorithm=algorithm)

    return {
        "none": None,
        "empty": " ",
        "no token": "x.y.z",
        "another's key": signed(b"k" * 32),
        "no signature": signed(None, "none"),
        "another algorithm": signed(key * 2, "HS512"),
        "expired": tokens.issue("p1", now=time.time() - 100, seconds=10),
        "another pilot's": tokens.issue("p2"),
        "another factory's": signed(iss="other"),
        "another purpose": signed(scope="pilot.read"),
        "never issued": signed(jti="made-up"),
        "without end": signed(exp=None),
        "without name": signed(jti=None),
        "revoked": revoked,
        "too long": "x" * 3000,
    }


def test_only_a_token_of_this_factory_for_this_pilot_counts(door: Door, store: Store) -> None:
    for name, token in wrong_tokens(door).items():
        for path in ("events", "report", "heartbeat", "benchmarks", "last-words"):
            answer = door.post(f"/pilots/p1/{path}", EVENTS, token=token, x_pilot_offset="30")
            assert answer.status_code in {401, 429}, name
            assert not token or token.strip() not in answer.text or not token.strip()
    assert (store.report("p1"), list(store.events("p1")), store.last_words("p1")) == (None, [], "")
    found = store.get("p1")
    assert found is not None
    assert found.seen is None


def test_who_tries_wrong_tokens_too_often_is_told_to_wait(door: Door) -> None:
    answers = [door.post("/pilots/p1/heartbeat", b"", token="x").status_code for _ in range(62)]
    assert answers[0] == 401
    assert answers[-1] == 429
    assert door.post("/pilots/p1/heartbeat", b"").status_code == 204


def test_a_pilot_that_sends_too_often_waits_alone(open_factory: Factory, store: Store, pilot: Pilot) -> None:
    running = live(open_factory, store)
    running.receiver = replace(running.receiver, rate=Rate(at_once=2, per_second=0.01))
    door = Door(running, application(running))
    answers = [door.post("/pilots/p1/heartbeat", b"") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [204, 204, 429]
    assert int(answers[-1].headers["retry-after"]) > 1
    assert door.post("/pilots/p2/heartbeat", b"", token=running.tokens.issue("p2")).status_code == 204


def test_a_first_token_is_exchanged_for_a_short_one_and_then_counts_no_more(door: Door) -> None:
    first = door.running.tokens.issue("p1", now=time.time() - 10)
    renewed = door.post("/pilots/p1/heartbeat", b"", token=first).headers["x-pilot-token"]
    claims = jwt.decode(renewed, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == pytest.approx(NEXT_SECONDS)
    # The answer may have been lost: the first counts until the newer one was used.
    assert door.post("/pilots/p1/heartbeat", b"", token=first).status_code == 204
    answer = door.post("/pilots/p1/heartbeat", b"", token=renewed)
    assert (answer.status_code, answer.headers.get("x-pilot-token")) == (204, None)
    assert door.post("/pilots/p1/heartbeat", b"", token=first).status_code == 401


def test_a_body_that_comes_too_slowly_is_not_waited_for(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server_stub.factory.limits.read_body.__defaults__", (0.05,))

    async def drop_by_drop() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)
        yield b"}"

    assert door.post("/pilots/p1/report", drop_by_drop()).status_code == 408


def test_what_cannot_be_stored_is_not_called_stored(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(Store, "add_events", full)
    answer = door.events(EVENTS, 30)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_a_factory_takes_nothing_unless_it_says_so(factory: Factory, store: Store, pilot: Pilot) -> None:
    running = live(factory, store)
    door = Door(running, application(running))
    assert door.post("/pilots/p1/report", json.dumps(failed_report())).status_code == 405
    assert door.events(EVENTS, 30).status_code in {404, 405}


def test_a_pilot_gets_its_address_and_its_token_only_from_a_factory_that_takes_uploads(
    factory: Factory, open_factory: Factory, pilot: Pilot
) -> None:
    entry = replace(factory.entries[0], tokens=None)
    told = []
    for number, one in enumerate((factory, open_factory)):
        made = replace(pilot, id=f"q{number}", directory=f"{pilot.directory}/{number}")
        prepare(one, entry, made, proof="proof")
        told.append(json.loads(Path(made.directory, ENTRY_FILE).read_text()).get("upload"))
        path = Path(made.directory, UPLOAD_TOKEN_FILE)
        assert path.exists() == one.uploads
        assert ("upload.token" in description(parcel_of(one, entry, made))) == one.uploads
        if one.uploads:
            assert (path.read_text(), path.stat().st_mode & 0o777) == ("proof\n", 0o600)
            assert "encrypt_input_files = upload.token\n" in description(parcel_of(one, entry, made))
    assert told == [None, {"url": "https://factory/pilots/q1", "token": "upload.token"}]
