"""Signals only wake, none is lost, and a dead guardian is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD = """
import os, select, signal, socket, sys, time
sys.path.insert(0, sys.argv[1])
from pilot_agent.lifecycle.signals import GUARDIAN_GONE, Alarm, reset_inherited
def readable(alarm):
    return bool(select.select([alarm.fileno()], [], [], 0)[0])
"""


def run(body: str) -> str:
    """What a process of its own, whose signals a test may change, prints."""
    done = subprocess.run([sys.executable, "-c", HEAD + body, ROOT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_stop_signal_is_the_reason_and_stays_readable() -> None:
    body = """
alarm = Alarm.install()
print(alarm.reason(), readable(alarm))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
    os.kill(os.getpid(), number)
print(alarm.reason(), readable(alarm), alarm.fast, alarm.reason())
"""
    assert run(body) == "None False\n2 True True 2\n"


def test_without_sticky_a_reason_is_told_once_and_waiting_goes_on() -> None:
    body = """
alarm = Alarm.install(sticky=False)
os.kill(os.getpid(), signal.SIGTERM)
print(readable(alarm), alarm.reason(), readable(alarm))
"""
    assert run(body) == "True 15 False\n"


def test_requests_are_no_reason_to_stop_and_taken_once() -> None:
    body = """
alarm = Alarm.install(also=(signal.SIGUSR1, signal.SIGCHLD))
os.kill(os.getpid(), signal.SIGUSR1)
print(alarm.reason(), alarm.requests() == {signal.SIGUSR1}, alarm.requests())
"""
    assert run(body) == "None True set()\n"


def test_request_signals_nobody_wants_do_not_kill() -> None:
    assert run("alarm = Alarm.install(); os.kill(os.getpid(), signal.SIGUSR2); print(alarm.reason())") == "None\n"


def test_the_guardians_end_is_a_reason() -> None:
    body = """
ours, theirs = socket.socketpair()
alarm = Alarm.install(ours.detach())
alarm.tell({"a": 1})
print(theirs.recv(100), alarm.reason(), alarm.alone, readable(alarm))
theirs.close()
print(readable(alarm), alarm.reason() == GUARDIAN_GONE, alarm.alone, readable(alarm))
alarm.tell({"a": 2})
"""
    assert run(body) == "b'{\"a\": 1}\\n' None False False\nTrue True True True\n"


def test_signals_and_a_dead_guardian_cross_an_exec() -> None:
    body = """
if len(sys.argv) == 2:
    ours, theirs = socket.socketpair()
    alarm = Alarm.install(ours.fileno())
    os.kill(os.getpid(), signal.SIGHUP)
    theirs.close()
    print(alarm.reason(), alarm.guardian_gone, flush=True)
    alarm.keep_across_exec()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[2], sys.argv[1], str(ours.fileno())])
alarm = Alarm.install(int(sys.argv[2]), also=(signal.SIGUSR1,))
print(alarm.reason(), alarm.guardian_gone, alarm.requests() == {signal.SIGUSR1})
"""
    assert run(body) == "1 True\n1 True True\n"


def test_inherited_dispositions_masks_and_descriptors_are_undone() -> None:
    body = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
reader, writer = os.pipe()
os.set_inheritable(writer, True)
reset_inherited()
print(signal.getsignal(signal.SIGHUP) == signal.SIG_DFL, signal.pthread_sigmask(signal.SIG_BLOCK, []),
      os.get_inheritable(writer), os.get_inheritable(1))
"""
    assert run(body) == "True set() False True\n"


def test_select_is_woken_by_a_signal_that_comes_while_it_waits() -> None:
    body = """
alarm = Alarm.install()
if os.fork() == 0:
    time.sleep(0.2)
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(0)
print(bool(select.select([alarm.fileno()], [], [], 30)[0]), alarm.reason())
"""
    assert run(body) == "True 15\n"
