"""In the service stage a service is started, waited for in the way it declares, and ended when it does not come."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot_agent.lifecycle.journal import read_journal
from pilot_agent.process import Interrupted
from pilot_agent.services import ports
from pilot_agent.services.plan import ServicePlan
from tests.services.bench import Bench, left_alone
from tests.wake_pipe import WakePipe

pytestmark = pytest.mark.usefixtures("each_kernel")
NEVER = 0.3
STAYS = ": > ready; exec sleep 600"


def alive(plan: ServicePlan) -> bool:
    return plan.standing.pid != 0 and psutil.pid_exists(plan.standing.pid)


@contextmanager
def woken_when(path: Path) -> Iterator[WakePipe]:
    """A wake-up that becomes readable once ``path`` exists."""
    given_up = threading.Event()

    def watch() -> None:
        while not path.exists() and not given_up.wait(0.01):
            pass
        wake.ring()

    with WakePipe() as wake:
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield wake
        finally:
            given_up.set()
            watcher.join()


@pytest.mark.parametrize(
    ("script", "ready"),
    [
        ("sleep 0.1; : > ready; exec sleep 600", {"ready_way": "file", "ready_of": "ready"}),
        ("sleep 0.1; : > up; exec sleep 600", {"ready_way": "file", "ready_of": "{workspace}/up"}),
        ("sleep 0.1; echo all is up; exec sleep 600", {"ready_way": "log", "ready_of": "is up"}),
        ("sleep 0.1; : > up; exec sleep 600", {"ready_way": "command", "ready_argv": ("test", "-e", "{workspace}/up")}),
        ("exec sleep 600", {"ready_way": "alive", "ready_of": ""}),
    ],
)
def test_a_service_is_ready_in_the_way_it_declares(bench: Bench, script: str, ready: dict[str, Any]) -> None:
    ready = {**ready, "ready_argv": ("/usr/bin/test", *ready["ready_argv"][1:])} if "ready_argv" in ready else ready
    plan = bench.plan(script, attributes={"Up": True}, **ready)
    bench.stage(plan)
    assert plan.state()["status"] == "ready", plan.state()
    assert plan.state()["attributes"] == {"Up": True}
    assert plan.standing.ready_after_seconds is not None
    assert alive(plan)


@pytest.mark.parametrize("way", [("port", "http"), ("http", "http/health")])
def test_a_server_gets_a_free_port_and_is_ready_when_it_answers_there(bench: Bench, way: tuple[str, str]) -> None:
    plan = bench.http(
        ready_way=way[0], ready_of=way[1], attributes={"Url": "http://{host}:{port}/", "Number": "{port:http}"}
    )
    bench.stage(plan)
    port = plan.standing.ports["http"]
    assert plan.standing.status == "ready"
    assert plan.state()["attributes"] == {"Url": f"http://127.0.0.1:{port}/", "Number": port}
    with socket.create_connection(("127.0.0.1", port), timeout=60):
        assert bench.told("ready")[0]["ports"] == {"http": port}


def test_an_answer_that_is_no_success_is_not_ready(bench: Bench) -> None:
    plan = bench.http(ready_of="http/no/such/place", ready_seconds=3.0)
    bench.stage(plan)
    assert plan.standing.status == "failed"
    assert f"not ready by http {plan.standing.ports['http']}/no/such/place within 3 s" in plan.standing.message


def test_a_port_that_another_program_has_is_not_taken_for_the_service(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        plan = bench.plan("exec sleep 600", ready_way="port", ready_of="http", ports={"http": port})
        bench.stage(plan)
    assert plan.standing.status == "failed"
    assert f"its port {port} is held by another program of user {os.geteuid()}" in plan.standing.message
    assert bench.told("port_taken")[0]["service"] == "s"
    assert not alive(plan)


@pytest.mark.parametrize("first", ["exec python3 {server} $1", "exec sleep 600"])
def test_a_chosen_port_that_another_program_took_meanwhile_is_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Whether the service then ends, or just waits while the other one answers."""
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        taken, free = foreign.getsockname()[1], ports.free_port()
        left = [taken, free]
        monkeypatch.setattr(ports, "free_port", lambda avoided=(): left.pop(0))
        server = first.format(server=bench.server)
        script = f"if [ $1 = {taken} ]; then {server}; fi; exec python3 {bench.server} $1"
        plan = bench.http(argv=("/bin/sh", "-c", script, "sh", "{port:http}"), ready_way="port", ready_of="http")
        bench.stage(plan)
    assert (plan.standing.status, plan.standing.ports) == ("ready", {"http": free})
    assert bench.told("port_taken")


