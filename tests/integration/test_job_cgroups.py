"""A control group is divided for jobs and given back, with the kernel's own groups of version 2.

The machines that run this have the controller of memory in version 1. What counts here is the same for every controller
that wants an empty group to be handed down, so the one of huge pages, which is free, stands for it. Jobs in such groups
are shown on another kernel (``tests/uml``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from pilot_agent.lifecycle import remains, teardown
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.control_groups import give_back, move
from pilot_agent.lifecycle.journal import Journal, read_journal
from pilot_agent.startd.job_groups import Controllers, Undivided, divide
from pilot_agent.workspace import Workspace
from tests.integration.conftest import StartPilot
from tests.integration.test_cgroup_kills import mounted
from tests.needs import need

STAND_IN = Controllers("hugetlb", ("memory", "pids"))
PATIENCE_SECONDS = 60.0
SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
# A batch job's script and a pilot below it: the outer one starts the inner and says its number.
SCRIPT = """import subprocess, sys, time
print(subprocess.Popen(sys.argv[1:]).pid, flush=True)
time.sleep(600)"""

ROOT = Path(__file__).parents[2]
# A process of the pilot in the leaf, on a machine where version 2 is mounted at another place.
ENDING = """import sys
sys.path.insert(0, sys.argv[1])
from pilot_agent.lifecycle import control_groups
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.workspace import Workspace
control_groups.MOUNT = sys.argv[3]
control_groups.move([0], sys.argv[4] + "/agent")
print(control_groups.give_back(Workspace(sys.argv[2]), [], Budget(60)))"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A group that a batch system made, with the stand-in's controller; removed at the end."""
    parent = mounted("cgroup2")
    usable = parent is not None and "hugetlb" in (parent / "cgroup.controllers").read_text().split()
    need("hugetlb in cgroup v2", usable, "run as root where cgroup v2 is mounted, writable and has that controller")
    assert parent is not None
    control = parent / "cgroup.subtree_control"
    before = "hugetlb" in control.read_text().split()
    control.write_text("+hugetlb")
    made = parent / f"pilot-test-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    yield made
    left = [str(path) for path in made.rglob("*") if path.is_dir()]
    for path in [*sorted(map(Path, left), reverse=True), made]:
        wait_until(partial(_ended, path))
        path.rmdir()
    if not before:
        with suppress(OSError):  # another run of these tests still needs it
            control.write_text("-hugetlb")
    assert left == []


