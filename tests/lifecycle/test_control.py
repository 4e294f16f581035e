"""The control socket of a real guardian and keeper: who may ask, what they get, and what nobody can do with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle.control import ControlSocket, ask, descends
from tests.lifecycle.scenario import OBEDIENT_MASTER, Pilot, wait_until

NAME = "control.sock"
ROOT = Path(__file__).parents[2]


def asked(pilot: Pilot, **request: Any) -> dict[str, Any]:
    """The answer of a pilot."""
    return ask(str(pilot.workspace / "private"), NAME, request, 20)


def standing(pilot: Pilot) -> dict[str, Any]:
    """The pilot's status."""
    return asked(pilot, command="status")


def running(pilot: Pilot, script: str = OBEDIENT_MASTER, **changes: Any) -> None:
    """Start a pilot whose keeper has begun."""
    pilot.plan(script, **changes)
    pilot.start()
    pilot.running()
    wait_until(lambda: standing(pilot)["stage"] == "run", "the keeper told the guardian")


def with_job(pilot: Pilot, seconds: float) -> str:
    """A condor_master with one starter that ends after so many seconds."""
    starter = pilot.directory / "condor_starter"
    starter.write_bytes(Path("/bin/sleep").read_bytes())
    starter.chmod(0o755)
    return f"setsid {starter} {seconds} & {OBEDIENT_MASTER}"


def end_the_job(pilot: Pilot) -> None:
    """End the starter of ``with_job``."""
    starter = str(pilot.directory / "condor_starter")
    for pid in pilot.processes():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe") == starter:
                os.kill(pid, signal.SIGTERM)


def test_the_status_says_how_the_pilot_stands(pilot: Pilot) -> None:
    deadline = time.time() + 500
    times = {"deadline": deadline, "budget_seconds": 12, "vacate_seconds": 0.5}
    running(pilot, with_job(pilot, 600), time=times)
    wait_until(lambda: standing(pilot)["jobs_running"] == 1, "the job is counted")
    status = standing(pilot)
    assert status["schema"] == "pilot-agent/status/1"
    assert status["id"] == "test"
    assert status["workspace"] == str(pilot.workspace)
    assert status["output"] == str(pilot.output)
    assert status["deadline"] == deadline
    assert 0 < status["left_seconds"] <= 500
    assert not status["draining"]
    assert status["events"][-1]["event"] == "condor.started"


def test_stop_ends_the_pilot_as_the_signal_does(pilot: Pilot) -> None:
    running(pilot)
    asked(pilot, command="stop")
    assert pilot.wait() == 128 + signal.SIGTERM
    assert "pilot.stopping" in pilot.event_names()
    assert pilot.nothing_left()


def test_a_fast_stop_gives_no_time(pilot: Pilot) -> None:
    running(pilot, 'trap "" TERM; ' + OBEDIENT_MASTER.replace("TERM ", ""), time={"vacate_seconds": 60})
    asked(pilot, command="stop", fast=True)
    assert pilot.wait() == 128 + signal.SIGQUIT
    assert pilot.nothing_left()


@pytest.mark.parametrize("way", ["socket", "signal"])
def test_draining_waits_for_the_running_job_and_ends_with_0(pilot: Pilot, way: str) -> None:
    running(pilot, with_job(pilot, 600))
    if way == "socket":
        assert asked(pilot, command="drain")["draining"]
    else:
        pilot.send(signal.SIGUSR1)
    wait_until(lambda: standing(pilot)["stage"] == "drain", "the keeper drains")
    assert standing(pilot)["not_accepting"] == ["draining"]
    assert standing(pilot)["jobs_running"] == 1
    end_the_job(pilot)
    assert pilot.wait() == 0
    names = pilot.event_names()
    assert names.index("pilot.draining") < names.index("pilot.drained") < names.index("pilot.ending")
    assert pilot.report()["outcome"] == {"status": "ok", "failure": None}
    assert pilot.nothing_left()


def test_a_draining_pilot_can_still_be_stopped(pilot: Pilot) -> None:
    running(pilot, with_job(pilot, 600))
    asked(pilot, command="drain")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_usr2_puts_the_status_into_the_log(pilot: Pilot) -> None:
    running(pilot)
    pilot.send(signal.SIGUSR2)
    wait_until(lambda: "pilot.status" in pilot.event_names(), "the status is in the event log")
    wait_until(lambda: b"stage run" in (pilot.directory / "stderr").read_bytes(), "a line is on standard error")


def test_a_hangup_does_not_end_a_pilot(pilot: Pilot) -> None:
    running(pilot)
    pilot.send(signal.SIGHUP)
    pilot.send(signal.SIGUSR2)
    wait_until(lambda: "pilot.status" in pilot.event_names(), "it lives on")
    assert "pilot.ending" not in pilot.event_names()


