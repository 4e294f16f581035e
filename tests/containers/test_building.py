"""A build: its output comes as it is said, and nothing of it outlives it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.containers.building import Built, build_command, run_build
from pilot_agent.process import Interrupted
from tests.wake_pipe import WakePipe

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
pytestmark = pytest.mark.usefixtures("each_kernel")
PATIENCE_SECONDS = 60


@pytest.fixture
def wake() -> Iterator[WakePipe]:
    with WakePipe() as pipe:
        yield pipe


def build(script: str, wake: WakePipe, directory: Path, *, seconds: float = PATIENCE_SECONDS) -> tuple[Built, bytes]:
    passed: list[bytes] = []
    built = run_build(
        ["/bin/sh", "-c", script],
        environment=ENVIRONMENT,
        directory=str(directory),
        deadline_seconds=seconds,
        pass_on=passed.append,
        wake=wake,
    )
    return built, b"".join(passed)


def test_output_of_both_kinds_is_passed_on_and_its_end_kept(wake: WakePipe, tmp_path: Path) -> None:
    built, passed = build("echo out; echo error >&2; pwd; exit 3", wake, tmp_path)
    assert passed.decode() == f"out\nerror\n{tmp_path}\n"
    assert built == Built(3, passed.decode())


def test_only_the_end_of_a_long_output_is_kept(wake: WakePipe, tmp_path: Path) -> None:
    built, passed = build("yes line | head -n 100000; echo last", wake, tmp_path)
    assert passed.endswith(b"last\n")
    assert len(passed) > len(built.said)
    assert built.said.endswith("last\n")


def test_at_the_deadline_the_whole_session_ends(wake: WakePipe, tmp_path: Path) -> None:
    built, passed = build("echo $$; sleep 600 & echo $!; wait", wake, tmp_path, seconds=1)
    assert built.code is None
    assert all(_gone(int(word)) for word in passed.split())


def test_a_build_that_never_stops_talking_still_meets_its_deadline(wake: WakePipe, tmp_path: Path) -> None:
    built, _ = build("exec yes line", wake, tmp_path, seconds=1)
    assert built.code is None
    assert built.said.endswith("line\n")


def test_a_build_that_ignores_the_signal_ends_as_well(
    wake: WakePipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilot_agent.containers.building.KILL_AFTER_SECONDS", 0.2)
    built, passed = build("trap '' TERM; echo $$; while :; do sleep 0.1; done", wake, tmp_path, seconds=1)
    assert built.code is None
    assert _gone(int(passed.split()[0]))


def test_a_wake_up_in_vain_does_not_end_a_build(wake: WakePipe, tmp_path: Path) -> None:
    wake.ring_in_vain()
    assert build("sleep 0.2; echo done", wake, tmp_path)[0] == Built(0, "done\n")


def test_a_build_ends_when_the_pilot_is_told_to_stop(wake: WakePipe, tmp_path: Path) -> None:
    timer = threading.Timer(0.2, wake.ring)
    timer.start()
    with pytest.raises(Interrupted):
        build("echo $$ > pid; exec sleep 600", wake, tmp_path)
    timer.join()
    assert _gone(int((tmp_path / "pid").read_text()))


def test_a_process_that_keeps_the_output_open_does_not_hold_the_end(wake: WakePipe, tmp_path: Path) -> None:
    built, passed = build("setsid sleep 5 & echo done", wake, tmp_path)
    assert (built.code, passed) == (0, b"done\n")


def test_a_program_that_is_not_there_is_an_error(wake: WakePipe, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_build(
            ["/no/such/program"],
            environment=ENVIRONMENT,
            directory=str(tmp_path),
            deadline_seconds=1,
            pass_on=lambda chunk: None,
            wake=wake,
        )


def test_no_path_is_taken_for_an_option() -> None:
    words = build_command("/usr/bin/apptainer", "/a/--force", "/b/-x.def", sandbox=True)
    assert words == ["/usr/bin/apptainer", "build", "--sandbox", "/a/--force", "/b/-x.def"]


def _gone(pid: int) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False
