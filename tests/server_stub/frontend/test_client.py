"""Speaking to a factory that answers, is away, is slow, or says something else."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.model import PilotError
from server_stub.frontend import client as client_module
from server_stub.frontend.client import FactoryClient, OutdatedError
from server_stub.frontend.configuration import FactoryPlan
from server_stub.frontend.cycle import Request
from server_stub.frontend.identity import Identity, load_identity, make_key
from server_stub.frontend.removal import Removal
from server_stub.frontend.wire import request_document
from tests.server_stub.frontend.factory_double import AWAY, FactoryDouble, send


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    path = str(tmp_path_factory.mktemp("key") / "key")
    make_key(path)
    return load_identity("example-vo", path)


@pytest.fixture
def factory(identity: Identity) -> Iterator[FactoryDouble]:
    with FactoryDouble(identity.public_key()) as double:
        yield double


@pytest.fixture
def client(factory: FactoryDouble, identity: Identity) -> Iterator[FactoryClient]:
    made = FactoryClient(FactoryPlan("east", factory.url, most_seconds=20), identity, sleep=lambda seconds: None)
    yield made
    made.close()


def requests(sequence: int) -> dict[str, Any]:
    return request_document(sequence, 3600, [Request("small@east", 3, 7, Removal.WAIT)], "example", {})


def test_offers_come_and_requests_go_under_the_entries_own_names(client: FactoryClient, factory: FactoryDouble) -> None:
    offered, document = client.offers()
    assert [offer.name for offer in offered.offers] == ["small@east", "large@east"]
    assert document["factory"] == "east"
    answer = client.put_requests(requests(5))
    assert answer["accepted"][0]["entry"] == "small"
    assert factory.known["requests"] == [
        {
            "entry": "small",
            "vo": "example",
            "queued": 3,
            "pilots": 7,
            "remove": "WAIT",
            "idle": [],
            "credentials": [],
        }
    ]


def test_a_factory_that_comes_back_in_time_was_never_away(client: FactoryClient, factory: FactoryDouble) -> None:
    factory.plan = [AWAY, 503, 429]
    client.put_requests(requests(5))
    assert len(factory.asked) == 4
    assert factory.known["sequence"] == 5


def test_a_factory_that_stays_away_is_told_after_the_deadline(factory: FactoryDouble, identity: Identity) -> None:
    factory.plan = [AWAY] * 50
    impatient = FactoryClient(FactoryPlan("east", factory.url, most_seconds=1), identity)
    with closing(impatient), pytest.raises(PilotError) as caught:
        impatient.offers()
    assert caught.value.failure.code == "factory.unreachable"
    assert caught.value.failure.retry
    assert 1 <= len(factory.asked) < 10


def test_an_answer_that_trickles_is_no_answer(factory: FactoryDouble, identity: Identity) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            handler.close_connection = True

    factory.plan = [trickle]
    impatient = FactoryClient(FactoryPlan("east", factory.url, most_seconds=1), identity)
    with closing(impatient), pytest.raises(PilotError, match="not whole after 1 s"):
        impatient.offers()


def test_an_answer_without_end_is_cut(
    client: FactoryClient, factory: FactoryDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "ANSWER_LIMIT_BYTES", 1000)
    factory.plan = [lambda handler: send(handler, 200, {"entries": "x" * 5000})]
    with pytest.raises(PilotError) as caught:
        client.offers()
    assert caught.value.failure.code == "factory.unintelligible"


def test_a_packed_answer_is_not_asked_for_and_never_unpacked(client: FactoryClient, factory: FactoryDouble) -> None:
    asked = []

    def packed(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Accept-Encoding"])
        content = gzip.compress(b" " * (100 << 20))
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    factory.plan = [packed]
    with pytest.raises(PilotError, match="no JSON") as caught:
        client.offers()
    assert (caught.value.failure.code, asked) == ("factory.unintelligible", ["identity"])


@pytest.mark.parametrize("wrong", [{"entries": []}, {"factory": "west", "entries": []}, [], {"factory": "east"}])
def test_an_answer_that_makes_no_sense_is_told(client: FactoryClient, factory: FactoryDouble, wrong: Any) -> None:
    factory.plan = [lambda handler: send(handler, 200, wrong)]
    with pytest.raises(PilotError) as caught:
        client.offers()
    assert caught.value.failure.code == "factory.unintelligible"


def test_who_is_refused_learns_what_to_do_and_is_not_told_twice(
    client: FactoryClient, factory: FactoryDouble, identity: Identity
) -> None:
    factory.frontend = "somebody-else"
    with pytest.raises(PilotError) as caught:
        client.offers()
    assert caught.value.failure.code == "factory.refused"
    assert "example-vo with its public key" in caught.value.failure.hint
    assert len(factory.asked) == 1


def test_a_redirection_is_not_followed(client: FactoryClient, factory: FactoryDouble) -> None:
    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", f"{factory.url}/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    factory.plan = [elsewhere]
    with pytest.raises(PilotError, match="somewhere else"):
        client.offers()
    assert [path for _, path in factory.asked] == ["/api/v1/frontend/offers"]


def test_older_requests_are_refused_with_the_number_that_is_known(client: FactoryClient) -> None:
    client.put_requests(requests(7))
    client.put_requests(requests(7))
    with pytest.raises(OutdatedError) as caught:
        client.put_requests(requests(6))
    assert caught.value.known == 7


def test_a_netrc_changes_nothing(client: FactoryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert client.offers()[0].offers
