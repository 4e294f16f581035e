"""A service is started, waited for in the way it declares, and ended when it does not become ready."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot_agent.hookspecs import Readiness, Service
from pilot_agent.model import ServiceState
from pilot_agent.process import Interrupted
from pilot_agent.services import start
from pilot_agent.services.start import start_service
from pilot_agent.workspace import Workspace
from tests.wake_pipe import WakePipe

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
pytestmark = pytest.mark.usefixtures("each_kernel")
PATIENCE = 30.0
NEVER = 0.3


class Stage:
    """A workspace, and every service that was started in it."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "pilot").mkdir()
        self.workspace = Workspace(str(tmp_path / "pilot"))
        self.workspace.create()
        self.pids: list[int] = []

    def start(self, script: str, *, name: str = "s", wake: Any = None, **fields: Any) -> ServiceState:
        service = Service(name=name, command=("/bin/sh", "-c", script), **fields)
        return start_service(service, self.workspace, ENVIRONMENT, wake, self.pids.append)

    def file(self, name: str) -> Path:
        return Path(self.workspace.services) / "s" / name

    def alive(self) -> bool:
        return any(psutil.pid_exists(pid) for pid in self.pids)

    def end(self) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.end()


def ready_by_file(seconds: float = PATIENCE) -> Readiness:
    return Readiness(file="ready", timeout_seconds=seconds)


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


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


def test_a_service_is_ready_when_its_file_appears(stage: Stage) -> None:
    state = stage.start("sleep 0.1; : > ready; exec sleep 60", readiness=ready_by_file(), attributes={"Up": True})
    assert state.status == "ready"
    assert state.attributes == {"Up": True}
    assert [state.pid] == stage.pids
    assert state.ready_after_seconds is not None
    assert stage.alive()


def test_a_service_is_ready_when_its_port_accepts(stage: Stage) -> None:
    with listening() as port:
        state = stage.start("exec sleep 60", readiness=Readiness(port=port, timeout_seconds=PATIENCE))
    assert state.status == "ready"
    assert f"port {port}" in state.message


def test_a_service_is_ready_when_its_command_exits_zero(stage: Stage) -> None:
    command = ("/bin/sh", "-c", "test -e {workspace}/up")
    state = stage.start(
        "sleep 0.1; : > up; exec sleep 60", readiness=Readiness(command=command, timeout_seconds=PATIENCE)
    )
    assert state.status == "ready"


def test_a_service_that_declares_nothing_is_ready_when_it_stays_alive(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "ALIVE_SECONDS", 0.1)
    assert stage.start("exec sleep 60").status == "ready"


def test_a_service_that_declares_nothing_and_dies_is_failed(stage: Stage) -> None:
    state = stage.start("echo no licence; exit 7")
    assert state.status == "failed"
    assert "exited 7" in state.message
    assert "no licence" in state.message
    assert state.pid is None


def test_a_service_that_a_signal_ended_says_which(stage: Stage) -> None:
    assert "signal 9" in stage.start("kill -9 $$", readiness=ready_by_file()).message


@pytest.mark.parametrize(
    "readiness",
    [
        ready_by_file(NEVER),
        Readiness(command=("/bin/false",), timeout_seconds=NEVER),
        Readiness(command=("/no/such/program",), timeout_seconds=NEVER),
        Readiness(command=("/bin/sleep", "60"), timeout_seconds=NEVER),
    ],
)
def test_a_service_that_is_not_ready_in_time_is_failed_and_ended(stage: Stage, readiness: Readiness) -> None:
    state = stage.start("echo waiting; exec sleep 60", readiness=readiness)
    assert state.status == "failed"
    assert "within 0.3 s" in state.message
    assert "waiting" in state.message
    assert not stage.alive()


def test_a_port_on_which_nobody_listens_is_not_ready(stage: Stage) -> None:
    with listening() as port:
        pass
    state = stage.start("exec sleep 60", readiness=Readiness(port=port, timeout_seconds=NEVER))
    assert state.status == "failed"
    assert not stage.alive()


def test_it_is_ended_with_its_own_signal(stage: Stage) -> None:
    # Not SIGINT: a shell cannot trap what was ignored when it began, as in a test run in the background.
    state = stage.start(
        "trap ': > stopped; exit 0' USR1; : > up; while :; do sleep 0.05; done",
        readiness=ready_by_file(1.0),
        stop_signal="SIGUSR1",
        stop_seconds=PATIENCE,
    )
    assert state.status == "failed"
    assert stage.file("stopped").exists()


def test_one_that_ignores_its_signal_is_killed_with_all_its_children(stage: Stage) -> None:
    stage.start("trap '' TERM; sleep 60 & wait", readiness=ready_by_file(NEVER), stop_seconds=0.1)
    assert not stage.alive()


def test_the_caller_knows_the_process_before_it_is_ready(stage: Stage) -> None:
    stage.start("exit 1", readiness=ready_by_file())
    assert len(stage.pids) == 1


def test_a_signal_to_the_pilot_ends_the_waiting_and_leaves_the_service_to_the_journal(stage: Stage) -> None:
    with woken_when(stage.file("up")) as wake, pytest.raises(Interrupted):
        stage.start(": > up; exec sleep 60", readiness=ready_by_file(), wake=wake)
    assert stage.alive()


def test_output_goes_to_a_log_of_its_own(stage: Stage) -> None:
    stage.start("echo out; echo err >&2; : > ready; exec sleep 60", readiness=ready_by_file())
    assert stage.file("log").read_text() == "out\nerr\n"
    assert stage.file("log").stat().st_mode & 0o777 == 0o600


def test_it_has_a_directory_of_its_own_and_its_path_is_filled_in(stage: Stage) -> None:
    script = 'echo "$PWD|$DATA|{workspace}|$PATH|$HOME" > told; : > ready; exec sleep 60'
    stage.start(script, environment={"DATA": "{workspace}/data"}, readiness=Readiness(file="{workspace}/ready"))
    directory = os.path.join(stage.workspace.services, "s")
    assert stage.file("told").read_text() == f"{directory}|{directory}/data|{directory}|/usr/bin:/bin|\n"


def test_a_program_that_does_not_exist_is_failed(stage: Stage) -> None:
    service = Service(name="s", command=("/no/such/program",))
    state = start_service(service, stage.workspace, ENVIRONMENT, None, stage.pids.append)
    assert state.status == "failed"
    assert "/no/such/program could not be started" in state.message
    assert stage.pids == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "-x"])
def test_a_name_that_is_no_directory_is_refused(stage: Stage, name: str) -> None:
    state = stage.start("exit 0", name=name)
    assert state.status == "failed"
    assert "no name for a directory" in state.message


def test_a_workspace_that_cannot_be_written_is_told(stage: Stage) -> None:
    os.rmdir(stage.workspace.services)
    Path(stage.workspace.services).write_text("")
    state = stage.start("exit 0")
    assert state.status == "failed"
    assert "cannot be used" in state.message