def test_a_suspended_keeper_says_so_and_reports_it(pilot: Pilot) -> None:
    running(pilot)
    os.kill(pilot.main_pid, signal.SIGSTOP)
    time.sleep(12)
    os.kill(pilot.main_pid, signal.SIGCONT)
    wait_until(lambda: "pilot.suspended" in pilot.event_names(), "the suspension is noticed")
    assert standing(pilot)["suspended_seconds"] >= 3
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert [line for line in pilot.report()["timeline"] if line["what"] == "suspended"]


def test_a_task_is_not_blamed_for_time_in_which_all_stood_still(pilot: Pilot) -> None:
    task = {"name": "slow", "argv": ["/bin/sh", "-c", "sleep 15; echo '{}'"], "environment": pilot.environment,
            "period_seconds": 600, "timeout_seconds": 17, "on_failure": "report"}  # fmt: skip
    running(pilot, periodics=[task])
    frozen = [pid for pid in pilot.processes() if pid != pilot.guardian.pid]  # type: ignore[union-attr]
    for pid in frozen:
        with contextlib.suppress(ProcessLookupError):  # its master's children live for a moment
            os.kill(pid, signal.SIGSTOP)
    time.sleep(12)
    for pid in reversed(frozen):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "pilot.suspended" in pilot.event_names(), "the suspension is noticed")
    time.sleep(8)
    assert "periodic.failed" not in pilot.event_names()


CLIENT = """
import sys
sys.path.insert(0, sys.argv[1])
from pilot_agent.lifecycle.control import ask
try:
    print(ask(sys.argv[2], "control.sock", {"command": "stop"}, 5))
except OSError as error:
    print("refused", error.errno)
"""


def test_what_the_pilot_itself_runs_is_refused(pilot: Pilot) -> None:
    client = pilot.directory / "client.py"
    client.write_text(CLIENT)
    words = f"{sys.executable} {client} {ROOT} {pilot.workspace}/private"
    answer = pilot.directory / "answer"
    running(pilot, f"(sleep 1; exec setsid {words}) > {answer}.new 2>&1; mv {answer}.new {answer}; {OBEDIENT_MASTER}")
    wait_until(answer.exists, "the client got its answer")
    assert answer.read_text() == "refused 1\n"
    assert "pilot.stopping" not in pilot.event_names()


def test_the_socket_is_for_the_account_alone(pilot: Pilot) -> None:
    running(pilot)
    assert stat.S_IMODE((pilot.workspace / "private" / NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("packet", [b"", b"stop", b"[]", b'"stop"', b"{", b'{"command": ["stop"]}', b"[" * 4000])
def test_a_request_that_is_none_does_nothing(pilot: Pilot, packet: bytes) -> None:
    running(pilot)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(pilot.workspace / "private" / NAME))
        connection.send(packet)
        connection.settimeout(20)
        content = connection.recv(65536)
    assert content == b"" or "error" in json.loads(content)
    assert standing(pilot)["stage"] == "run"


def test_connections_that_say_nothing_are_dropped_and_hold_nobody_up(pilot: Pilot) -> None:
    running(pilot)
    silent = []
    for _ in range(7):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(pilot.workspace / "private" / NAME))
        silent.append(connection)
    assert standing(pilot)["stage"] == "run"
    for connection in silent:
        connection.settimeout(20)
        assert connection.recv(10) == b""
        connection.close()


def test_a_path_longer_than_a_socket_address_will_do(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    body = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pilot_agent.lifecycle.control import ask\n"
        "print(ask(sys.argv[2], 'control.sock', {'n': 1}, 20))"
    )
    control = ControlSocket(str(deep), NAME, lambda request: {"heard": request})
    # A child of this process would be refused as a job is, so the two sides change places through a fork.
    child = os.fork()
    if child == 0:
        while True:
            control.serve()
            time.sleep(0.01)
    try:
        done = subprocess.run(
            [sys.executable, "-c", body, ROOT, deep], capture_output=True, text=True, check=False, timeout=60
        )
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        control.close()
    assert done.stdout == "{'heard': {'n': 1}}\n", done.stderr
    assert not (deep / NAME).exists()


def test_ancestors_are_told_from_strangers() -> None:
    assert descends(os.getpid(), os.getpid())
    assert descends(os.getpid(), os.getppid())
    assert not descends(os.getppid(), os.getpid())
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    assert descends(child.pid, os.getpid()), "of one that has ended nobody knows"


def test_where_no_pilot_is_the_caller_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(str(tmp_path), NAME, {}, 1)
    with pytest.raises(FileNotFoundError):
        ask(str(tmp_path / "missing"), NAME, {}, 1)


def test_a_pilot_that_is_resumed_answers_where_its_killed_guardian_did(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as killed:
        killed.bind(str(tmp_path / "control.sock"))
    listening = ControlSocket(str(tmp_path), "control.sock", lambda request: request)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.connect(str(tmp_path / "control.sock"))
    listening.close()
    assert not (tmp_path / "control.sock").exists()
