"""The frontend hands over to real factories what their pilots and sites need, and no more."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import jwt
import pytest

from pilot_agent.codec import to_json
from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.credentials.idtoken import read_signing_key
from server_stub.credentials.kinds import Kind
from server_stub.entries import Factory
from server_stub.factory.application import application
from server_stub.factory.frontends import Frontend
from server_stub.factory.live import Live, live
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.frontend import wallet as wallet_module
from server_stub.frontend.client import Answer, FactoryClient
from server_stub.frontend.credential_plans import CredentialPlans, PilotTokens, SiteCredential
from server_stub.frontend.cycle import Request
from server_stub.frontend.wallet import Wallet
from server_stub.frontend.wire import Offered, read_offered
from tests.server_stub.factory.keys import Signer
from tests.server_stub.factory.test_application import Client
from tests.server_stub.frontend.test_site_secrets import token, write

SIGNER = Signer("fe")


@dataclass
class Direct:
    """The client's part that the wallet uses, without a network."""

    api: Client
    calls: list[tuple[str, Any]] = field(default_factory=list)
    away: bool = False

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        self.calls.append((method, body))
        if self.away and method == "PUT":
            raise PilotError(Failure(FailureKind.NETWORK, "factory.unreachable", "away"))
        content = b"" if body is None else json.dumps(body).encode()
        answer = self.api.ask(method, f"/api/v1/frontend{path}", SIGNER.headers(), content)
        assert answer.status_code == 200, answer.text
        return Answer(answer.status_code, answer.json())

    @property
    def sent(self) -> list[dict[str, Any]]:
        """What was put, and forget it."""
        found = [item for method, body in self.calls if method == "PUT" for item in body["credentials"]]
        self.calls.clear()
        return found


@dataclass
class Side:
    """A factory, and a frontend's wallet."""

    live: Live
    client: Direct
    wallet: Wallet
    key: Path

    def offered(self) -> Offered:
        answer = self.client.api.ask("GET", "/api/v1/frontend/offers", SIGNER.headers(), b"")
        return read_offered(answer.json(), "example")

    def deliver(self, **asked: int) -> Mapping[str, tuple[str, ...]]:
        wanted = [Request(f"{name.replace('_', '-')}@example", number) for name, number in asked.items()]
        return self.wallet.deliver(cast("FactoryClient", self.client), self.offered(), wanted)

    def known(self, entry: str = "site-a") -> list[Any]:
        return [one for one in self.live.vault.known("fe") if one.entry == entry]

    def pilot(self, name: str) -> Pilot:
        made = Pilot(name, "site-a", "S", "p", "s", PilotState.RUNNING, time.time(), f"/{name}", frontend="fe")
        self.live.store.save(made)
        self.live.vault.take(made, token=True)
        return made

    def claims(self, pilot: str) -> dict[str, Any]:
        found = self.live.vault.own_token(pilot)
        assert found is not None
        secret = read_signing_key(str(self.key), issuer="pool.test").secret
        return jwt.decode(found, secret, algorithms=["HS256"], options={"verify_iat": False})


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "PILOTS"
    write(path, os.urandom(64))
    return path


def plans(key: Path, *sites: SiteCredential) -> CredentialPlans:
    return CredentialPlans(PilotTokens(str(key), "pool.test", queue_seconds=3600), sites)


@pytest.fixture
def side(factory: Factory, store: Store, key: Path, tmp_path: Path) -> Side:
    asking = (Frontend("fe", SIGNER.public, ("cms",)),)
    entries = tuple(replace(entry, walltime_seconds=7200) for entry in factory.entries)
    running = live(replace(factory, uploads=True, url="https://factory", frontends=asking, entries=entries), store)
    wallet = Wallet("fe", plans(key), str(tmp_path))
    return Side(running, Direct(Client(application(running))), wallet, key)


def test_there_are_as_many_free_tokens_as_pilots_are_asked_for(side: Side) -> None:
    side.deliver(site_a=3)
    assert len(side.known()) == 3
    assert side.known("site-b") == []
    side.deliver(site_a=3)
    assert [method for method, _ in side.client.calls] == ["GET", "PUT", "GET"]
    side.pilot("p1")
    side.deliver(site_a=3)
    assert (len(side.known()), sum(not one.pilot for one in side.known())) == (4, 3)
    side.deliver(site_a=0)
    assert len(side.known()) == 4


