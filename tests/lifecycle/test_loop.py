"""The keeper's loop knows when its process stood still, whether it waited then or was at work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilot_agent.lifecycle.loop import Task
from tests.lifecycle.bench import ENVIRONMENT, Bench

ROOT = Path(__file__).parents[2]
AT_WORK = """
import os, signal, sys, time
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.signals import Alarm
loop = Loop(Alarm.install(None))
told = []
loop.on_suspension(told.append)
def work():
    print("working", flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
loop.call_later(0, work)
loop.call_later(0, lambda: None)
loop.turn()
loop.call_later(0.1, lambda: None)
loop.turn()
print(len(told), flush=True)
"""


@pytest.mark.parametrize("stood", [True, False])
def test_a_process_that_stood_still_at_its_work_says_so(tmp_path: Path, stood: bool) -> None:
    """Standing still is told from the clock alone, so a clock that jumps is as good as a wait of 12 s."""
    release = tmp_path / "go"
    program = AT_WORK
    if stood:
        program = program.replace("def work():", "def work():\n    import pilot_agent.lifecycle.loop as module\n"
                                  "    now = module._now\n    module._now = lambda: now() + 12")  # fmt: skip
    child = subprocess.Popen([sys.executable, "-c", program, str(release)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "working\n"
    release.touch()
    assert child.communicate(timeout=60)[0] == f"{int(stood)}\n"


def test_a_task_that_may_not_be_killed_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def refuse(pid: int, number: int) -> None:
        tried.append(pid)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refuse)
    until_tried = f"until test -e {bench.log.parent}/tried; do sleep 0.02; done; exit 3"
    task = Task(bench.loop, ["/bin/sh", "-c", until_tried], ENVIRONMENT, 0.1, lambda code, _: bench.calls.append(code))
    bench.until("the kill", lambda: tried)
    (bench.log.parent / "tried").touch()
    bench.until("the end", lambda: bench.calls)
    assert (tried, bench.calls) == ([task.pid], [3])
