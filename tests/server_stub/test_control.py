"""A round does what frontends ask for, goes on where something fails, and asks for nothing twice."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from pilot_agent.files import write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.batch import BatchJob
from server_stub.collect import collect
from server_stub.control import AT_ONCE, FIRST_PAUSE_SECONDS, LEAVING_SECONDS, Controller
from server_stub.credentials.kinds import Kind
from server_stub.entries import Factory
from server_stub.factory import demand
from server_stub.factory.controller import PACE
from server_stub.factory.entry import Entry, Limits
from server_stub.factory.frontends import Frontend
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.requests import Request, RequestSet, judge_set
from server_stub.factory.store import Store
from server_stub.frontend.removal import Removal
from server_stub.submit import Credentials
from tests.server_stub.conftest import ScriptedBatch


@dataclass
class Clock:
    """Moves when it is told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class SlowBatch(ScriptedBatch):
    """Takes its time over each submission, refuses what it is told to refuse, and tells its queue."""

    clock: Clock = field(default_factory=Clock)
    seconds: float = 0.0
    refused: str = ""

    def submit_all(self, descriptions: Sequence[str]) -> list[JobId | PilotError]:
        self.clock.now += self.seconds
        if self.refused and f'"{self.refused}"' in Path(descriptions[0]).read_text():
            return [PilotError(Failure(FailureKind.NETWORK, "batch.failed", "no such queue")) for _ in descriptions]
        jobs = ScriptedBatch.submit_all(self, descriptions)
        self.waiting.update({job: BatchJob(PilotState.QUEUED) for job in jobs if isinstance(job, JobId)})
        return jobs


@pytest.fixture
def shared(factory: Factory) -> Factory:
    """Two entries without tokens, and two frontends."""
    entries = tuple(
        replace(entry, payload="pyz", tokens=None, limits=Limits(total=40, per_minute=100)) for entry in factory.entries
    )
    return replace(factory, entries=entries, frontends=(Frontend("f", "", ("v",)), Frontend("g", "", ("v",))))


@pytest.fixture
def batch() -> SlowBatch:
    return SlowBatch()


@pytest.fixture
def controller(store: Store, batch: SlowBatch) -> Controller:
    return Controller(store, batch, clock=batch.clock)