def test_a_token_is_of_the_entrys_site_lasts_a_pilots_life_and_is_noted_by_its_jti(side: Side, tmp_path: Path) -> None:
    side.deliver(site_a=1)
    side.pilot("p1")
    told = side.claims("p1")
    assert (told["iss"], told["sub"], told["exp"] - told["iat"]) == ("pool.test", "Example_T2@fe", 7200 + 3600)
    (line,) = (tmp_path / "issued.jsonl").read_text().splitlines()
    noted = json.loads(line)
    (known,) = side.known()
    assert (noted["jti"], noted["id"], noted["entry"]) == (told["jti"], known.id, "site-a")
    assert told["jti"].startswith(f"{known.id}.")
    assert (tmp_path / "issued.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_pilots_token_is_renewed_when_half_of_it_is_over_and_stays_its_own(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    side.deliver(site_a=1)
    side.pilot("p1")
    before, began = side.claims("p1"), time.time()
    for hours, renewed in ((1.4, False), (1.6, True)):
        monkeypatch.setattr(time, "time", lambda hours=hours: began + hours * 3600)
        side.client.calls.clear()
        side.deliver()
        assert [item["id"] for item in side.client.sent] == ([side.known()[0].id] if renewed else [])
    monkeypatch.undo()
    after = side.claims("p1")
    assert after["exp"] > before["exp"] + 5000
    assert after["jti"] != before["jti"]
    assert after["jti"].partition(".")[0] == before["jti"].partition(".")[0]


def test_what_sites_ask_for_goes_to_the_entries_named_once_and_again_when_it_changed(
    side: Side, key: Path, tmp_path: Path
) -> None:
    write(tmp_path / "t", token(int(time.time()) + 5000).encode())
    gone = SiteCredential("gone", Kind.X509, file=str(tmp_path / "none"))
    mine = SiteCredential("mine", Kind.SCITOKEN, file=str(tmp_path / "t"), entries=("site-a",))
    other = SiteCredential("other", Kind.SCITOKEN, file=str(tmp_path / "t"), factories=("elsewhere",))
    side.wallet = Wallet("fe", plans(key, gone, mine, other), str(tmp_path))
    names = side.deliver()
    assert names == {"site-a@example": ("gone", "mine"), "site-b@example": ("gone",)}
    assert [item["id"] for item in side.client.sent] == ["mine"]
    side.deliver()
    assert side.client.sent == []
    write(tmp_path / "t", token(int(time.time()) + 9000).encode())
    side.client.away = True
    with pytest.raises(PilotError, match="away"):
        side.deliver()
    side.client.away = False
    side.client.calls.clear()
    side.deliver()
    assert [item["id"] for item in side.client.sent] == ["mine"]
    (known,) = side.known("")
    assert known.expires > time.time() + 8000


def test_what_was_not_even_sent_because_something_before_it_failed_is_sent_the_next_time(
    side: Side, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "t", token(int(time.time()) + 5000).encode())
    side.wallet = Wallet("fe", plans(key, SiteCredential("s", Kind.SCITOKEN, file=str(tmp_path / "t"))), str(tmp_path))
    monkeypatch.setattr(wallet_module, "MOST_AT_ONCE", 1)
    side.client.away = True
    with pytest.raises(PilotError, match="away"):
        side.deliver(site_a=3)
    side.client.away = False
    side.client.calls.clear()
    side.deliver()
    assert [item["id"] for item in side.client.sent] == ["s"]


def test_what_a_factory_lost_it_gets_again(side: Side, key: Path, tmp_path: Path) -> None:
    write(tmp_path / "t", token(int(time.time()) + 5000).encode())
    side.wallet = Wallet("fe", plans(key, SiteCredential("s", Kind.SCITOKEN, file=str(tmp_path / "t"))), str(tmp_path))
    side.deliver()
    assert side.live.vault.delete("fe", "s")
    side.deliver()
    assert [one.id for one in side.known("")] == ["s"]


def test_nothing_readable_leaves_the_frontend(side: Side, key: Path, tmp_path: Path) -> None:
    write(tmp_path / "t", secret := token(int(time.time()) + 5000).encode())
    side.wallet = Wallet("fe", plans(key, SiteCredential("s", Kind.SCITOKEN, file=str(tmp_path / "t"))), str(tmp_path))
    side.deliver(site_a=2)
    said = json.dumps(side.client.calls)
    assert secret.decode()[-10:] not in said
    assert "eyJ" not in said
    assert "eyJ" not in (tmp_path / "issued.jsonl").read_text()


def test_a_site_whose_name_would_become_another_identity_gets_no_token(side: Side) -> None:
    for entry in side.live.factory.entries:
        object.__setattr__(entry, "site", "condor@pool.test/x")
    side.deliver(site_a=3)
    assert side.known() == []


def test_a_factory_that_offers_no_key_is_told_so(side: Side) -> None:
    bare = replace(side.offered(), encryption={})
    with pytest.raises(PilotError, match="no key with which credentials could be sealed"):
        side.wallet.deliver(cast("FactoryClient", side.client), bare, [Request("site-a@example", 1)])
    assert Wallet("fe", CredentialPlans(), ".").deliver(cast("FactoryClient", side.client), bare, []) == {}


@pytest.mark.parametrize("listed", [None, {}, {"credentials": [1]}, {"credentials": [{"id": "a"}]}])
def test_a_list_that_makes_no_sense_is_told_and_nothing_is_sent(side: Side, listed: Any) -> None:
    class Odd(Direct):
        def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
            assert method == "GET"
            return Answer(200, listed)

    with pytest.raises(PilotError, match="makes no sense"):
        side.wallet.deliver(cast("FactoryClient", Odd(side.client.api)), side.offered(), [Request("site-a@example", 1)])


def test_many_are_sent_in_portions(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallet_module, "MOST_AT_ONCE", 2)
    side.deliver(site_a=5)
    assert [len(body["credentials"]) for method, body in side.client.calls if method == "PUT"] == [2, 2, 1]
    assert to_json(side.known()[0])["pilot"] == ""


def test_a_factory_that_says_to_have_pilots_without_end_gets_few_tokens_at_a_time(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wallet_module, "MOST_MADE", 3)
    one = {"id": "a", "kind": "idtoken", "entry": "site-a", "expires": 1, "pilot": "p"}
    sent: list[Any] = []

    class Greedy(Direct):
        def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
            sent.extend((body or {}).get("credentials", ()))
            return Answer(200, {"credentials": [{**one, "id": f"a{number}"} for number in range(1000)]})

    side.wallet.deliver(cast("FactoryClient", Greedy(side.client.api)), side.offered(), [Request("site-a@example", 9)])
    assert [item["id"] for item in sent] == ["a0", "a1", "a2"]