def test_services_start_in_the_order_of_their_needs_and_others_beside_them(bench: Bench) -> None:
    slow = bench.plan("until [ -e ../free/ready ]; do sleep 0.02; done; : > ready; exec sleep 600", name="slow")
    front = bench.plan(f"[ -e ../slow/ready ] || exit 3; {STAYS}", name="front", needs=("slow",))
    later = bench.plan(f"[ -e ../front/ready ] || exit 3; {STAYS}", name="later", after=("front",))
    free = bench.plan(STAYS, name="free")
    plans = (later, front, slow, free)
    bench.stage(*plans)
    assert [plan.standing.status for plan in plans] == ["ready"] * 4


def test_a_service_whose_need_failed_is_not_started_and_says_why(bench: Bench) -> None:
    back = bench.plan("echo no licence; exit 7", name="back", required=False)
    front = bench.plan(STAYS, name="front", needs=("back",), required=False)
    bench.stage(front, back)
    assert front.standing.starts == 0
    assert front.standing.status == "failed"
    assert "it needs the service back, which does not run: exited 7" in front.standing.message


def test_what_comes_after_an_optional_one_that_failed_starts_all_the_same(bench: Bench) -> None:
    back = bench.plan("exit 7", name="back", required=False)
    front = bench.plan(STAYS, name="front", after=("back",))
    bench.stage(back, front)
    assert front.standing.status == "ready"


def test_the_stage_does_not_wait_once_a_required_service_failed(bench: Bench) -> None:
    slow = bench.plan("exec sleep 600", name="slow")
    broken = bench.plan("exit 1", name="broken")
    bench.stage(slow, broken)
    assert (slow.standing.status, broken.standing.status) == ("starting", "failed")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no licence; exit 7", ("exited 7 before it was ready", "it said last: no licence")),
        ("kill -9 $$", ("was ended by signal 9 before it was ready", "it said nothing")),
        ("exit 0", ("exited 0 before it was ready",)),
    ],
)
def test_a_service_that_ends_before_it_is_ready_has_failed_with_its_last_words(
    bench: Bench, script: str, words: tuple[str, ...]
) -> None:
    plan = bench.plan(script)
    bench.stage(plan)
    assert plan.standing.status == "failed"
    assert all(word in plan.standing.message for word in words), plan.standing.message
    assert (plan.state()["pid"], plan.standing.starts) == (None, 1)


@pytest.mark.parametrize("script", ["sleep 600 & exit 0", "setsid sleep 600 & sleep 0.2; exit 0"])
def test_a_service_that_goes_to_the_background_is_told_to_stay_and_ended(bench: Bench, script: str) -> None:
    plan = bench.plan(script)
    bench.stage(plan)
    assert plan.standing.status == "failed"
    assert "its command went to the background" in plan.standing.message
    assert "run it in the foreground" in plan.standing.message
    assert left_alone()


@pytest.mark.parametrize(
    "ready",
    [
        {"ready_way": "file", "ready_of": "ready"},
        {"ready_way": "command", "ready_argv": ("/bin/false",)},
        {"ready_way": "command", "ready_argv": ("/no/such/program",)},
        {"ready_way": "command", "ready_argv": ("/bin/sleep", "600")},
        {"ready_way": "port", "ready_of": "http", "ports": {"http": 0}},
    ],
)
def test_a_service_that_is_not_ready_in_time_has_failed_and_is_ended(bench: Bench, ready: dict[str, Any]) -> None:
    plan = bench.plan("echo waiting; exec sleep 600", ready_seconds=NEVER, **ready)
    bench.stage(plan)
    assert plan.standing.status == "failed"
    assert "within 0.3 s; it said last: waiting" in plan.standing.message
    assert not alive(plan)


