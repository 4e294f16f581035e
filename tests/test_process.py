"""The one way to run a child: whatever the child does is data, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from pilot_agent import process
from pilot_agent.process import Interrupted, Result, Runner, run, start_resident
from pilot_agent.running import Child
from tests.wake_pipe import WakePipe

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
pytestmark = pytest.mark.usefixtures("each_kernel")
LONG_SECONDS = 60.0
"""A deadline no test waits for."""


def python(source: str, *, deadline_seconds: float = LONG_SECONDS, output_limit_bytes: int = 1 << 20) -> Result:
    """Run Python source in a child."""
    argv = [sys.executable, "-I", "-S", "-c", source]
    return run(argv, deadline_seconds=deadline_seconds, environment=ENVIRONMENT, output_limit_bytes=output_limit_bytes)


def shell(source: str, *, deadline_seconds: float = LONG_SECONDS) -> Result:
    """Run a shell's script in a child."""
    return run(["/bin/sh", "-c", source], deadline_seconds=deadline_seconds, environment=ENVIRONMENT)


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid: int) -> bool:
    """Whether a process ends; a signal that was sent takes a moment to do its work."""
    until = time.monotonic() + LONG_SECONDS
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_running(pid)


# ---- how a child ends --------------------------------------------------------------------------------------------


def test_a_child_that_ends_well_is_ok() -> None:
    result = shell("echo out; echo err >&2")
    assert result.ok
    assert (result.code, result.stdout, result.stderr) == (0, b"out\n", b"err\n")
    assert result.text == "out"


def test_an_exit_code_is_told_with_the_last_line_the_child_said() -> None:
    result = shell("echo first >&2; echo the reason >&2; exit 3")
    assert not result.ok
    assert result.code == 3
    assert result.explain() == "/bin/sh exited 3: the reason"


def test_a_signal_is_no_exit_code() -> None:
    result = shell("kill -SEGV $$")
    assert result.code is None
    assert result.signal == signal.SIGSEGV
    assert "was ended by signal 11" in result.explain()


