"""The collector of a running server goes on, whatever one round ends in; a server that cannot speak HTTPS is none."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import structlog

from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.batch import BatchJob
from server_stub.entries import Factory
from server_stub.factory.demand import take_set
from server_stub.factory.frontends import Frontend
from server_stub.factory.listening import try_address
from server_stub.factory.live import live
from server_stub.factory.pilots import JobId, PilotState
from server_stub.factory.requests import Request, RequestSet, judge_set
from server_stub.factory.store import Store
from server_stub.serve import Rounds, serve
from server_stub.submit import submit_pilots
from tests.probes.servers import TLS
from tests.server_stub.conftest import ScriptedBatch


@dataclass
class FailingOnce(ScriptedBatch):
    """Fails in the first round, answers in the second, and ends the collector in the third."""

    error: Exception = field(default_factory=RuntimeError)
    stop: threading.Event = field(default_factory=threading.Event)
    rounds: int = 0

    def queue(self, factory: str) -> dict[JobId, BatchJob]:
        self.rounds += 1
        if self.rounds == 1:
            raise self.error
        if self.rounds == 3:
            self.stop.set()
        return ScriptedBatch.queue(self, factory)


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (RuntimeError("a bug"), "collector.failed"),
        (PilotError(Failure(FailureKind.NETWORK, "batch.failed", "no answer")), "batch.failed"),
    ],
)
def test_a_round_that_fails_is_followed_by_the_next(
    factory: Factory, store: Store, error: Exception, event: str
) -> None:
    batch = FailingOnce(error=error)
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    batch.waiting[JobId(101, 0)] = BatchJob(PilotState.RUNNING)
    with structlog.testing.capture_logs() as said:
        Rounds(live(replace(factory, collect_seconds=0), store), batch, batch.stop, threading.Event()).run()
    assert [line["event"] for line in said] == [event, "pilot"]
    found = store.get(pilot.id)
    assert batch.rounds == 3
    assert found is not None
    assert found.state is PilotState.RUNNING


def test_what_frontends_ask_for_is_done_once_the_batch_system_has_answered(factory: Factory, store: Store) -> None:
    entries = tuple(replace(entry, tokens=None) for entry in factory.entries)
    asking = replace(factory, entries=entries, frontends=(Frontend("f", "", ("v",)),), collect_seconds=0)
    wanted = Request(entry="site-a", vo="v", queued=1, pilots=1)
    given = RequestSet(sequence=1, lifetime_seconds=3600, requests=[wanted])
    take_set(store, "f", given, "d", judge_set(given, asking.frontends[0], asking))
    # A pilot of before, about which the batch system is asked.
    (earlier,) = submit_pilots(factory, factory.entry("site-a"), 1, store, ScriptedBatch())
    batch = FailingOnce(error=PilotError(Failure(FailureKind.NETWORK, "batch.failed", "no answer")))
    batch.waiting[JobId(101, 0)] = BatchJob(PilotState.RUNNING)
    running = live(asking, store)
    with structlog.testing.capture_logs() as said:
        Rounds(running, batch, batch.stop, threading.Event()).run()
    told = [line["event"] for line in said if line["event"] in {"batch.failed", "control.submitted"}]
    assert told == ["batch.failed", "control.submitted"]
    assert [pilot.frontend for pilot in store.pilots() if pilot.id != earlier.id] == ["f"]
    assert b'pilot_factory_controlled_pilots_total{frontend="f",what="submitted"} 1.0' in running.metrics.text()


def test_a_certificate_that_cannot_be_used_is_named_before_the_server_begins(
    factory: Factory, store: Store, tmp_path: Path
) -> None:
    gone, good, no_key = str(tmp_path / "gone.pem"), str(TLS / "good.pem"), str(TLS / "ca.pem")
    for certificate, key, said in (
        (gone, str(TLS / "server_key.pem"), f"certificate {gone} cannot be read: No such file"),
        (good, gone, f"key {gone} cannot be read: No such file"),
        (good, no_key, f"{good} and {no_key} cannot be used for HTTPS"),
    ):
        with pytest.raises(PilotError) as caught:
            serve(replace(factory, certificate=certificate, key=key), store, ScriptedBatch())
        assert said in caught.value.failure.message
        assert (caught.value.failure.code, caught.value.failure.exit_code) == ("certificate.unusable", 66)


def test_an_address_that_is_taken_or_not_this_hosts_is_named_before_the_server_begins(
    factory: Factory, store: Store
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for address, said in (
            ("127.0.0.1", "Address already in use"),
            ("192.0.2.1", "Cannot assign requested address"),
        ):
            with pytest.raises(PilotError) as caught:
                serve(replace(factory, address=address, port=port), store, ScriptedBatch())
            failure = caught.value.failure
            assert failure.message == f"the server cannot listen at {address}, port {port}: {said}"
            assert (failure.code, failure.exit_code) == ("address.unusable", 66)
            assert "change address or port" in failure.hint


def test_a_name_with_an_address_that_this_host_lacks_is_served_at_the_other(
    factory: Factory, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `localhost` where IPv6 is switched off."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, 0)) for name in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_words, **_options: found)
    try_address(replace(factory, address="localhost"))
    del found[1]
    with pytest.raises(PilotError, match="Cannot assign requested address"):
        try_address(replace(factory, address="localhost"))
