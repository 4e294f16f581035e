"""Frontends hand over what is sealed; pilots fetch what is theirs; nobody reads anything else."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from server_stub.credentials.idtoken import SigningKey, issue
from server_stub.credentials.kinds import Kind, Label, Purpose
from server_stub.credentials.sealing import Recipient, seal
from server_stub.entries import Factory
from server_stub.factory.application import application
from server_stub.factory.frontends import Frontend
from server_stub.factory.live import Live, live
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.store import Store
from tests.server_stub.factory.keys import Signer
from tests.server_stub.factory.test_application import Client

CMS, ATLAS = Signer("fe-cms"), Signer("fe-atlas")
ENDS = int(time.time()) + 86400
KEY = SigningKey("POOL", "pool.test", b"k" * 32)


def token(jti: str, expires: int = ENDS) -> bytes:
    return issue(KEY, identity="Example_T2@fe-cms", jti=jti, issued=int(time.time()), expires=expires).encode()


class Api:
    """A factory with two frontends, asked as one of them or as a pilot."""

    def __init__(self, running: Live) -> None:
        self.live = running
        self.client = Client(application(running))

    def ask(self, method: str, path: str, body: Any = None, signer: Signer = CMS, **claims: Any) -> httpx.Response:
        content = json.dumps(body).encode() if body is not None else b""
        return self.client.ask(method, f"/api/v1/frontend/{path}", signer.headers(**claims), content)

    def sealed(self, name: str, secret: bytes, *, signer: Signer = CMS, **changed: Any) -> dict[str, Any]:
        """A body as a frontend makes it from the offers."""
        told = self.ask("GET", "offers", signer=signer).json()["encryption"]
        recipient = Recipient(told["id"], base64.b64decode(told["x25519"]))
        label = Label(signer.name, "example", name, Kind.IDTOKEN, Purpose.PILOT, "site-a", ENDS)
        body = {
            "kind": "idtoken", "purpose": "pilot", "entry": "site-a", "expires": ENDS, "encryption_id": recipient.id,
            "sealed": base64.b64encode(seal(secret, recipient, label)).decode(),
        }  # fmt: skip
        return {**body, **changed}

    def as_pilot(self, pilot: str, proof: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {proof}"}
        return self.client.ask("GET", f"/pilots/{pilot}/credentials/idtoken", headers)


@pytest.fixture
def api(factory: Factory, store: Store) -> Api:
    asking = (
        Frontend("fe-cms", CMS.public, ("cms",), ("site-a",)),
        Frontend("fe-atlas", ATLAS.public, ("atlas",)),
    )
    return Api(live(replace(factory, uploads=True, url="https://factory", frontends=asking), store))


@pytest.fixture
def pilot(factory: Factory, store: Store) -> Pilot:
    directory = factory.pilot_directory("p1")
    Path(directory).mkdir()
    made = Pilot(
        "p1", "site-a", "S", "pilot.pyz", "ab", PilotState.RUNNING, time.time(), directory, frontend="fe-cms"
    )  # fmt: skip
    store.save(made)
    return made


def test_what_is_given_is_listed_without_its_content(api: Api) -> None:
    secret = token("a.1")
    assert api.ask("PUT", "credentials/a", api.sealed("a", secret)).status_code == 204
    answer = api.ask("GET", "credentials")
    (one,) = answer.json()["credentials"]
    assert {name: one[name] for name in ("id", "kind", "purpose", "entry", "expires", "pilot")} == {
        "id": "a", "kind": "idtoken", "purpose": "pilot", "entry": "site-a", "expires": ENDS, "pilot": "",
    }  # fmt: skip
    assert "sealed" not in answer.text
    assert secret.decode()[-30:] not in answer.text
    assert api.ask("GET", "credentials", signer=ATLAS).json()["credentials"] == []
    assert api.ask("DELETE", "credentials/a", signer=ATLAS).status_code == 404
    assert api.ask("DELETE", "credentials/a").status_code == 204
    assert api.ask("GET", "credentials").json()["credentials"] == []


def test_several_are_taken_or_refused_each_by_itself(api: Api) -> None:
    good = {"id": "a", **api.sealed("a", token("a.1"))}
    moved = {**good, "id": "b"}
    foreign = {"id": "c", **api.sealed("c", token("c.1"), entry="site-b")}
    answer = api.ask("PUT", "credentials", {"credentials": [good, moved, foreign]})
    assert answer.status_code == 200
    told = answer.json()
    assert told["taken"] == ["a"]
    assert {one["id"]: one["why"] for one in told["refused"]} == {
        "b": "it cannot be opened: it was altered, or sealed for another recipient or under another label",
        "c": "entry: this frontend may not use 'site-b'",
    }


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"kind": "password"}, 400, "kind: Input should be"),
        ({"purpose": "site"}, 400, "an idtoken is for the pilot"),
        ({"expires": 0}, 400, "expires: Input should be greater"),
        ({"expires": ENDS + 1}, 400, "cannot be opened"),
        ({"expires": True}, 400, "expires: Input should be a valid integer"),
        ({"sealed": "no base64 marked-secret"}, 400, "sealed: it is no base64"),
        ({"sealed": "AAAA"}, 400, "no sealed credential"),
        ({"encryption_id": "1800000000-0123456789abcdef"}, 409, "seal it with that of the offers"),
        ({"more": 1}, 400, "more: Extra inputs"),
        ({"entry": "../x"}, 400, "entry: String should match"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(api: Api, changed: Any, status: int, said: str) -> None:
    answer = api.ask("PUT", "credentials/a", {**api.sealed("a", token("a.1")), **changed})
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert "marked-secret" not in answer.text


def test_only_a_frontend_that_proves_itself_gets_in_and_each_proof_writes_once(api: Api) -> None:
    body = api.sealed("a", token("a.1"))
    stranger = Signer("fe-cms")
    for method, path in (("GET", ""), ("PUT", "/a"), ("PUT", ""), ("DELETE", "/a")):
        assert api.ask(method, f"credentials{path}", body, signer=stranger).status_code == 401
    assert api.ask("PUT", "credentials/a", body, jti="once").status_code == 204
    assert api.ask("PUT", "credentials/a", body, jti="once").status_code == 401


def test_a_pilot_fetches_its_newest_token_and_no_other_pilot_does(api: Api, pilot: Pilot) -> None:
    assert api.ask("PUT", "credentials/a", api.sealed("a", token("a.1"))).status_code == 204
    proof = api.live.tokens.issue("p1")
    assert api.as_pilot("p1", proof).status_code == 404
    api.live.vault.take(pilot, token=True)
    answer = api.as_pilot("p1", proof)
    assert (answer.status_code, answer.content) == (200, token_of(api))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-pilot-token"]
    newer = token("a.2")
    assert api.ask("PUT", "credentials/a", api.sealed("a", newer)).status_code == 204
    assert api.as_pilot("p1", answer.headers["x-pilot-token"]).content == newer
    assert api.as_pilot("p1", proof).status_code == 401
    assert api.as_pilot("p1", api.live.tokens.issue("p2")).status_code == 401
    assert api.as_pilot("p1", "").status_code == 401
    assert api.client.ask("GET", "/pilots/p1/credentials/scitoken", {}).status_code == 404


def token_of(api: Api) -> bytes:
    found = api.live.vault.own_token("p1")
    assert found is not None
    return found


def test_a_pilot_that_ended_fetches_nothing(api: Api, pilot: Pilot, store: Store) -> None:
    api.ask("PUT", "credentials/a", api.sealed("a", token("a.1")))
    api.live.vault.take(pilot, token=True)
    store.save(replace(pilot, state=PilotState.ENDED, ended=time.time()), known=pilot)
    assert api.as_pilot("p1", api.live.tokens.issue("p1")).status_code == 404
