"""Every process below is found and ended, however it tried to get away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pilot_agent.lifecycle.identity import identify, still_same
from pilot_agent.lifecycle.processes import children, descendants, stop_process
from pilot_agent.lifecycle.spawn import spawn

ROOT = Path(__file__).parents[2]
KILLER = """
import os, sys, subprocess, time
sys.path.insert(0, sys.argv[1])
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.processes import descendants, kill_descendants
from pilot_agent.lifecycle.subreaper import become_subreaper
assert become_subreaper()
subprocess.Popen(["/bin/sh", "-c", sys.argv[2]])
time.sleep(0.3)
before = len(descendants(os.getpid()))
left = kill_descendants(Budget(10))
print(before, left, descendants(os.getpid()))
"""


@pytest.mark.parametrize(
    ("script", "at_least"),
    [
        ("sleep 60", 1),
        ("setsid sleep 60 & setsid sleep 60 & wait", 3),
        ("(setsid sh -c 'sleep 60 & exec sleep 60' &) ; exit", 2),
        ("trap '' TERM HUP INT; while :; do sleep 0.01; done", 1),
        ("while :; do (setsid sleep 5 &) ; sleep 0.01; done", 5),
        ("kill -STOP $$", 1),
    ],
)
def test_nothing_below_survives(script: str, at_least: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLER, ROOT, script], capture_output=True, text=True, check=True, timeout=60
    )
    before, rest = done.stdout.split(maxsplit=1)
    assert int(before) >= at_least
    assert rest.strip() == "[] []"


ADOPTER = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from pilot_agent.lifecycle.subreaper import become_subreaper
assert become_subreaper()
subprocess.run(["/bin/sh", "-c", "(setsid sh -c 'sleep 60 & exec sleep 60' &) ; exit"], check=True)
print("escaped", flush=True)
sys.stdin.read()
"""


def test_a_process_that_left_by_setsid_and_double_fork_is_found_and_psutil_finds_no_other() -> None:
    command = [sys.executable, "-c", ADOPTER, str(ROOT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as adopter:
        assert adopter.stdout is not None
        assert adopter.stdout.readline() == "escaped\n"
        while len(descendants(adopter.pid)) < 2:
            time.sleep(0.005)
        found = set(descendants(adopter.pid))
        assert len(found) == 2
        assert all(os.getsid(pid) != os.getsid(adopter.pid) for pid in found)
        assert {child.pid for child in psutil.Process(adopter.pid).children(recursive=True)} == found
        for pid in found:
            os.kill(pid, signal.SIGKILL)


def test_children_of_children_are_descendants() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & sleep 60"]) as child:
        while len(descendants(child.pid)) < 2:
            time.sleep(0.005)
        assert child.pid in children(os.getpid())
        assert set(descendants(child.pid)) < set(descendants(os.getpid()))
        for pid in descendants(child.pid):
            os.kill(pid, signal.SIGKILL)
        child.kill()


@pytest.mark.usefixtures("each_kernel")
def test_a_process_is_stopped_by_its_signal() -> None:
    identity = identify(spawn(["/bin/sleep", "60"], {}))
    assert identity is not None
    assert stop_process(identity, signal.SIGTERM, 10)
    assert not still_same(identity)


def test_a_suspended_process_is_woken_to_stop() -> None:
    identity = identify(spawn(["/bin/sleep", "60"], {}))
    assert identity is not None
    os.kill(identity.pid, signal.SIGSTOP)
    assert stop_process(identity, signal.SIGTERM, 10)


@pytest.mark.usefixtures("each_kernel")
def test_one_that_does_not_obey_is_killed_with_its_group(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $! > pid.new; mv pid.new pid; while :; do sleep 0.01; done"
    identity = identify(spawn(["/bin/sh", "-c", script], {"PATH": os.environ["PATH"]}, directory=str(tmp_path)))
    assert identity is not None
    while not (tmp_path / "pid").exists():
        time.sleep(0.005)
    other = identify(int((tmp_path / "pid").read_text()))
    assert other is not None
    assert stop_process(identity, signal.SIGTERM, 0.05)
    assert not still_same(identity)
    while still_same(other):
        time.sleep(0.005)


@pytest.mark.usefixtures("each_kernel")
def test_a_stranger_with_the_same_number_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        identity = identify(child.pid)
        assert identity is not None
        identity.start_ticks -= 1
        assert stop_process(identity, signal.SIGKILL, 1)
        assert child.poll() is None
        child.kill()
