"""A child in the foreground: streams, exit codes, signals, and the terminal with its keys."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.foreground import Ended, run_in_foreground

ROOT = str(Path(__file__).parents[1])
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
RUN = f"""
import sys
sys.path.insert(0, {ROOT!r})
from pilot_agent.foreground import run_in_foreground
ended = run_in_foreground(sys.argv[1:], environment={ENVIRONMENT!r}, directory="/")
print("ended", ended.exit_code, flush=True)
"""
PATIENCE_SECONDS = 60


def words(script: str) -> list[str]:
    return [sys.executable, "-I", "-B", "-c", RUN, "/bin/sh", "-c", script]


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_exit_code_is_what_a_shell_would_return(script: str, code: int) -> None:
    ended = run_in_foreground(["sh", "-c", script], environment=ENVIRONMENT, directory="/")
    assert ended.exit_code == code


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/etc/passwd", 126), ("/etc", 126)])
def test_a_program_that_cannot_be_run_is_an_answer(program: str, code: int) -> None:
    ended = run_in_foreground([program], environment=ENVIRONMENT, directory="/")
    assert ended.error
    assert ended.exit_code == code


def test_a_directory_that_is_not_there_is_an_answer() -> None:
    assert run_in_foreground(["sh"], environment=ENVIRONMENT, directory="/missing") == Ended(error="ENOENT")


def test_standard_streams_are_the_callers_and_nothing_else_is() -> None:
    done = subprocess.run(
        words("cat; pwd; echo error >&2; env; ls /proc/self/fd | wc -l"),
        input="given\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**ENVIRONMENT, "FOO": "the caller's"},
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["given", "/"]
    assert "error\n" in done.stderr
    assert "the caller's" not in done.stdout
    # ls itself has the listing open.
    assert "4" in lines
    assert lines[-1] == "ended 0"


@pytest.mark.parametrize("name", ["PIPE", "XFSZ", "QUIT", "HUP"])
def test_a_program_ends_by_a_signal_that_python_or_the_caller_ignores(name: str) -> None:
    ignoring = f"import signal; signal.signal(signal.SIG{name}, signal.SIG_IGN)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", ignoring + RUN, "/bin/sh", "-c", f"kill -{name} $$; echo survived"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.stdout == f"ended {128 + getattr(signal, f'SIG{name}')}\n"


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_a_signal_reaches_the_program(name: str) -> None:
    script = f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(words(script), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert process.stdout.read().splitlines() == [f"got {name}", "ended 3"]


def test_what_the_program_leaves_in_its_group_ends_with_it() -> None:
    done = subprocess.run(
        words("sleep 600 & echo $!"), capture_output=True, text=True, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL
    )
    pid = int(done.stdout.splitlines()[0])
    end = time.monotonic() + PATIENCE_SECONDS
    while os.path.exists(f"/proc/{pid}") and not _is_zombie(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}") or _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], argv)
        self.said = b""

    def expect(self, text: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while text.encode() not in self.said:
            assert time.monotonic() < end, f"{text!r} did not come: {self.said!r}"
            try:
                self.said += os.read(self.descriptor, 4096)
            except OSError:
                pytest.fail(f"it ended without {text!r}: {self.said!r}")
        self.said = self.said.partition(text.encode())[2]

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def close(self) -> None:
        os.close(self.descriptor)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal() -> Iterator[list[Terminal]]:
    started: list[Terminal] = []
    yield started
    for one in started:
        one.close()


def test_on_a_terminal_the_program_is_in_the_foreground_and_gets_the_keys(terminal: list[Terminal]) -> None:
    # A trapped signal ends a `read` of some shells without a line.
    script = "trap 'echo got INT' INT; echo ready; until read a; do :; done; echo read $a; read b; echo read $b"
    one = Terminal(words(script))
    terminal.append(one)
    one.expect("ready")
    one.type("\x03")
    one.expect("got INT")
    one.type("first\n")
    one.expect("read first")
    one.type("second\n")
    one.expect("read second")
    one.expect("ended 0")


def test_ctrl_z_gives_the_terminal_back_and_fg_goes_on(terminal: list[Terminal]) -> None:
    one = Terminal(["/bin/bash", "--norc", "--noprofile", "-i"])
    terminal.append(one)
    inner = "echo re''ady; read a; echo read $a; exit 4"
    quoted = " ".join(f"'{word}'" for word in [sys.executable, "-I", "-B", "-c"])
    script = RUN.replace("'", '"').strip().replace("\n", "; ")
    one.type(f"{quoted} '{script}' /bin/sh -c \"{inner.replace('$', chr(92) + '$')}\"\n")
    one.expect("ready")
    one.type("\x1a")
    one.expect("Stopped")
    one.type("echo sh''ell\n")
    one.expect("shell")
    one.type("fg\n")
    one.type("typed\n")
    one.expect("read typed")
    one.expect("ended 4")
