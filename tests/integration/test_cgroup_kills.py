"""What the kernel kills by control group: all of a pilot at once, or its keeper for want of memory."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilot_agent.lifecycle.processes import descendants
from tests.integration import plugins
from tests.integration.conftest import StartPilot
from tests.needs import need
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Jobs

ESCAPING_JOB = "setsid sleep 631 & (setsid sh -c 'sleep 632 & sleep 633' &); touch ready; sleep 600"


def mounted(kind: str, option: str = "") -> Path | None:
    """Where this machine has control groups of a kind, with an option, in which groups can be made."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, found, options, *_ = line.split()
        if found == kind and (not option or option in options.split(",")) and os.access(target, os.W_OK):
            return Path(target)
    return None


@contextmanager
def group(parent: Path, run: PilotRun) -> Iterator[Path]:
    """A group of the test's own, removed once the processes in it are gone."""
    made = parent / f"pilot-test-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    try:
        yield made
    finally:
        run.wait_until("the group is empty", lambda: not (made / "cgroup.procs").read_text())
        made.rmdir()


def move(pids: list[int], into: Path) -> None:
    """Put processes into a group; one that ended meanwhile is left out."""
    for pid in pids:
        try:
            (into / "cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            continue


def test_a_kill_of_the_whole_control_group_leaves_nothing_after_the_next_pilot(pilot: StartPilot, jobs: Jobs) -> None:
    parent = mounted("cgroup2")
    usable = parent is not None and (parent / "cgroup.procs").exists()
    need("cgroup.kill", usable, "run as root where cgroup v2 is mounted and writable")
    assert parent is not None
    run = pilot(plugins={"files": plugins.PREAMBLE + plugins.FUSE}).start()
    jobs.shell(ESCAPING_JOB, pilot=run)
    run.job_file("ready")
    with group(parent, run) as made:
        while outside := set(descendants(run.door.pid)) - set(map(int, (made / "cgroup.procs").read_text().split())):
            move(sorted(outside), made)
        (made / "cgroup.kill").write_text("1")
        assert run.wait() == -signal.SIGKILL
    following = pilot().start()
    event = following.wait_for("pilot.swept")
    assert event["leftovers"] == []
    assert run.workspace is None
    following.signal(signal.SIGTERM)
    assert following.wait() == 143
    run.nothing_left()


def test_a_keeper_that_the_kernel_kills_for_want_of_memory_is_undone_by_the_guardian(pilot: StartPilot) -> None:
    parent = mounted("cgroup", "memory")
    need("memory cgroup", parent is not None, "run as root where the memory controller of cgroup v1 is writable")
    assert parent is not None
    run = pilot(plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}).start()
    run.wait_for("pool.joined")
    keeper = next(pid for pid in descendants(run.door.pid) if b"_keeper" in Path(f"/proc/{pid}/cmdline").read_bytes())
    with group(parent, run) as made:
        Path(f"/proc/{keeper}/oom_score_adj").write_text("1000")
        move([keeper], made)
        (made / "memory.limit_in_bytes").write_text("0")
        run.signal(signal.SIGHUP)  # it looks at its token, which takes memory
        assert run.wait() == 70, run.story()
        killed = [
            line for line in (made / "memory.oom_control").read_text().splitlines() if line.startswith("oom_kill ")
        ]
        assert [int(line.split()[1]) > 0 for line in killed] == [True]
    assert run.failure()["code"] == "keeper.killed"
    run.nothing_left()
