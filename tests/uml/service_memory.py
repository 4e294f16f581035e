"""A service's memory is bounded by a control group of its own, below the group that the pilot divided for its jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MOUNT = Path("/sys/fs/cgroup")
ROOT = Path(__file__).parents[2]
# A pilot: it divides its group as for jobs, and then supervises as the keeper does. The service takes more and more.
PILOT = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.control_groups import give_back, move
from pilot_agent.lifecycle.journal import read_journal
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.startd.job_groups import divide
from tests.services.bench import Bench, Kept
group = sys.argv[3]
move([0], group)
become_subreaper()
bench = Bench(Path(sys.argv[2]))
divide(group, bench.workspace, os.getpid())
EATS = "x = []\\nopen('ready', 'w').close()\\nwhile True: x.append(bytearray(1 << 20))"
eats = bench.plan(name="eats", argv=("/usr/bin/python3", "-c", EATS), memory_mib=80, restart_limit=1)
stays = bench.plan(": > ready; exec sleep 600", name="stays", memory_mib=80)
kept = Kept(bench, eats, stays)
kept.until_status("failed", "eats")
kept.until_status("ready", "stays")
inside = Path(f"/proc/{kept.pid('stays')}/cgroup").read_text().strip()
states = {one["name"]: one for one in kept.supervisor.states()}
print(states["eats"]["message"], states["eats"]["memory_limit"], states["eats"]["restarts"], sep="|")
print(kept.supervisor.units["eats"].standing.cause, inside.rpartition("/")[2], sep="|")
kept.stop()
kept.close()
print(give_back(bench.workspace, read_journal(bench.workspace.journal).groups, Budget(60))[1])
print(Path("/proc/self/cgroup").read_text().strip())
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """As a batch system makes it for a job."""
    made = MOUNT / "services"
    made.mkdir()
    (MOUNT / "cgroup.subtree_control").write_text("+memory +pids")
    yield made
    made.rmdir()


def test_the_kernel_ends_a_service_at_its_limit_and_the_group_is_given_back(group: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", PILOT, str(ROOT), str(tmp_path), str(group)]
    done = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ended, where, leftovers, at_last = done.stdout.splitlines()
    message, limit, restarts = ended.split("|")
    assert "was ended by the kernel: its control group had used all of its limit of 80 MiB (memory_mib)" in message
    assert (limit, restarts) == ("control group", "1")
    assert where == "memory|service-stays"
    assert leftovers == "[]"
    assert at_last == "0::/services"
    assert not [path for path in group.iterdir() if path.is_dir()]
