"""A process is known by more than its number."""

from __future__ import annotations

import os
import subprocess

from pilot_agent.lifecycle.identity import Identity, identify, read_stat, still_same


def test_a_running_process_is_the_same_until_it_ends() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        identity = identify(child.pid)
        assert identity is not None
        assert still_same(identity)
        assert still_same(Identity.from_json(identity.to_json()))
        child.kill()
    assert not still_same(identity)


def test_a_zombie_no_longer_counts() -> None:
    child = subprocess.Popen(["true"])
    identity = identify(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity is None or not still_same(identity)
    child.wait()


def test_the_same_number_with_another_start_boot_or_namespace_is_a_stranger() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert not still_same(Identity(own.pid, own.start_ticks + 1, own.boot_id, own.pid_namespace))
    assert not still_same(Identity(own.pid, own.start_ticks, "another boot", own.pid_namespace))
    assert not still_same(Identity(own.pid, own.start_ticks, own.boot_id, own.pid_namespace + 1))


def test_a_name_with_blanks_and_parentheses_does_not_confuse_the_reader(tmp_path: object) -> None:
    program = os.path.join(str(tmp_path), "a) S 1 (b")
    os.symlink("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as child:
        stat = read_stat(child.pid)
        while stat is not None and stat.name.startswith(("python", "pytest")):
            stat = read_stat(child.pid)
        assert stat is not None
        assert stat.name == "a) S 1 (b"
        assert stat.parent == os.getpid()
        child.kill()


def test_a_process_that_is_not_there_has_no_identity() -> None:
    assert identify(2**22 + 1) is None
