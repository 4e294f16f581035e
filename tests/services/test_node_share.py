"""One service for all pilots of a node: one pilot runs it, the others use it, and one of them takes it over."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle import node_list
from pilot_agent.lifecycle.lock import keep_across_exec, keep_from_children
from pilot_agent.services import devices, node_share, supervisor
from pilot_agent.services.node_endpoint import HELD, NodeEndpoint, key_of
from pilot_agent.services.plan import ServicePlan
from tests.services.bench import Bench, Kept

OTHER_PILOT = """
import os, signal, sys
from pathlib import Path
from pilot_agent.lifecycle import node_list
from pilot_agent.lifecycle.subreaper import become_subreaper
node_list.PLACE = sys.argv[2]
from tests.services.bench import Bench, Kept
become_subreaper()
bench = Bench(Path(sys.argv[1]))
bench.server = Path(sys.argv[3])
kept = Kept(bench, bench.http(per="node", name="cache", live_way="http", live_of="http/health"))
signal.signal(signal.SIGTERM, lambda number, frame: over.append(number))
over = []
told = ""
while not over:
    standing = kept.supervisor.units["cache"].standing
    said = f"{standing.status} {standing.pid} {standing.ports.get('http', 0)}"
    if (said, standing.message) != told:
        os.write(1, (said + "\\n").encode())
        told = (said, standing.message)
    kept.loop.call_later(0.05, lambda: None)
    kept.loop.turn()
kept.stop()
kept.close()
"""
"""A pilot of its own process: argv is its directory, the node's place, the server; it says each state."""