def test_it_is_ended_with_its_own_signal(bench: Bench) -> None:
    # Not SIGINT: a shell cannot trap what was ignored when it began, as in a test run in the background.
    script = "trap ': > stopped; exit 0' USR1; while :; do sleep 0.05; done"
    bench.stage(bench.plan(script, ready_seconds=1.0, stop_signal="SIGUSR1", stop_seconds=60.0))
    assert bench.file("stopped").exists()


def test_one_that_ignores_its_signal_is_killed_with_all_its_children(bench: Bench) -> None:
    plan = bench.plan("trap '' TERM; setsid sleep 600 & wait", ready_seconds=NEVER, stop_seconds=0.1)
    bench.stage(plan)
    assert plan.standing.status == "failed"
    assert left_alone()


def test_the_journal_knows_it_before_and_after(bench: Bench) -> None:
    plan = bench.plan(STAYS, stop_signal="SIGUSR1", stop_seconds=3.0)
    bench.stage(plan, bench.plan("exit 1", name="broken", required=False))
    (entry,) = read_journal(bench.workspace.journal).processes
    assert entry.identity is not None
    assert (entry.identity.pid, entry.label) == (plan.standing.pid, "service s")
    assert (entry.stop_signal, entry.stop_seconds) == (signal.SIGUSR1, 3.0)


def test_a_signal_to_the_pilot_ends_the_waiting_and_leaves_the_service_to_the_journal(bench: Bench) -> None:
    plan = bench.plan(": > up; exec sleep 600")
    with woken_when(bench.file("up")) as wake, pytest.raises(Interrupted):
        bench.stage(plan, wake=wake)
    assert alive(plan)


def test_output_goes_to_a_log_of_its_own(bench: Bench) -> None:
    bench.stage(bench.plan(f"echo out; echo err >&2; {STAYS}"))
    assert bench.file("log.log").read_text() == "out\nerr\n"
    assert bench.file("log.log").stat().st_mode & 0o777 == 0o600


def test_it_has_a_directory_of_its_own_and_its_places_are_filled_in(bench: Bench) -> None:
    script = 'echo "$PWD|$DATA|{workspace}|$PATH|{host}" > told; : > ready; exec sleep 600'
    bench.stage(bench.plan(script, environment={"DATA": "{workspace}/data:{port:a}"}, ports={"a": 0, "b": 0}))
    directory = os.path.join(bench.workspace.services, "s")
    told = bench.file("told").read_text().split("|")
    assert told[0] == told[2] == directory
    assert told[1].startswith(f"{directory}/data:")
    assert told[1].rpartition(":")[2].isdigit()
    assert told[3:] == ["/usr/bin:/bin", "127.0.0.1\n"]


def test_a_program_that_does_not_exist_has_failed(bench: Bench) -> None:
    plan = bench.plan(argv=("/no/such/program",))
    bench.stage(plan)
    assert "/no/such/program could not be started" in plan.standing.message
    assert plan.standing.pid == 0
    assert read_journal(bench.workspace.journal).processes == []


def test_a_workspace_that_cannot_be_written_is_told(bench: Bench) -> None:
    os.rmdir(bench.workspace.services)
    Path(bench.workspace.services).write_text("")
    plan = bench.plan("exit 0")
    bench.stage(plan)
    assert "cannot be used" in plan.standing.message


def test_a_required_service_that_cannot_be_run_here_keeps_the_others_from_being_waited_for(bench: Bench) -> None:
    refused = ServicePlan(name="refused", standing={"status": "failed", "message": "it asks for 1 GPU"})
    slow = bench.plan("exec sleep 600", name="slow")
    bench.stage(slow, refused)
    assert (slow.standing.status, slow.standing.starts) == ("waiting", 0)
