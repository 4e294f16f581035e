"""The program that starts the server and tells why it did not start; a stand-in says what the real one said."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pilot_triton
import pytest

LAUNCH = Path(pilot_triton.__file__).with_name("launch.sh")
FAILED = r"""
I1122 02:27:32.700000 17 model_lifecycle.cc:472] "loading: wrong:1"
E1122 02:27:33.333435 17 model_lifecycle.cc:642] "failed to load 'wrong' version 1: Internal: ModuleNotFoundError: No module named 'a_library'\n\nAt:\n  /mnt/wrong/1/model.py(1): <module>\n"
I1122 02:27:33.333500 17 model_lifecycle.cc:777] "failed to load 'wrong'"
error: creating server: Internal - failed to load all models
"""  # noqa: E501


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The service's directory."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def server(tmp_path: Path, script: str) -> str:
    """A program in the server's place."""
    path = tmp_path / "server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def launch(home: Path, program: str, *arguments: str, said_before: str = "") -> subprocess.Popen[bytes]:
    """Start it as the pilot does: what it says goes to the end of a file."""
    with (home / "log").open("ab") as log:
        log.write(said_before.encode())
        log.flush()
        return subprocess.Popen(
            ["sh", str(LAUNCH), program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
            start_new_session=True,
        )


def last_line(home: Path) -> str:
    """The last thing that was said."""
    return (home / "log").read_text().splitlines()[-1]


def test_a_failed_start_ends_with_the_models_that_did_not_load_and_why(home: Path, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(FAILED)
    assert launch(home, server(tmp_path, f"cat {tmp_path}/said >&2; exit 1")).wait(60) == 1
    wanted = "failed to load 'wrong' version 1: Internal: ModuleNotFoundError: No module named 'a_library'"
    assert last_line(home) == f"triton: the server exited 1: {wanted}"


def test_what_an_earlier_start_said_is_not_taken_for_the_reason(home: Path, tmp_path: Path) -> None:
    program = server(tmp_path, "echo 'error: creating server: Internal - something else'; exit 1")
    before = f"triton: starting {program} \n{FAILED}"
    assert launch(home, program, said_before=before).wait(60) == 1
    assert last_line(home) == "triton: the server exited 1: creating server: Internal - something else"


def test_a_server_that_says_nothing_is_told_as_such(home: Path, tmp_path: Path) -> None:
    assert launch(home, server(tmp_path, "exit 7")).wait(60) == 7
    assert last_line(home) == "triton: the server exited 7: it did not say why"


def test_an_image_without_the_server_is_told_as_such(home: Path) -> None:
    assert launch(home, "no-such-server").wait(60) == 3
    assert last_line(home).startswith("triton: the image has no tritonserver, neither on PATH (/usr/bin:/bin)")


def test_a_server_that_was_killed_is_told_with_the_signal(home: Path, tmp_path: Path) -> None:
    assert launch(home, server(tmp_path, "kill -KILL $$")).wait(60) == 128 + signal.SIGKILL
    assert last_line(home) == "triton: the server was ended by signal 9"


def test_it_hands_the_signal_on_and_ends_when_the_server_has_ended(home: Path, tmp_path: Path) -> None:
    up = tmp_path / "up"
    os.mkfifo(up)
    ending = "sleep 0.2; echo ended in order: $1; exit 0"
    program = server(tmp_path, f"trap '{ending}' TERM\n: > {up}\nwhile :; do sleep 0.1; done")
    running = launch(home, program, "word with spaces")
    up.read_bytes()
    running.terminate()
    assert running.wait(60) == 0
    assert last_line(home) == "ended in order: word with spaces"