def ask(store: Store, factory: Factory, *requests: Request, frontend: str = "f") -> None:
    """A frontend's newest set."""
    given = RequestSet(sequence=time.time_ns() // 1000, lifetime_seconds=600, requests=list(requests))
    who = next(one for one in factory.frontends if one.name == frontend)
    demand.take_set(store, frontend, given, str(given.sequence), judge_set(given, who, factory))


def request(entry: str = "site-a", queued: int = 3, pilots: int = 100, **more: object) -> Request:
    return Request.model_validate({"entry": entry, "vo": "v", "queued": queued, "pilots": pilots, **more})


def counts(store: Store) -> dict[tuple[str, str], int]:
    return {(key[0], key[1]): held.all for key, held in demand.unfinished(store).items()}


def test_pilots_are_submitted_for_whoever_asked_and_only_once(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch
) -> None:
    ask(store, shared, request(queued=3), request("site-b", queued=2))
    ask(store, shared, request(queued=4), frontend="g")
    for _ in range(3):
        controller.round(shared, observed=time.time())
    assert counts(store) == {("site-a", "f"): 3, ("site-b", "f"): 2, ("site-a", "g"): 4}
    assert len(batch.submitted) == 9
    assert {pilot.vo for pilot in store.pilots()} == {"v"}


def test_what_limits_a_request_is_noted_and_logged_once(controller: Controller, shared: Factory, store: Store) -> None:
    ask(store, shared, request(queued=45, pilots=50))
    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            controller.round(shared, observed=time.time())
    assert counts(store) == {("site-a", "f"): 40}
    assert [kept.limited_by for kept in demand.wanted(store)] == ["limits.total"]
    assert [line["limited_by"] for line in said if line["event"] == "control.limited"] == []
    store.close_entry("site-a", "power")
    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            controller.round(shared, observed=time.time())
    (line,) = [line for line in said if line["event"] == "control.limited"]
    assert (line["limited_by"], line["requests"], line["entries"]) == ("closed: power", 1, ["site-a (v)"])
    assert [kept.limited_by for kept in demand.wanted(store)] == ["closed: power"]


def test_a_long_reason_is_noted_as_far_as_every_database_keeps_it_and_logged_once(
    controller: Controller, shared: Factory, store: Store
) -> None:
    store.close_entry("site-a", "x" * 300)
    ask(store, shared, request())
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            controller.round(shared, observed=time.time())
    (kept,) = demand.wanted(store)
    assert kept.limited_by == "closed: " + "x" * 292
    assert len([line for line in lines if line["event"] == "control.limited"]) == 1


def test_without_an_answer_of_the_batch_system_nothing_is_done(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch
) -> None:
    ask(store, shared, request())
    for observed in (None, time.time() - 3600):
        controller.round(shared, observed=observed)
    assert batch.submitted == []
    assert [kept.limited_by for kept in demand.wanted(store)] == ["the batch system has not answered lately"]


def test_an_entry_that_refuses_is_left_alone_for_longer_each_time_and_the_others_go_on(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch
) -> None:
    batch.refused = "site-a"
    ask(store, shared, request(), request("site-b"))
    for _ in range(40):
        controller.round(shared, observed=time.time())
        batch.clock.now += FIRST_PAUSE_SECONDS / 4
    assert counts(store) == {("site-b", "f"): 3}
    refused = store.states("site-a")[PilotState.REFUSED]
    assert refused == 3 + 1 + 1 + 1, "after 0, 1, 3 and 7 minutes, and after the first time with one pilot alone"
    assert [kept.limited_by for kept in demand.wanted(store, entry="site-a")] == ["batch.failed: no such queue"]


def test_what_a_frontend_gave_and_the_submission_refuses_costs_no_other_frontend_the_entry(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch
) -> None:
    batch.refused = "site-a"
    ask(store, shared, request(queued=1, credentials=["odd-proxy"]))
    controller.round(shared, observed=time.time())
    assert list(controller.pauses) == [("site-a", "f")]
    batch.refused = ""
    ask(store, shared, request(queued=2), frontend="g")
    controller.round(shared, observed=time.time())
    assert counts(store) == {("site-a", "g"): 2}


def test_a_missing_token_stops_its_own_frontend_alone(
    shared: Factory, store: Store, batch: SlowBatch, tmp_path: Path
) -> None:
    site_a, site_b = shared.entries
    shared = replace(shared, entries=(replace(site_a, tokens=str(tmp_path / "tokens")), site_b))
    controller = Controller(store, batch, clock=batch.clock)
    ask(store, shared, request(queued=3))
    controller.round(shared, observed=time.time())
    assert counts(store) == {("site-a", "f"): 2}, "there were two tokens"
    assert list(controller.pauses) == [("site-a", "f")]
    (kept,) = demand.wanted(store)
    assert kept.limited_by.startswith("token.missing: no token for a pilot of the entry site-a")


def test_an_entry_whose_pilots_files_cannot_be_made_costs_the_others_nothing(
    controller: Controller, shared: Factory, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, content: bytes, **more: Any) -> None:
        if b'"entry":{"name":"site-a"' in content.replace(b" ", b"").replace(b"\n", b""):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        write_atomically(path, content, **more)

    ask(store, shared, request(), request("site-b"))
    with monkeypatch.context() as patched:
        patched.setattr("server_stub.submit.write_json", lambda path, value: full(path, json.dumps(value).encode()))
        controller.round(shared, observed=time.time())
    assert counts(store) == {("site-b", "f"): 3}
    (kept,) = demand.wanted(store, entry="site-a")
    assert kept.limited_by.startswith("pilot.unwritable: the files of a pilot of the entry site-a cannot be made: ")
    assert len(os.listdir(os.path.join(shared.state, "pilots"))) == 3, "nothing of it is left"


def test_a_slow_batch_system_gets_a_little_from_everybody_before_the_round_ends(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch
) -> None:
    batch.seconds = 6.0
    ask(store, shared, request(queued=25), request("site-b", queued=25))
    ask(store, shared, request(queued=12), frontend="g")
    controller.round(shared, observed=time.time())
    assert counts(store) == {("site-a", "f"): AT_ONCE, ("site-b", "f"): AT_ONCE, ("site-a", "g"): AT_ONCE}
    assert {kept.limited_by for kept in demand.wanted(store)} == {PACE}
    for _ in range(4):
        controller.round(shared, observed=time.time())
    assert counts(store) == {("site-a", "f"): 25, ("site-b", "f"): 15 + AT_ONCE, ("site-a", "g"): 12}


def test_a_factory_that_is_to_stop_begins_nothing_more(shared: Factory, store: Store, batch: SlowBatch) -> None:
    ask(store, shared, request())
    Controller(store, batch, stopped=lambda: True).round(shared, observed=time.time())
    assert batch.submitted == []


@pytest.fixture
def queue(shared: Factory, store: Store, batch: SlowBatch) -> list[Pilot]:
    """Five pilots of f in the queue, the last the newest, and one of g."""
    found = []
    for number in range(6):
        job = JobId(100 + number, 0)
        who = "g" if number == 5 else "f"
        pilot = Pilot(
            f"p{number}", "site-a", "S", "pyz", "0", PilotState.QUEUED, 1000.0 + number, "/d", job, vo="v",
            frontend=who, grid_job="slurm 1" if number == 4 else "",
        )  # fmt: skip
        store.save(pilot)
        batch.waiting[job] = BatchJob(PilotState.QUEUED)
        found.append(pilot)
    return found


def removed(batch: ScriptedBatch) -> list[int]:
    return sorted(job.cluster for job in batch.removed)


def test_those_that_wait_shortest_are_taken_back_and_nobody_elses(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch, queue: list[Pilot]
) -> None:
    ask(store, shared, request(queued=3, remove=Removal.IDLE))
    counted: list[tuple[str, str, int]] = []
    controller.count = lambda *what: counted.append(what)
    controller.round(shared, observed=time.time())
    assert removed(batch) == [103, 104]
    assert counted == [("f", "removed", 2)]
    assert set(batch.removed.values()) == {"the frontend f wants fewer pilots"}
    batch.removed.clear()
    controller.round(shared, observed=time.time())
    assert removed(batch) == [], "they are on their way out"
    now = time.time() + LEAVING_SECONDS + 1
    controller.round(shared, observed=now, now=now)
    assert removed(batch) == [], "the set's lifetime is over"


def test_a_removal_that_nothing_came_of_is_asked_for_again(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch, queue: list[Pilot]
) -> None:
    ask(store, shared, request(queued=4, remove=Removal.IDLE))
    controller.round(shared, observed=time.time())
    controller.leaving = {name: (asked - LEAVING_SECONDS - 1, one) for name, (asked, one) in controller.leaving.items()}
    batch.removed.clear()
    controller.round(shared, observed=time.time())
    assert removed(batch) == [104]


def test_a_wait_leaves_what_the_site_has_already(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch, queue: list[Pilot]
) -> None:
    site_a, site_b = shared.entries
    ask(store, shared, request(queued=3, remove=Removal.WAIT))
    at_a_site = replace(shared, entries=(replace(site_a, type="batch slurm"), site_b))
    controller.round(at_a_site, observed=time.time())
    assert removed(batch) == [102, 103]


def test_of_running_pilots_those_go_that_their_frontend_names_and_owns(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch, queue: list[Pilot]
) -> None:
    for pilot in queue:
        store.save(replace(pilot, state=PilotState.RUNNING))
    named = ["p5", "nobody", "p2", "p0", "p1"]
    ask(store, shared, request(queued=0, pilots=3, remove=Removal.WHOLE, idle=named))
    controller.round(shared, observed=time.time())
    assert removed(batch) == [100, 102]


def test_a_batch_system_that_removes_nothing_is_asked_again_next_time(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch, queue: list[Pilot]
) -> None:
    ask(store, shared, request(queued=3, remove=Removal.IDLE))
    batch.broken = True
    controller.round(shared, observed=time.time())
    batch.broken = False
    controller.round(shared, observed=time.time())
    assert removed(batch) == [103, 104]


def test_asked_for_run_and_given_back_in_turn_a_request_settles(
    controller: Controller, shared: Factory, store: Store, batch: SlowBatch
) -> None:
    """Rounds of both kinds, as a server has them, while pilots begin and the frontend changes its mind."""
    ask(store, shared, request(queued=4, pilots=6))
    for step in range(8):
        collect(shared, store, batch)
        controller.round(shared, observed=time.time())
        if step == 1:
            for job in sorted(batch.waiting, key=str)[:3]:
                batch.waiting[job] = BatchJob(PilotState.RUNNING, "wn1")
    told = demand.unfinished(store)[("site-a", "f", "v")]
    assert (told.waiting, told.running) == (3, 3)
    ask(store, shared, request(queued=1, pilots=6, remove=Removal.IDLE))
    for _ in range(4):
        controller.round(shared, observed=time.time())
        for job in batch.removed:
            batch.waiting.pop(job, None)
            batch.gone[job] = BatchJob(PilotState.REMOVED)
        collect(shared, store, batch)
    told = demand.unfinished(store)[("site-a", "f", "v")]
    assert (told.waiting, told.running, len(batch.removed)) == (1, 3, 2)


def test_a_pilot_takes_along_what_its_frontend_named(shared: Factory, store: Store, batch: SlowBatch) -> None:
    asked: list[tuple[str, tuple[str, ...], str]] = []

    def lend(entry: Entry, names: tuple[str, ...]) -> Credentials:
        def give(pilot: Pilot) -> dict[Kind, bytes]:
            asked.append((entry.name, names, pilot.frontend))
            return {Kind.IDTOKEN: b"secret\n"}

        return give

    ask(store, shared, request(queued=1, credentials=["site-token"]))
    Controller(store, batch, lend=lend).round(shared, observed=time.time())
    assert asked == [("site-a", ("site-token",), "f")]
    (pilot,) = store.pilots()
    assert Path(pilot.directory, "pilot.token").read_text() == "secret\n"
