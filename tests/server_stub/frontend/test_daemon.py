"""The frontend as a service: pool and factory are doubles on real processes and sockets, everything between is real."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pilot_agent.model import PilotError
from server_stub.factory import requests
from server_stub.frontend import round  # noqa: A004 - a module's name
from server_stub.frontend.configuration import Frontend, parse_frontend
from server_stub.frontend.kept import State
from tests.server_stub.frontend.builders import slot
from tests.server_stub.frontend.factory_double import AWAY, FactoryDouble, entry
from tests.server_stub.frontend.world import World


def test_jobs_that_wait_become_requests_at_the_factory(world: World) -> None:
    told = world.cycle()
    assert sum(world.asked().values()) > 0
    assert told["idle_jobs"] == 40
    assert told["entries"][0]["asked_queued"] == world.asked()["small"]
    assert told["frozen"] == ""
    assert world.factory.known["lifetime_seconds"] == 3600


def test_a_restart_goes_on_where_it_was(world: World) -> None:
    first = world.cycle()
    world.factory.entries[0]["state"]["queued"] = world.asked()["small"]
    numbers = [world.factory.known["sequence"]]
    wishes = [world.asked()]
    for _ in range(3):
        second = world.cycle()
        numbers.append(world.factory.known["sequence"])
        wishes.append(world.asked())
    assert numbers == sorted(set(numbers))
    assert [second["cycle"] - first["cycle"], len(set(map(str, wishes[1:])))] == [3, 1]
    assert all(row["remove"] == "NO" for row in world.factory.known["requests"])


def test_while_an_access_point_is_missing_nothing_is_taken_back_and_the_last_requests_stand(world: World) -> None:
    world.cycle()
    before = world.asked()
    world.pool.loses("jobsap1")
    for count in (1, 2, 3):
        told = world.cycle()
        assert told["frozen_cycles"] == count
        assert "ap1" in told["frozen"]
        assert world.asked() == before
    world.cycle()
    # Not for ever: after so many cycles no further pilots are asked for, and still none is taken back.
    assert set(world.asked().values()) == {0}
    assert all(row["remove"] == "NO" for row in world.factory.known["requests"])
    world.jobs(40)
    assert world.cycle()["frozen"] == ""
    assert sum(world.asked().values()) > 0


def test_pilots_that_nobody_needs_are_taken_back_only_after_many_whole_cycles(world: World) -> None:
    world.jobs(0)
    world.factory.entries[0]["state"] = {"queued": 5, "running": 0, "held": 0, "oldest_queued_seconds": 60.0}
    for _ in range(5):
        world.cycle()
    world.pool.loses("jobsap1")
    world.cycle()
    assert {row["remove"] for row in world.factory.known["requests"]} == {"NO"}
    world.jobs(0)
    world.cycle()
    assert {row["entry"]: row["remove"] for row in world.factory.known["requests"]} == {"small": "WAIT", "large": "NO"}


def test_a_factory_that_is_away_is_kept_as_it_was_and_gets_the_next_requests_when_it_is_back(world: World) -> None:
    world.cycle()
    world.factory.plan = [AWAY] * 50
    away = world.cycle()
    assert (away["factories"][0]["offers"], away["factories"][0]["entries"]) == ("kept", 2)
    assert away["factories"][0]["problem"]
    world.factory.plan = []
    back = world.cycle()
    assert back["factories"][0]["offers"] == "fresh"
    assert world.factory.known["sequence"] == back["sequence"]


def test_offers_of_a_factory_that_is_away_for_long_count_no_more_and_nothing_is_forgotten(world: World) -> None:
    world.cycle()
    memory = State(world.frontend.state).load().memory
    world.factory.plan = [AWAY] * 50
    world.now += 7200
    told = world.cycle()
    assert told["factories"][0]["offers"] == "none"
    assert told["frozen"] == "no factory offers any entry"
    world.pool.loses("jobsap1")
    assert world.cycle()["frozen"].startswith(
        "no factory offers any entry; no answer, or only a part of it, from ap1 ("
    )
    assert State(world.frontend.state).load().memory.wishes == memory.wishes


def test_one_factory_is_asked_though_another_is_away_and_their_entries_are_not_mixed_up(world: World) -> None:
    west = {"name": "west", "url": "http://127.0.0.1:9", "most_seconds": 1}
    world.document["factories"] = [*world.document["factories"], west]
    told = world.cycle()
    assert {row["name"]: row["offers"] for row in told["factories"]} == {"east": "fresh", "west": "none"}
    assert sum(world.asked().values()) > 0


def test_pilots_of_another_factorys_entry_of_the_same_name_are_not_this_ones(world: World) -> None:
    world.pool.slots(slot("small@east", "p1", busy=True), slot("small@west", "p2", busy=True))
    told = world.cycle()
    assert {row["entry"]: row["registered"] for row in told["entries"]} == {"small": 1, "large": 0}


def test_after_the_clock_was_set_back_requests_still_count(world: World) -> None:
    world.cycle()
    world.factory.known = {**world.factory.known, "sequence": int((world.now + 86400) * 1e6)}
    known = world.factory.known["sequence"]
    world.cycle()
    assert world.factory.known["sequence"] == known + 1
    world.cycle()
    assert world.factory.known["sequence"] > known + 1


def test_a_number_that_was_given_while_the_clock_was_far_ahead_is_not_counted_on_from(world: World) -> None:
    world.cycle()
    state = State(world.frontend.state)
    state.save(replace(state.load(), sequence=int((world.now + 86400) * 1e6)))
    world.cycle()
    assert world.factory.known["sequence"] == int(world.now * 1e6), "what lies far ahead a factory refuses"
    assert round.AHEAD_SECONDS == requests.AHEAD_SECONDS


def test_the_factorys_own_limit_and_the_files_hold_both(world: World) -> None:
    world.factory.entries = [entry("small", limits={"total": 30, "idle": 2}), entry("large", cores=8)]
    world.document["limits"] = {"entries": {"large@east": {"most_queued": 1}}}
    world.jobs(4000)
    for _ in range(3):
        world.cycle()
    assert world.asked() == {"small": 2, "large": 1}


def test_a_damaged_memory_is_told_and_is_no_reason_to_stop(world: World) -> None:
    world.cycle()
    for name in ("memory.json", "status.json"):
        (Path(world.frontend.state, name)).write_text('{"memory": 5')
    with capture_logs() as logs:
        told = world.cycle()
    assert [line["file"].rpartition("/")[2] for line in logs if line["event"] == "state.damaged"] == ["memory.json"]
    assert told["cycle"] == 1


def test_two_frontends_never_share_a_state(world: World) -> None:
    with State(world.frontend.state).mine(), pytest.raises(PilotError) as caught:
        world.daemon(1).run()
    assert caught.value.failure.code == "state.taken"


def after(seconds: float, number: int) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.start()
    return timer


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sigterm_leaves_what_is_under_way(world: World) -> None:
    world.pool.hangs("jobsap1")
    timer = after(1.0, signal.SIGTERM)
    with capture_logs() as logs:
        world.daemon(None).run()
    timer.join()
    assert [line["event"] for line in logs] == ["running", "stopped"]


def test_sighup_takes_the_new_file_and_a_wrong_one_changes_nothing(world: World) -> None:
    files = [
        lambda: replace(world.frontend, name="other", cycle_seconds=2.0),
        lambda: parse_frontend({**world.document, "cycle_seconds": "x"}, str(world.directory)),
    ]

    def again() -> Frontend:
        return files.pop(0)()

    daemon = world.daemon(None, again=again)

    def act() -> None:
        for left in (1, 0):
            asked = len(world.factory.asked)
            wait_for(lambda asked=asked: len(world.factory.asked) >= asked + 2)  # type: ignore[misc]
            os.kill(os.getpid(), signal.SIGHUP)
            wait_for(lambda left=left: len(files) == left)  # type: ignore[misc]
        os.kill(os.getpid(), signal.SIGTERM)

    actor = threading.Thread(target=act)
    actor.start()
    with capture_logs() as logs:
        daemon.run()
    actor.join()
    events = [line for line in logs if line["event"].startswith("reload")]
    assert [line["event"] for line in events] == ["reloaded", "reload.failed"]
    assert events[0]["needs_restart"] == ["name"]
    assert (daemon.frontend.name, daemon.frontend.cycle_seconds) == ("example-vo", 2.0)


def test_it_tells_its_health_and_its_figures_at_its_port(world: World, free_port: int) -> None:
    world.document["listen"] = {"port": free_port}
    found: dict[str, bytes] = {}

    def look() -> None:
        def ready() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/health/ready", timeout=5) as answer:
                    found["ready"] = answer.read()
                with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=5) as answer:
                    found["metrics"] = answer.read()
            except OSError:
                return False
            return b"last_cycle" in found["metrics"]

        wait_for(ready)
        os.kill(os.getpid(), signal.SIGTERM)

    looker = threading.Thread(target=look)
    looker.start()
    world.daemon(None).run()
    looker.join()
    assert json.loads(found["ready"])["status"] == "ok"
    assert b'pilot_frontend_entry_asked_queued{entry="small",factory="east"}' in found["metrics"]
    assert b"pilot_frontend_idle_jobs 40.0" in found["metrics"]
    assert b'pilot_frontend_factory_up{factory="east"} 1.0' in found["metrics"]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_supervisor_hears_that_it_is_ready_alive_and_stopping(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        world.cycle()
        lines = [heard.recv(4096).decode().splitlines()[0] for _ in range(3)]
        while lines[-1] != "STOPPING=1":
            lines.append(heard.recv(4096).decode().splitlines()[0])
    assert lines[0] == "READY=1"
    # After every answer of the pool too: many access points that hang are no reason to start it again.
    assert lines.count("WATCHDOG=1") == 5


def test_of_running_pilots_only_idle_ones_are_named_to_be_taken_back(world: World) -> None:
    world.jobs(0)
    world.factory.entries[0]["state"]["running"] = 2
    world.factory.pilots = [
        {
            "id": f"name{job}",
            "entry": "small",
            "state": "running",
            "vo": "example",
            "job": {"cluster": job, "process": 0},
        }
        for job in (7, 8, 9)
    ]
    world.pool.slots(slot("small@east", "a#7.0", busy=True), slot("small@east", "b#8.0"))
    named = []
    for _ in range(12):
        world.cycle()
        named.append({row["entry"]: row.get("idle", []) for row in world.factory.known["requests"]})
    assert named[-1] == {"small": ["name8"], "large": []}
    assert named[9]["small"] == []
    assert world.factory.known["requests"][0]["remove"] == "WHOLE"


def test_a_factory_whose_answer_is_nested_without_end_costs_the_others_nothing(world: World) -> None:
    nested: list[object] = []
    for _ in range(400):
        nested = [nested]
    with FactoryDouble(world.factory.public_key) as west:
        west.name = "west"
        west.entries = [entry("odd", seen=[{"at": 1.0, "facts": {"cpu.model": {"value": nested}}}])]
        world.document["factories"] = [*world.document["factories"], {"name": "west", "url": west.url}]
        told = world.cycle()
    assert {row["name"]: row["offers"] for row in told["factories"]} == {"east": "fresh", "west": "none"}
    assert sum(world.asked().values()) > 0