class OtherPilot:
    """Another pilot of this account on the node."""

    def __init__(self, directory: Path, place: Path, server: Path) -> None:
        directory.mkdir()
        words = [sys.executable, "-c", OTHER_PILOT, str(directory), str(place), str(server)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def until(self, status: str) -> tuple[int, int]:
        """Wait for a state; the service's pid, 0 where it does not run there, and port."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said, pid, port = line.split()
            if said == status:
                return int(pid), int(port)
        raise AssertionError(f"it ended and was never {status}")

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The account's list is this test's own, and looked at often."""
    monkeypatch.setattr(node_list, "PLACE", str(tmp_path / "node"))
    monkeypatch.setattr(node_share, "LOOK_SECONDS", 0.1)
    (tmp_path / "node").mkdir()
    return tmp_path / "node"


@pytest.fixture
def keep(keep: Callable[..., Kept]) -> Iterator[Callable[..., Kept]]:
    """As everywhere, and stopped after the test: nothing is held any more."""
    made: list[Kept] = []

    def begin(*plans: ServicePlan) -> Kept:
        made.append(keep(*plans))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


@pytest.fixture
def pilot(tmp_path: Path, place: Path, bench: Bench) -> Iterator[Callable[[str], OtherPilot]]:
    """Starts other pilots; they and what they started are gone after the test."""
    made: list[OtherPilot] = []

    def start(name: str) -> OtherPilot:
        made.append(OtherPilot(tmp_path / name, place, bench.server))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.end()
        assert one.process.stdout is not None
        one.process.stdout.close()


def cache(bench: Bench, **fields: Any) -> ServicePlan:
    """The service that the other pilots have too."""
    return bench.http(per="node", name="cache", live_way="http", live_of="http/health", **fields)


def is_ready(kept: Kept) -> bool:
    return kept.supervisor.statuses()["cache"] == "ready"


def test_the_second_pilot_uses_the_service_of_the_first_at_its_port(
    bench: Bench, keep: Callable[..., Kept], pilot: Callable[[str], OtherPilot]
) -> None:
    _, port = pilot("first").until("ready")
    kept = keep(cache(bench, attributes={"Where": "{host}:{port}"}))
    kept.until_status("shared", "cache")
    [state] = kept.supervisor.states()
    assert (state["pid"], state["ports"], state["starts"]) == (None, {"http": port}, 0)
    assert state["attributes"] == {"Where": f"127.0.0.1:{port}"}
    assert bench.told("shared")[0]["ports"] == {"http": port}
    assert kept.supervisor.settled()


def test_when_the_pilot_that_runs_it_ends_one_of_two_others_takes_it_over(
    bench: Bench, keep: Callable[..., Kept], pilot: Callable[[str], OtherPilot]
) -> None:
    first = pilot("first")
    first.until("ready")
    second = pilot("second")
    second.until("shared")
    kept = keep(cache(bench))
    kept.until_status("shared", "cache")
    first.end()
    assert first.process.returncode == 0
    kept.until(lambda: is_ready(kept) or len(bench.told("shared")) > 1, "somebody ran it again")
    if is_ready(kept):
        pid, port = second.until("shared")
        assert (pid, port) == (0, kept.supervisor.units["cache"].standing.ports["http"])
        assert bench.told("taken_over")
    else:
        assert kept.supervisor.statuses()["cache"] == "shared"
        assert second.until("ready")[0]


def test_who_takes_it_over_goes_on_at_the_port_that_jobs_were_told(
    bench: Bench, keep: Callable[..., Kept], pilot: Callable[[str], OtherPilot]
) -> None:
    first = pilot("first")
    _, port = first.until("ready")
    kept = keep(cache(bench))
    kept.until_status("shared", "cache")
    first.end()
    kept.until_status("ready", "cache")
    assert kept.supervisor.units["cache"].standing.ports == {"http": port}
    assert bench.told("taken_over")


def test_a_pilot_that_is_killed_is_taken_over_from_although_its_word_lies_there(
    bench: Bench, keep: Callable[..., Kept], pilot: Callable[[str], OtherPilot], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pilot("first")
    pid, _ = first.until("ready")
    kept = keep(cache(bench))
    kept.until_status("shared", "cache")
    monkeypatch.setattr(node_share, "SAME_SECONDS", 0.1)
    first.end(signal.SIGKILL)
    try:
        kept.until_status("ready", "cache")
        assert kept.pid("cache") not in (0, pid)
        [path] = Path(node_list.path()).glob("*.json")
        assert json.loads(path.read_text())["pid"] == os.getpid()
    finally:
        os.kill(pid, signal.SIGKILL)  # in a pilot its guardian does it
    kept.stop()
    assert list(Path(node_list.path()).iterdir()) == []


def test_a_service_that_is_hung_is_not_shared_until_its_pilot_started_it_again(
    bench: Bench, keep: Callable[..., Kept], pilot: Callable[[str], OtherPilot], tmp_path: Path
) -> None:
    first = pilot("first")
    first.until("ready")
    kept = keep(cache(bench, live_period_seconds=0.1, live_failures=1))
    kept.until_status("shared", "cache")
    ill = tmp_path / "first" / "pilot" / "services" / "cache" / "ill"
    ill.touch()
    kept.until_status("waiting", "cache")
    assert "503" in bench.told("unhealthy")[0]["message"]
    ill.unlink()
    kept.until_status("shared", "cache")


def test_the_lock_and_the_share_go_from_the_stage_to_the_keeper(bench: Bench, keep: Callable[..., Kept]) -> None:
    plan = cache(bench)
    bench.stage(plan)
    assert plan.standing.status == "ready", plan.standing.message
    assert plan.standing.lock >= 0
    keep_across_exec()
    assert os.get_inheritable(plan.standing.lock)
    keep_from_children()
    kept = keep(ServicePlan.from_json(json.loads(json.dumps(plan.to_json()))))
    assert kept.pid("cache") == plan.standing.pid
    kept.stop()
    assert list(Path(node_list.path()).iterdir()) == []
    assert os.environ.get("PILOT_AGENT_LOCK_FDS") is None


def test_a_pilot_that_can_tell_nobody_runs_its_own_and_says_why(
    bench: Bench, keep: Callable[..., Kept], place: Path
) -> None:
    Path(node_list.path()).mkdir()
    Path(node_list.path()).chmod(0o777)
    kept = keep(cache(bench))
    kept.until_status("ready", "cache")
    assert "this account alone" in bench.told("not_shared")[0]["message"]


def test_a_full_disk_gives_the_lock_back_and_the_pilot_runs_its_own(
    bench: Bench, keep: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*words: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(NodeEndpoint, "publish", full)
    kept = keep(cache(bench))
    kept.until_status("ready", "cache")
    assert "No space left" in bench.told("not_shared")[0]["message"]
    assert list(Path(node_list.path()).iterdir()) == []


def test_another_pilots_service_that_never_becomes_ready_is_not_waited_for_without_end(
    bench: Bench, keep: Callable[..., Kept]
) -> None:
    plan = bench.plan("exec sleep 600", name="cache", per="node", ready_way="alive", ready_seconds=0.2)
    words = node_share.words_of(plan)
    other = NodeEndpoint("cache", key_of(words, bench.workspace.root))
    assert other.take() == HELD
    other.publish("starting", {})
    try:
        keep(plan).until_status("ready", "cache")
        assert "did not make it ready within" in bench.told("not_shared")[0]["message"]
    finally:
        other.release()


def test_one_whose_need_is_lost_while_it_waits_for_another_pilot_stays_lost(
    bench: Bench, keep: Callable[..., Kept]
) -> None:
    need = bench.plan(": > ready; exec sleep 600", name="need", restart="never", required=False)
    plan = bench.plan("exec sleep 600", name="cache", per="node", needs=("need",), ready_way="alive", required=False)
    other = NodeEndpoint("cache", key_of(node_share.words_of(plan), bench.workspace.root))
    assert other.take() == HELD
    other.publish("starting", {})
    try:
        kept = keep(need, plan)
        kept.until_status("ready", "need")
        kept.until(lambda: kept.supervisor._shares["cache"]._follows, "the other pilot's is waited for")
        os.kill(kept.pid("need"), signal.SIGKILL)
        kept.until_status("failed", "cache")
        other.publish("ready", {})
        over: list[bool] = []
        kept.loop.call_later(2 * node_share.SOON_SECONDS, lambda: over.append(True))
        kept.until(lambda: bool(over), "two looks")
        assert kept.supervisor.statuses()["cache"] == "failed"
    finally:
        other.release()


def test_a_port_that_is_given_may_be_held_for_a_while_by_what_a_killed_pilot_left(
    bench: Bench, keep: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_share, "SOON_SECONDS", 0.05)
    with socket.socket() as left:
        left.bind(("127.0.0.1", 0))
        left.listen()
        kept = keep(cache(bench, ports={"http": left.getsockname()[1]}))
        looks = iter(range(10))
        kept.until(lambda: next(looks) == 5, "some looks")
        assert kept.supervisor.statuses()["cache"] == "waiting"
    kept.until_status("ready", "cache")


def test_a_pilot_whose_service_lacks_what_it_needs_leaves_it_to_others(
    bench: Bench, keep: Callable[..., Kept], pilot: Callable[[str], OtherPilot]
) -> None:
    """Here the database is down when the pilot that ran the cache leaves; a third one, which needs none, takes over."""
    first = pilot("first")
    first.until("ready")
    base = bench.plan(": > ready; exec sleep 600", name="base", backoff_seconds=600.0, backoff_limit_seconds=600.0)
    mine = keep(base, cache(bench, needs=("base",)))
    mine.until_status("shared", "cache")
    os.kill(mine.pid("base"), signal.SIGKILL)
    mine.until_status("backoff", "base")
    first.end()
    mine.until(
        lambda: "it needs the service base, which is backoff" in mine.supervisor.units["cache"].standing.message,
        "the reason why it waits",
    )
    assert mine.supervisor.units["cache"].standing.starts == 0
    third = pilot("third")
    assert third.until("ready")[0] != 0
    mine.until_status("shared", "cache")


def test_a_taken_over_service_starts_when_what_it_needs_is_back(
    bench: Bench, keep: Callable[..., Kept], pilot: Callable[[str], OtherPilot]
) -> None:
    first = pilot("first")
    first.until("ready")
    base = bench.plan("test -e again && until test -e go; do sleep 0.05; done; : > again; : > ready; exec sleep 600",
                      name="base")  # fmt: skip
    mine = keep(base, cache(bench, needs=("base",)))
    mine.until_status("shared", "cache")
    os.kill(mine.pid("base"), signal.SIGKILL)
    mine.until(lambda: mine.supervisor.units["base"].standing.starts == 2, "second start of base")
    first.end()
    mine.until(lambda: "it needs the service base" in mine.supervisor.units["cache"].standing.message, "its reason")
    bench.file("go", "base").touch()
    mine.until_status("ready", "cache")


def test_gpus_that_the_driver_lists_no_more_are_gone(tmp_path: Path) -> None:
    for number, uuid in enumerate(("GPU-aa", "GPU-bb")):
        card = tmp_path / "proc/driver/nvidia/gpus" / f"0000:0{number}:00.0"
        card.mkdir(parents=True)
        (card / "information").write_text(f"Model: \t X\nIRQ:   16\nGPU UUID: \t {uuid}\n")
    assert devices.gone(["GPU-bb", "MIG-1"], str(tmp_path)) == []
    assert devices.gone(["GPU-bb", "GPU-cc"], str(tmp_path)) == ["GPU-cc"]
    assert devices.gone(["GPU-cc"], str(tmp_path / "nowhere")) == []


def test_a_service_whose_gpu_is_gone_is_not_taken_over(
    bench: Bench, keep: Callable[..., Kept], pilot: Callable[[str], OtherPilot], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pilot("first")
    first.until("ready")
    mine = keep(cache(bench, devices=("GPU-aa",)))
    mine.until_status("shared", "cache")
    left = ["GPU-aa"]
    monkeypatch.setattr(supervisor, "gone", lambda wanted: [one for one in wanted if one in left])
    first.end()
    mine.until(lambda: "lists its GPU GPU-aa no more" in mine.supervisor.units["cache"].standing.message, "its reason")
    left.clear()
    mine.until_status("ready", "cache")