@pytest.mark.parametrize(
    ("program", "error"), [("/nowhere/apptainer", "ENOENT"), ("no-such-program", "ENOENT"), ("/etc", "EACCES")]
)
def test_a_program_that_is_missing_is_data_and_no_exception(program: str, error: str) -> None:
    result = run([program, "--version"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT)
    assert not result.ok
    assert result.error == error
    assert result.explain() == f"{program} could not be started ({error})"


def test_a_file_that_is_no_program_is_data(tmp_path: Path) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(b"\x00\x01\x02")
    path.chmod(0o755)
    result = run([str(path)], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT)
    assert result.error == "ENOEXEC"


def test_a_directory_that_is_missing_is_data() -> None:
    result = run(["/bin/true"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT, directory="/nowhere")
    assert result.error == "ENOENT"


def test_an_argument_that_no_program_can_be_given_is_data() -> None:
    result = run(["/bin/true", "a\0b"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT)
    assert result.error == "EINVAL"


# ---- deadlines ---------------------------------------------------------------------------------------------------


def test_a_child_past_its_deadline_is_asked_to_end() -> None:
    result = shell("trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done", deadline_seconds=0.3)
    assert result.timed_out
    assert not result.ok
    assert result.text == "asked"
    assert result.code == 0


def test_a_child_that_ignores_the_request_is_killed() -> None:
    ignores = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
    result = python(f"{ignores}\nwhile True: time.sleep(60)", deadline_seconds=1.0)
    assert result.timed_out
    assert result.signal == signal.SIGKILL
    assert result.text == "deaf"
    # The time that it was allowed, not the longer one that it took to be ended.
    assert "did not end within 1.0 s" in result.explain()


def test_a_child_that_not_even_sigkill_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that sleeps in the kernel on a dead mount cannot be had here; one that gets no signal looks like it."""
    monkeypatch.setattr(Child, "signal_all", lambda child, number: None)
    monkeypatch.setattr(process, "KILL_AFTER_SECONDS", 0.05)
    monkeypatch.setattr(process, "GIVE_UP_AFTER_SECONDS", 0.05)
    result = shell("echo here; exec sleep 60", deadline_seconds=0.2)
    assert result.abandoned is not None
    try:
        assert is_running(result.abandoned)
        assert not result.ok
        assert result.timed_out
        assert result.text == "here"
        assert f"process {result.abandoned} sleeps in the kernel" in result.explain()
    finally:
        os.kill(result.abandoned, signal.SIGKILL)
        os.waitpid(result.abandoned, 0)


def test_leaving_the_runner_does_not_wait_for_ever_for_such_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Child, "signal_all", lambda child, number: None)
    monkeypatch.setattr(process, "GIVE_UP_AFTER_SECONDS", 0.05)
    with Runner() as runner:
        pid = runner.start(["/bin/sleep", "60"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT)
    assert isinstance(pid, int)
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# ---- what a child leaves -----------------------------------------------------------------------------------------


def test_grandchildren_end_with_the_child_that_ended_well() -> None:
    result = shell("sleep 600 & echo $!")
    assert result.ok
    assert ends(int(result.text))


def test_grandchildren_end_with_the_child_that_hung() -> None:
    result = shell("sleep 600 & echo $!; (trap '' TERM; sleep 600) & echo $!; wait", deadline_seconds=0.3)
    assert result.timed_out
    pids = [int(line) for line in result.text.splitlines()]
    assert len(pids) == 2
    assert all(ends(pid) for pid in pids)


def test_a_grandchild_that_keeps_the_pipes_does_not_keep_the_wait() -> None:
    """It holds standard output long after the child itself has ended."""
    result = shell("(trap '' TERM HUP; sleep 600) & echo done")
    assert result.ok
    assert result.text == "done"


def test_leaving_the_runner_ends_what_still_runs() -> None:
    with Runner() as runner:
        pid = runner.start(["/bin/sleep", "600"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT)
        assert isinstance(pid, int)
        assert is_running(pid)
    assert not is_running(pid)


# ---- output ------------------------------------------------------------------------------------------------------


def test_megabytes_of_output_are_read_and_only_the_limit_is_kept() -> None:
    source = "import sys; sys.stdout.write('x' * 5_000_000); sys.stdout.flush(); print('end', file=sys.stderr)"
    result = python(source, output_limit_bytes=1000)
    assert result.ok, "a child must not block on a pipe that nobody reads"
    assert result.stdout == b"x" * 1000
    assert result.stderr == b"end\n"
    assert result.truncated


def test_output_up_to_the_limit_is_not_called_truncated() -> None:
    result = python("print('x' * 999)", output_limit_bytes=1000)
    assert len(result.stdout) == 1000
    assert not result.truncated


def test_a_child_that_never_stops_printing_still_meets_its_deadline() -> None:
    result = run(["/usr/bin/yes"], deadline_seconds=0.3, environment=ENVIRONMENT, output_limit_bytes=100)
    assert result.timed_out
    assert result.stdout == b"y\n" * 50


def test_output_that_is_no_text_is_still_explained() -> None:
    result = python("import os; os.write(2, b'\\xff\\xfe broken'); os._exit(1)")
    assert "broken" in result.explain()
    assert result.stderr == b"\xff\xfe broken"


# ---- what a child is given ---------------------------------------------------------------------------------------


def test_standard_input_is_empty() -> None:
    assert shell("cat; readlink /proc/self/fd/0").text == "/dev/null"


def test_the_environment_is_exactly_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CONDOR_COLLECTOR_HOST", "poison")
    given = {"ONE": "1", "TWO": "ü"}
    result = run(["/usr/bin/env", "-0"], deadline_seconds=LONG_SECONDS, environment=given)
    found = dict(entry.split("=", 1) for entry in result.stdout.decode().split("\0") if entry)
    assert found == given


def test_the_directory_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    result = run(["/bin/pwd"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT, directory=str(tmp_path))
    assert result.text == str(tmp_path)


@pytest.mark.parametrize("leaves", [False, True])
def test_what_a_child_leaves_in_its_group_ends_with_it_unless_it_is_to_stay(leaves: bool) -> None:
    script = "sleep 600 > /dev/null 2>&1 & echo $!"
    result = run(["sh", "-c", script], deadline_seconds=60, environment=dict(os.environ), leaves_daemons=leaves)
    left = int(result.text)
    if leaves:
        assert is_running(left)
        os.kill(left, signal.SIGKILL)
    assert ends(left)


def test_every_child_has_a_session_and_a_group_of_its_own() -> None:
    result = python("import os; print(os.getpid() == os.getsid(0) == os.getpgid(0), os.getsid(0))")
    mine, session = result.text.split()
    assert mine == "True"
    assert int(session) != os.getsid(0)


def test_a_handler_of_the_agent_does_not_reach_the_child() -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        result = python("import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.text == "True"


def test_no_descriptor_of_the_agent_reaches_the_child(tmp_path: Path) -> None:
    with (tmp_path / "token").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        result = python("import os; print(sorted(os.listdir('/proc/self/fd')))")
    assert result.text == "['0', '1', '2', '3']", "3 is the listing itself"


ANSWER = "import sys, os; os.write(int(sys.argv[2]), open(sys.argv[1], 'rb').read().upper()); print('a log line')"


def give(content: bytes, source: str = ANSWER) -> Result:
    """Run Python source that is given content and an answer's descriptor."""
    with Runner() as runner:
        argv = [sys.executable, "-I", "-S", "-c", source, "{give}", "{answer}"]
        handle = runner.start(argv, deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT, give=content)
        assert isinstance(handle, int)
        return runner.wait(handle)


def test_what_is_given_can_be_read_and_the_answer_is_apart_from_the_output() -> None:
    result = give(b"question")
    assert (result.answer, result.stdout) == (b"QUESTION", b"a log line\n")


def test_megabytes_can_be_given_and_answered() -> None:
    """More than a pipe holds, in both directions."""
    content = b"x" * 700_000
    assert give(content).answer == content.upper()


def test_what_is_given_is_on_no_disk_and_gone_afterwards() -> None:
    result = give(b"secret", "import os, sys; os.write(int(sys.argv[2]), os.readlink(sys.argv[1]).encode())")
    assert result.answer == b"/memfd:given (deleted)"


def test_a_literal_brace_argument_is_left_alone_when_nothing_is_given() -> None:
    assert run(["/bin/echo", "{give}"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT).text == "{give}"


# ---- calls in a forked child -------------------------------------------------------------------------------------


def call(function: Callable[[], bytes], *, deadline_seconds: float = LONG_SECONDS) -> Result:
    """Run a function in a forked child."""
    with Runner() as runner:
        return runner.wait(runner.start_call(function, name="m:f", deadline_seconds=deadline_seconds))


def test_a_call_answers_with_what_it_returns() -> None:
    result = call(lambda: b"answer")
    assert result.ok
    assert result.answer == b"answer"
    assert result.argv == ("m:f",)


def test_a_call_that_raises_tells_why() -> None:
    def fails() -> bytes:
        raise KeyError("no such device")

    result = call(fails)
    assert result.code == 70
    assert result.explain() == "m:f exited 70: KeyError: 'no such device'"


def test_a_call_that_meets_broken_python_tells_where() -> None:
    def reads() -> bytes:
        compile("x = 1\nbroken(:", "plugin.py", "exec")
        return b""

    assert "SyntaxError: invalid syntax (plugin.py, line 2)" in call(reads).explain()


def test_a_call_that_leaves_has_no_answer() -> None:
    def leaves() -> bytes:
        os._exit(0)

    result = call(leaves)
    assert result.ok
    assert result.answer == b""


def test_a_call_that_calls_sys_exit_does_not_run_the_agents_exit_handlers() -> None:
    def leaves() -> bytes:
        sys.exit(0)

    assert call(leaves).code == 70


def test_a_call_that_crashes_is_data() -> None:
    def crashes() -> bytes:
        os.kill(os.getpid(), signal.SIGSEGV)
        return b"never"

    result = call(crashes)
    assert result.signal == signal.SIGSEGV
    assert result.answer == b""


def test_a_call_that_hangs_is_ended() -> None:
    def hangs() -> bytes:
        time.sleep(600)
        return b"never"

    result = call(hangs, deadline_seconds=0.2)
    assert result.timed_out
    assert result.signal == signal.SIGTERM


def test_a_call_has_no_input_and_none_of_the_agents_descriptors(tmp_path: Path) -> None:
    def look() -> bytes:
        return " ".join(f"{fd}={os.readlink(f'/proc/self/fd/{fd}')}" for fd in open_descriptors()).encode()

    with (tmp_path / "token").open("w"):
        found = dict(entry.split("=") for entry in call(look).answer.decode().split())
    assert sorted(found) == ["0", "1", "2", "3"]
    assert found["0"] == "/dev/null"
    assert all(target.startswith("pipe:") for number, target in found.items() if number != "0")


def open_descriptors() -> list[str]:
    """Descriptors that stay open after they were listed."""
    return [name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]


def test_what_a_call_prints_is_output_and_no_answer() -> None:
    def prints() -> bytes:
        print("printed")
        os.write(2, b"error\n")
        return b"answer"

    result = call(prints)
    assert (result.stdout, result.stderr, result.answer) == (b"printed\n", b"error\n", b"answer")


def test_text_the_agent_had_not_flushed_is_not_printed_by_the_child(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("the agent's own")
    assert call(lambda: b"").stdout == b""
    sys.stdout.flush()
    assert capfd.readouterr().out.count("the agent's own") == 1


# ---- interruption ------------------------------------------------------------------------------------------------


def test_a_wake_up_ends_the_wait_and_the_child() -> None:
    with WakePipe() as wake, Runner(wake) as runner:
        handle = runner.start(["/bin/sleep", "600"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT)
        assert isinstance(handle, int)
        wake.ring()
        with pytest.raises(Interrupted):
            runner.wait(handle)
    assert not is_running(handle)


def test_a_wake_up_that_came_before_the_start_counts() -> None:
    with WakePipe() as wake:
        wake.ring()
        with pytest.raises(Interrupted):
            run(["/bin/sleep", "600"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT, wake=wake)


ENDS_ITSELF = ["/bin/sh", "-c", "kill -TERM $$"]


def test_a_signal_that_ends_a_child_first_is_waited_for_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TOLD_TOO_SECONDS", LONG_SECONDS)
    with WakePipe() as wake:
        later = threading.Timer(0.05, wake.ring)
        later.start()
        with pytest.raises(Interrupted):
            run(ENDS_ITSELF, deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT, wake=wake)
        later.join()


def test_a_child_that_alone_was_ended_by_a_signal_is_told_as_such() -> None:
    with WakePipe() as wake:
        result = run(ENDS_ITSELF, deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT, wake=wake)
    assert (result.code, result.signal) == (None, signal.SIGTERM)


def test_a_wake_up_in_vain_does_not_end_the_wait() -> None:
    with WakePipe() as wake:
        wake.ring_in_vain()
        assert run(["/bin/true"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT, wake=wake).ok


def test_the_wake_up_stays_open_for_its_owner() -> None:
    with WakePipe() as wake:
        run(["/bin/true"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT, wake=wake)
        wake.ring()
        assert os.read(wake.fileno(), 1) == b"!"


# ---- many at once ------------------------------------------------------------------------------------------------


def test_many_children_at_once_each_get_their_own_result() -> None:
    """So many that the descriptors of the later ones are well above any small number."""
    with Runner() as runner:
        expected = {}
        for number in range(60):
            argv = ["/bin/sh", "-c", f"echo {number}; exit {number}"]
            expected[runner.start(argv, deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT)] = number
        ended = dict(runner.wait_any() for _ in range(60))
    assert {handle: (result.code, result.text) for handle, result in ended.items()} == {
        handle: (number, str(number)) for handle, number in expected.items()
    }


def test_many_calls_at_once_each_get_their_own_answer() -> None:
    with Runner() as runner:
        expected = {}
        for number in range(60):
            answer = str(number).encode()
            handle = runner.start_call(partial(bytes, answer), name="m:f", deadline_seconds=LONG_SECONDS)
            expected[handle] = answer
        ended = dict(runner.wait_any() for _ in range(60))
    assert {handle: result.answer for handle, result in ended.items()} == expected


def test_a_call_finds_its_streams_wherever_their_descriptors_lie(tmp_path: Path) -> None:
    """The ends of its pipes may have any number, also those that the child puts something else on."""

    def writes() -> bytes:
        os.write(1, b"out")
        os.write(2, b"err")
        return b"answer"

    held = []
    try:
        for _ in range(40):
            held.append(os.open(tmp_path, os.O_RDONLY))
            result = call(writes)
            assert (result.stdout, result.stderr, result.answer) == (b"out", b"err", b"answer")
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_one_that_hangs_does_not_hold_up_the_others() -> None:
    with Runner() as runner:
        slow = runner.start(["/bin/sleep", "600"], deadline_seconds=0.4, environment=ENVIRONMENT)
        quick = runner.start(["/bin/true"], deadline_seconds=LONG_SECONDS, environment=ENVIRONMENT)
        first, second = runner.wait_any(), runner.wait_any()
    assert (first[0], second[0]) == (quick, slow)
    assert first[1].ok
    assert second[1].timed_out


def test_waiting_for_nothing_is_a_mistake_of_the_caller() -> None:
    with Runner() as runner, pytest.raises(ValueError, match="no child is running"):
        runner.wait_any()


# ---- residents ---------------------------------------------------------------------------------------------------


def test_a_resident_goes_on_in_a_session_of_its_own_with_its_output_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    log = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        argv = ["/bin/sh", "-c", "echo out; echo err >&2; /usr/bin/env; exec /bin/sleep 600"]
        pid = start_resident(argv, environment={"ONLY": "this"}, output=log)
    finally:
        os.close(log)
    try:
        assert os.getsid(pid) == pid
        while is_running(pid) and "ONLY" not in path.read_text():
            time.sleep(0.01)
        assert path.read_text().startswith("out\nerr\n")
        assert is_running(pid)
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_resident_is_given_the_descriptors_it_is_meant_to_have() -> None:
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        argv = [sys.executable, "-I", "-S", "-c", f"import os; os.write({writer}, b'ready')"]
        pid = start_resident(argv, environment=ENVIRONMENT, output=null, pass_descriptors=[writer])
        os.waitpid(pid, 0)
        os.set_blocking(reader, False)
        assert os.read(reader, 100) == b"ready"
    finally:
        for descriptor in (reader, writer, null):
            os.close(descriptor)


def test_a_resident_that_cannot_start_raises_an_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        start_resident(["/nowhere/condor_master"], environment=ENVIRONMENT, output=2)


def test_the_programs_these_tests_rely_on_are_there() -> None:
    assert all(stat.S_ISREG(os.stat(path).st_mode) for path in ("/usr/bin/yes", "/usr/bin/env"))


def test_a_program_can_be_run_from_a_descriptor_that_it_keeps(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/echo\n")
    script.chmod(0o700)
    descriptor = os.open(script, os.O_RDONLY | os.O_CLOEXEC)
    script.unlink()
    path = f"/proc/self/fd/{descriptor}"
    assert run([path], deadline_seconds=10, environment={}, keep=(descriptor,)).text == path
    assert run([path], deadline_seconds=10, environment={}).error == "ENOENT"
    os.close(descriptor)


def test_a_call_that_was_forked_just_now_is_ended_too() -> None:
    def sleep() -> bytes:
        time.sleep(60)
        return b""

    for _ in range(60):
        with Runner() as runner:
            handle = runner.start_call(sleep, name="sleeps", deadline_seconds=60)
        with pytest.raises(ProcessLookupError):
            os.kill(handle, 0)