def _ended(group: Path) -> bool:
    for pid in (group / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    return not (group / "cgroup.procs").read_text()


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(str(tmp_path / "pilot-0123456789ab"))
    os.makedirs(made.private)
    return made


@contextmanager
def batch_job(group: Path) -> Iterator[tuple[int, int]]:
    """The numbers of a script in the group and of the pilot below it."""
    command = [sys.executable, "-I", "-S", "-c", SCRIPT, *SLEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as script:
        try:
            assert script.stdout is not None
            pilot = int(script.stdout.readline())
            assert move([script.pid, pilot], str(group)) == {}
            yield script.pid, pilot
        finally:
            os.killpg(script.pid, signal.SIGKILL)


def processes(group: Path) -> set[int]:
    return set(map(int, (group / "cgroup.procs").read_text().split()))


def handed_down(group: Path) -> list[str]:
    return (group / "cgroup.subtree_control").read_text().split()


def made(group: Path) -> Path:
    (found,) = group.glob("pilot-agent-*")
    return found


def test_the_pilot_and_the_script_above_it_move_to_a_leaf_and_jobs_groups_get_the_controller(
    group: Path, workspace: Workspace
) -> None:
    with batch_job(group) as (script, pilot):
        assert divide(str(group), workspace, pilot, wanted=STAND_IN) == ("hugetlb",)
        assert processes(group) == set()
        assert processes(made(group) / "agent") == {script, pilot}
        (made(group) / "jobs" / "job").mkdir()
        assert (made(group) / "jobs" / "job" / "hugetlb.2MB.max").exists()
        (entry,) = read_journal(workspace.journal).groups
        assert (entry.path, entry.before) == (str(made(group)), ())
        assert teardown.undo_groups(workspace, Budget(PATIENCE_SECONDS)) == []
        assert processes(group) == {script, pilot}
        assert list(group.glob("pilot-agent-*")) == []
        assert handed_down(group) == []
        assert read_journal(workspace.journal).groups == []


def test_what_is_in_a_jobs_group_is_killed_however_deep_it_is(group: Path, workspace: Workspace) -> None:
    with batch_job(group) as (_, pilot), subprocess.Popen(SLEEP) as job:
        divide(str(group), workspace, pilot, wanted=STAND_IN)
        inner = made(group) / "jobs" / "job" / "of" / "its" / "own"
        inner.mkdir(parents=True)
        assert move([job.pid], str(inner)) == {}
        # Frozen as HTCondor leaves a family that it was about to kill.
        (made(group) / "jobs" / "job" / "cgroup.freeze").write_text("1")
        assert teardown.undo_groups(workspace, Budget(PATIENCE_SECONDS)) == []
        assert job.wait(PATIENCE_SECONDS) == -signal.SIGKILL


def test_a_group_shared_with_strangers_stays_as_it_is_and_they_are_named(group: Path, workspace: Workspace) -> None:
    with batch_job(group) as (script, pilot), subprocess.Popen(SLEEP) as stranger:
        move([stranger.pid], str(group))
        with pytest.raises(Undivided, match=rf"shared .* \(.* {stranger.pid}\).*a group of its own"):
            divide(str(group), workspace, pilot, wanted=STAND_IN)
        assert processes(group) == {script, pilot, stranger.pid}
        assert list(group.iterdir()) == [path for path in group.iterdir() if path.is_file()]
        stranger.kill()


def test_a_group_without_the_controller_says_who_must_enable_it(group: Path, workspace: Workspace) -> None:
    with (
        batch_job(group) as (_, pilot),
        pytest.raises(Undivided, match=r"no controller of memory; whoever made it must enable"),
    ):
        divide(str(group), workspace, pilot)
    assert read_journal(workspace.journal).groups == []


def test_a_division_that_is_refused_half_way_is_undone(group: Path, workspace: Workspace) -> None:
    (group / "cgroup.max.descendants").write_text("2")
    with batch_job(group) as (script, pilot):
        with pytest.raises(Undivided, match=r"to make a group was refused \(EAGAIN\)"):
            divide(str(group), workspace, pilot, wanted=STAND_IN)
        assert processes(group) == {script, pilot}
        assert list(group.glob("pilot-agent-*")) == []
        assert read_journal(workspace.journal).groups == []


def test_the_next_pilot_gives_back_what_a_killed_one_divided(group: Path, workspace: Workspace) -> None:
    with batch_job(group) as (script, pilot):
        divide(str(group), workspace, pilot, wanted=STAND_IN)
        os.kill(pilot, signal.SIGKILL)
        undone = remains.undo(workspace, "", {script, os.getpid()}, None, Budget(PATIENCE_SECONDS))
        assert undone.leftovers == []
        assert processes(group) == {script}
        assert handed_down(group) == []
        assert not os.path.exists(workspace.root)


def test_the_sweep_kills_no_live_pilot_in_a_dead_ones_job(group: Path, workspace: Workspace) -> None:
    with batch_job(group) as (_, pilot), subprocess.Popen(SLEEP) as alive:
        divide(str(group), workspace, pilot, wanted=STAND_IN)
        job = made(group) / "jobs" / "job"
        job.mkdir()
        move([alive.pid], str(job))
        (leftover,) = teardown.undo_groups(workspace, Budget(0), {alive.pid})
        assert f"process {alive.pid} in it belongs to a pilot that lives" in leftover["cause"]
        assert alive.poll() is None
        alive.kill()
        alive.wait()
        assert teardown.undo_groups(workspace, Budget(PATIENCE_SECONDS)) == []


def test_controllers_that_were_handed_down_before_are_so_again(group: Path, workspace: Workspace) -> None:
    (group / "cgroup.subtree_control").write_text("+hugetlb")
    with subprocess.Popen(SLEEP) as pilot:  # it stands in a group beside: none can be in this one now
        assert divide(str(group), workspace, pilot.pid, wanted=STAND_IN) == ("hugetlb",)
        assert teardown.undo_groups(workspace, Budget(PATIENCE_SECONDS)) == []
        pilot.kill()
    assert handed_down(group) == ["hugetlb"]


@pytest.mark.parametrize("name", ["pilot-agent-ffffffffffff", "agent"])
def test_no_group_of_another_name_is_touched_whatever_a_journal_says(
    group: Path, workspace: Workspace, name: str
) -> None:
    victim = group / name
    (victim / "jobs").mkdir(parents=True)
    with subprocess.Popen(SLEEP) as alive:
        move([alive.pid], str(victim / "jobs"))
        Journal(workspace.journal).group(str(victim), [])
        (leftover,) = teardown.undo_groups(workspace, Budget(PATIENCE_SECONDS))
        assert "not named as the pilot's" in leftover["cause"]
        assert alive.poll() is None
        alive.kill()
    (victim / "jobs").rmdir()
    victim.rmdir()


def test_a_directory_of_the_right_name_that_is_no_group_is_not_touched(tmp_path: Path, workspace: Workspace) -> None:
    victim = tmp_path / "pilot-agent-0123456789ab"
    (victim / "jobs").mkdir(parents=True)
    Journal(workspace.journal).group(str(victim), [])
    _, (leftover,) = give_back(workspace, read_journal(workspace.journal).groups, Budget(1))
    assert "no control group of this account" in leftover["cause"]
    assert (victim / "jobs").is_dir()


def test_a_pilot_whose_journal_was_deleted_finds_what_it_divided_from_its_own_place(
    group: Path, workspace: Workspace
) -> None:
    with batch_job(group) as (script, pilot):
        divide(str(group), workspace, pilot, wanted=STAND_IN)
        os.unlink(workspace.journal)
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            ENDING,
            str(ROOT),
            workspace.root,
            str(group.parent),
            str(made(group)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert (done.stdout, done.stderr) == ("([], [])\n", "")
        assert processes(group) == {script, pilot}
        assert list(group.glob("pilot-agent-*")) == []


def test_what_a_probe_left_that_was_killed_is_removed(group: Path, workspace: Workspace) -> None:
    (group / "pilot-agent-trial-17-00c0ffee" / "leaf").mkdir(parents=True)
    with batch_job(group) as (_, pilot):
        divide(str(group), workspace, pilot, wanted=STAND_IN)
        assert not (group / "pilot-agent-trial-17-00c0ffee").exists()
        assert teardown.undo_groups(workspace, Budget(PATIENCE_SECONDS)) == []


def test_a_group_that_the_batch_system_removed_needs_nothing(group: Path, workspace: Workspace) -> None:
    Journal(workspace.journal).group(str(group / "pilot-agent-0123456789ab"), [])
    assert teardown.undo_groups(workspace, Budget(1)) == []
    assert read_journal(workspace.journal).groups == []


def test_a_pilot_that_needs_them_where_version_2_is_not_alone_fails_and_says_why(pilot: StartPilot) -> None:
    run = pilot({"startd": {"job_cgroups": "required"}, "site": {"containers": "never"}, "images": {}})
    assert run.run() == 64, run.story()
    failure = run.failure()
    assert failure["code"] == "cgroups.unusable"
    assert "startd.job_cgroups is required" in failure["message"]
    run.nothing_left()
