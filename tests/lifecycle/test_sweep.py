"""The next pilot undoes what killed ones left on the node, and touches nothing else: real processes, real locks."""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle import node_list
from pilot_agent.lifecycle import sweep as sweep_module
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.identity import boot_id, identify
from pilot_agent.lifecycle.inherited import KEEP_SECONDS, OwnTeardown, Teardowns
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.mounts import mounts_below
from pilot_agent.lifecycle.owner import own_record
from pilot_agent.lifecycle.shared_memory import Segments
from pilot_agent.lifecycle.sweep import MOST_TOLD, Swept, sweep
from pilot_agent.lifecycle.traces import traced
from pilot_agent.workspace import Workspace
from tests.lifecycle.scenario import OBEDIENT_MASTER, WITH_ESCAPED_JOBS, Pilot, wait_until
from tests.lifecycle.test_removal import set_immutable

NOBODY = 65534
OWN = "pilot-000000000000"
ROOT = Path(__file__).parents[2]
HOLDER = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_SH)
os.write(1, b"x")
time.sleep(600)
"""

LOOKER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX)
os.write(1, b"x")
os.read(0, 1)
"""
BEGINNER = """
import os, sys
from pilot_agent.lifecycle import lock
from pilot_agent.workspace import Workspace
lock.PATIENCE_SECONDS = 60.0
pause = lock.time.sleep
def told(seconds):
    os.write(1, b"a")
    pause(seconds)
lock.time.sleep = told
os.read(0, 1)
lock.lock(Workspace(sys.argv[1]))
os.write(1, b"b")
"""


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The account's list of workspaces is this test's own."""
    place = tmp_path / "node"
    place.mkdir()
    monkeypatch.setattr(node_list, "PLACE", str(place))
    return place


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes and ends them after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def popen(*argv: object, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(list(map(str, argv)), start_new_session=True, **options)
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def dead(tmp_path: Path, **changes: object) -> Workspace:
    """The workspace of a pilot of which no process is left."""
    workspace = Workspace(str(tmp_path / f"pilot-{uuid.uuid4().hex[:12]}"))
    os.mkdir(workspace.root, 0o700)
    workspace.create()
    Path(workspace.lock).write_text(json.dumps({**own_record(), "processes": [], **changes}))
    Path(workspace.private, "secret").touch()
    return workspace


LABEL = "teardown of vo.data"


def journalled(workspace: Workspace, *argv: str) -> None:
    """A setup's teardown in the journal of a dead pilot."""
    Journal(workspace.journal).command(LABEL, argv, {}, directory="/", seconds=5.0, pilot_started=0.0)


def own_directory(tmp_path: Path) -> str:
    """A new directory of the pilot that sweeps."""
    directory = tmp_path / f"own-{uuid.uuid4().hex}"
    directory.mkdir()
    return str(directory)


def swept(tmp_path: Path, teardowns: Teardowns | None = None) -> dict[str, Swept]:
    """What a pilot whose workspace is in this directory makes of its neighbours."""
    return {one.workspace: one for one in sweep(str(tmp_path / OWN), teardowns)}


def verdict(tmp_path: Path, workspace: Workspace) -> tuple[str, str]:
    """What became of one workspace, and why."""
    one = swept(tmp_path)[workspace.root]
    return one.state, one.reason


def untouched(workspace: Workspace) -> bool:
    """Whether everything of it is there still."""
    return os.path.exists(os.path.join(workspace.private, "secret"))


@pytest.mark.parametrize("phase", ["pipeline", "keeper"])
def test_nothing_is_left_of_a_pilot_whose_processes_were_all_killed_at_once(pilot: Pilot, phase: str) -> None:
    pilot.workspace = pilot.directory / "pilot-0123456789ab"
    pilot.scenario["workspace"] = str(pilot.workspace)
    if phase == "pipeline":
        pilot.scenario["stay"] = True
        pilot.scenario["strays"] = [["/bin/sh", "-c", f"cd {pilot.workspace}; (setsid sleep 600 &); exec sleep 600"]]
        pilot.start()
        pilot.staying()
    else:
        pilot.plan(WITH_ESCAPED_JOBS)
        pilot.start()
        pilot.running()
    assert swept(pilot.directory)[str(pilot.workspace)].state == "live"
    kill_at_once(pilot)
    assert pilot.processes()
    one = swept(pilot.directory)[str(pilot.workspace)]
    assert (one.state, one.leftovers) == ("swept", ())
    assert "sleep" in one.processes
    assert pilot.nothing_left()


def test_one_that_lost_everything_that_could_tell_whose_it_is_was_noted_before(pilot: Pilot) -> None:
    number = str(uuid.uuid4().int % 10**6 + 10**6)
    escape = f"(cd /; exec env -i setsid /bin/sh -c '/bin/sleep {number} < /dev/null > /dev/null 2>&1 &') & "
    pilot.workspace = pilot.directory / "pilot-0123456789ab"
    pilot.scenario["workspace"] = str(pilot.workspace)
    pilot.plan(escape + WITH_ESCAPED_JOBS)
    pilot.start()
    pilot.running()
    escaped = wait_until(lambda: with_argument(number), "the job's process escaped")
    noted = Path(Workspace(str(pilot.workspace)).adopted)
    wait_until(lambda: noted.exists() and f'"pid": {escaped[0]},' in noted.read_text(), "the guardian noted it")
    kill_at_once(pilot)
    assert with_argument(number) == escaped
    assert swept(pilot.directory)[str(pilot.workspace)].leftovers == ()
    assert pilot.nothing_left()
    assert not with_argument(number)


def test_a_guardian_that_cleans_up_alone_is_a_live_pilot(pilot: Pilot) -> None:
    pilot.workspace = pilot.directory / "pilot-0123456789ab"
    pilot.scenario["workspace"] = str(pilot.workspace)
    pilot.plan(WITH_ESCAPED_JOBS.replace(OBEDIENT_MASTER, "sleep 600 & wait"))  # no process of it ends by itself
    pilot.start()
    pilot.running()
    settled = ["sh", "sh", "sleep", "sleep", "sleep", "sleep"]
    wait_until(lambda: sorted(filter(None, map(shell_word, pilot.processes()))) == settled, "all jobs have begun")
    pilot.send(signal.SIGSTOP)
    os.kill(pilot.main_pid, signal.SIGKILL)
    wait_until(lambda: pilot.main_pid not in pilot.processes(), "the keeper is gone")
    before = pilot.processes()
    assert swept(pilot.directory)[str(pilot.workspace)].state == "live"
    assert set(before) <= set(pilot.processes())
    pilot.send(signal.SIGCONT)
    assert pilot.wait() == 70
    assert pilot.nothing_left()


@pytest.mark.parametrize(
    "script",
    [
        "exec sleep {number}",
        "(setsid sh -c 'sleep {number} & exec sleep {number}' &)",
        "exec setsid env -i /bin/sleep {number}",
        "cd /; exec env -i /bin/sleep {number} 3< {workspace}/private/secret",
        "cd /; exec env -i A={workspace}/tmp /bin/sleep {number}",
        "cd /; cp /bin/sleep {workspace}/tmp; exec env -i {workspace}/tmp/sleep {number}",
        "cd /; exec unshare --mount sh -c 'mount --bind {workspace}/tmp /mnt; exec env -i /bin/sleep {number}'",
        "trap '' TERM HUP INT; sleep {number} & while :; do sleep 0.05; done",
        "sleep {number} & kill -STOP $$",
        "sleep {number} & while :; do (setsid sleep 60 &); sleep 0.05; done",
    ],
)
def test_processes_are_found_by_whatever_they_carry(tmp_path: Path, start: Start, script: str) -> None:
    workspace = dead(tmp_path)
    number = str(uuid.uuid4().int % 10**6 + 10**6)
    text = script.replace("{workspace}", workspace.root).replace("{number}", number)
    process = start("/bin/sh", "-c", text, cwd=workspace.temporary)
    stranger = start("sleep", "600")
    wait_until(lambda: any("sleep" in words(pid)[0] for pid in with_argument(number)), "it is there")
    one = swept(tmp_path)[workspace.root]
    assert (one.state, one.leftovers) == ("swept", ())
    process.wait()
    assert not with_argument(number)
    assert not traced(workspace.root)
    assert not os.path.exists(workspace.root)
    assert stranger.poll() is None


@pytest.mark.usefixtures("each_kernel")
def test_a_process_with_a_recycled_number_is_a_stranger(tmp_path: Path, start: Start) -> None:
    stranger = start("sleep", "600")
    identity = identify(stranger.pid)
    assert identity is not None
    identity.start_ticks -= 1
    workspace = dead(tmp_path, processes=[identity.to_json()])
    journal = Journal(workspace.journal)
    journal.started(journal.process("master", stop_signal=15, stop_seconds=1.0), identity)
    assert verdict(tmp_path, workspace)[0] == "swept"
    assert stranger.poll() is None


def test_a_mount_that_all_of_the_node_see_makes_nobody_a_part_of_it(tmp_path: Path, start: Start) -> None:
    workspace = dead(tmp_path)
    place = tmp_path / "place"
    place.mkdir()
    subprocess.run(["mount", "--bind", workspace.temporary, place], check=True)
    try:
        stranger = start("sleep", "600", cwd="/")
        assert stranger.pid not in traced(workspace.root)
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.usefixtures("each_kernel")
def test_what_the_journal_names_is_undone(tmp_path: Path, start: Start) -> None:
    workspace, made = dead(tmp_path), tmp_path / "made by a setup"
    made.touch()
    service = start("sleep", "600")
    journal, identity = Journal(workspace.journal), identify(service.pid)
    assert identity is not None
    journal.started(journal.process("service", stop_signal=signal.SIGTERM, stop_seconds=1.0), identity)
    journalled(workspace, "/bin/false")
    own = OwnTeardown(60.0, lambda pilot_id: (["/bin/rm", str(made)], {"ID": pilot_id}, own_directory(tmp_path)))
    one = swept(tmp_path, {LABEL: own})[workspace.root]
    assert (one.state, one.teardowns, one.leftovers) == ("swept", (f"{LABEL}: ok",), ())
    assert service.wait() == -signal.SIGKILL
    assert not made.exists()
    assert sorted(os.listdir(tmp_path)) == ["node"]


def test_no_command_of_a_journal_is_run_as_a_job_may_have_written_it(tmp_path: Path) -> None:
    workspace, planted = dead(tmp_path), tmp_path / "planted"
    target = tmp_path / "of the account"
    target.touch()
    journalled(workspace, "/bin/touch", str(planted))
    Journal(workspace.journal).mount("/proc", ["/bin/touch", str(planted)])
    os.symlink(target, workspace.events)
    Path(workspace.tokens, "secret").touch()
    for known in (True, True, False):
        one = swept(tmp_path, {} if known else None)[workspace.root]
        assert one.state == "swept"
        assert [(left["kind"], left["name"]) for left in one.leftovers] == [("teardown", LABEL)] * known
        assert sorted(os.listdir(workspace.root)) == ["private"]
        assert sorted(os.listdir(workspace.private)) == ["journal.jsonl", "lock"]
    assert not planted.exists()
    assert target.read_bytes() == b""
    week_ago = time.time() - KEEP_SECONDS
    os.utime(workspace.lock, (week_ago, week_ago))
    assert swept(tmp_path, {})[workspace.root].leftovers
    assert not os.path.exists(workspace.root)


@pytest.mark.parametrize("by", ["", "/link", "link/../link"])
def test_the_interpreter_of_a_live_pilot_stays_whoever_names_it(tmp_path: Path, start: Start, by: str) -> None:
    runtime = tmp_path / "pilot-runtime.live"
    runtime.mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    live = identify(start("sleep", "600").pid)
    assert live is not None
    record = {**own_record(), "runtime": str(runtime), "processes": [live.to_json()]}
    node_list.enter(dead(tmp_path, **record).root, record)
    fake = dead(tmp_path, runtime=f"{tmp_path}/{by}/pilot-runtime.live" if by else str(runtime))
    gone = tmp_path / "pilot-runtime.dead"
    gone.mkdir()
    honest = dead(tmp_path, runtime=str(gone))
    found = swept(tmp_path)
    assert (found[fake.root].state, found[honest.root].state) == ("swept", "swept")
    assert runtime.exists()
    assert not gone.exists()


def test_the_own_interpreter_stays_under_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "pilot-runtime.own"
    runtime.mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    fakes = [dead(tmp_path, runtime=f"{tmp_path}/{way}/pilot-runtime.own") for way in (".", "link", "link/../link")]
    monkeypatch.setattr(sys, "prefix", str(runtime))
    found = swept(tmp_path)
    assert {found[fake.root].state for fake in fakes} == {"swept"}
    assert runtime.exists()


def test_a_pipe_in_place_of_the_journal_holds_nobody_up(tmp_path: Path) -> None:
    workspace = dead(tmp_path)
    os.mkfifo(workspace.journal)
    os.mkfifo(workspace.adopted)
    assert verdict(tmp_path, workspace) == ("swept", "")
    assert not os.path.exists(workspace.root)


def test_a_teardown_is_begun_once_whatever_comes_of_it(tmp_path: Path) -> None:
    workspace = dead(tmp_path)
    for _ in range(3):
        journalled(workspace, "/bin/true")
    own = OwnTeardown(60.0, lambda _: (["/bin/false"], {}, own_directory(tmp_path)))
    assert swept(tmp_path, {LABEL: own})[workspace.root].teardowns == (f"{LABEL}: exited 1",)
    assert not os.path.exists(workspace.root)


@pytest.mark.parametrize("beside", [True, False])
def test_a_second_workspace_of_a_live_ones_name_ends_nobody(tmp_path: Path, start: Start, beside: bool) -> None:
    """A pilot's processes are known by the name of its workspace."""
    live = dead(tmp_path if beside else tmp_path / "node")
    holder = start(sys.executable, "-c", HOLDER, live.lock, cwd=live.temporary, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.read(1) == b"x"
    node_list.enter(live.root, {**own_record(), "processes": []})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fake = Workspace(str(elsewhere / os.path.basename(live.root)))
    os.rename(dead(elsewhere).root, fake.root)
    one = {one.workspace: one for one in sweep(str(elsewhere / OWN))}[fake.root]
    assert (one.state, one.reason) == ("spared", "another workspace has the same name")
    assert holder.poll() is None


@pytest.mark.parametrize(
    "damage",
    [
        {"pid_namespace": float("inf")},
        {"processes": [{"pid": float("inf"), "start_ticks": 1, "boot_id": "", "pid_namespace": 1}]},
        {"processes": "[" * 100_000},
        {"processes": 7},
        {"host": {}, "processes": [[]]},
    ],
)
def test_what_a_job_wrote_into_the_nodes_list_breaks_no_pilot(tmp_path: Path, damage: dict[str, Any]) -> None:
    workspace = dead(tmp_path, **damage)
    record = {**own_record(), "processes": [], **damage}
    node_list.enter(workspace.root, record)
    (listed,) = (tmp_path / "node").rglob(os.path.basename(workspace.root))
    listed.write_text(listed.read_text().replace('"' + "[" * 100_000 + '"', "[" * 20_000))
    Path(workspace.journal).write_text('{"n": 1, "kind": "process", "label": "x", "stop_signal": Infinity, '
        '"stop_seconds": NaN}\n' + "[" * 100_000 + "\n")  # fmt: skip
    assert verdict(tmp_path, workspace)[0] in ("spared", "swept")


def test_mounts_sockets_and_fifos_go(tmp_path: Path) -> None:
    workspace, outside = dead(tmp_path), tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    subprocess.run(["mount", "--bind", outside, workspace.temporary], check=True)
    os.mkfifo(workspace.ad_channel)
    os.mknod(workspace.control, 0o140600)
    assert verdict(tmp_path, workspace)[0] == "swept"
    assert mounts_below(workspace.root) == []
    assert not os.path.exists(workspace.root)
    assert (outside / "precious").exists()


def test_what_could_not_be_removed_is_told_and_tried_again(tmp_path: Path) -> None:
    workspace = dead(tmp_path)
    stuck = Path(workspace.temporary, "stuck")
    stuck.touch()
    set_immutable(stuck, on=True)
    try:
        one = swept(tmp_path)[workspace.root]
        assert [left["path"] for left in one.leftovers] == [str(stuck)]
    finally:
        set_immutable(stuck, on=False)
    assert swept(tmp_path)[workspace.root].leftovers == ()
    assert not os.path.exists(workspace.root)


@pytest.mark.parametrize("name", ["pilot-runtime.0123456789", "pilot-runtime-0-kept", "home"])
def test_the_interpreter_unpacked_for_it_alone_goes_too(tmp_path: Path, name: str) -> None:
    runtime = tmp_path / name
    (runtime / "bin").mkdir(parents=True)
    (runtime / "bin" / "python3.13-elf").touch()
    workspace = dead(tmp_path, runtime=str(runtime))
    one = swept(tmp_path)[workspace.root]
    assert one.state == "swept"
    assert runtime.exists() == (name != "pilot-runtime.0123456789") == bool(one.leftovers)


def test_shared_memory_goes_with_those_that_used_it(tmp_path: Path, start: Start) -> None:
    workspace, name = dead(tmp_path), f"/dev/shm/pilot-test-{uuid.uuid4().hex}"
    source = (
        "import ctypes, mmap, os, sys, time\n"
        "libc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p\n"
        "number = libc.shmget(0, 4096, 0o1600); assert libc.shmat(number, None, 0)\n"
        "file = open(sys.argv[1], 'wb+'); file.write(bytes(4096)); file.flush()\n"
        "area = mmap.mmap(file.fileno(), 4096); file.close()\n"
        "os.write(1, b'%d\\n' % number); time.sleep(600)\n"
    )
    job = start(sys.executable, "-c", source, name, cwd=workspace.temporary, stdout=subprocess.PIPE)
    assert job.stdout is not None
    number = int(job.stdout.readline())
    assert number in segments()
    assert verdict(tmp_path, workspace)[0] == "swept"
    assert number not in segments()
    assert not os.path.exists(name)


def test_a_segment_older_than_a_process_of_its_creators_number_stays() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    number = library.shmget(0, 4096, 0o1600)  # IPC_PRIVATE, IPC_CREAT
    assert number >= 0, os.strerror(ctypes.get_errno())
    segments = Segments()
    segments.creators = {os.getpid(): time.time() + 3600}
    assert segments.remove(Budget(20)) == []
    segments.look([os.getpid()])
    segments.ids.clear()
    segments.files.clear()
    assert segments.remove(Budget(20)) == [f"System V {number}"]


def test_shared_memory_that_another_uses_stays(tmp_path: Path, start: Start) -> None:
    workspace, name = dead(tmp_path), Path(f"/dev/shm/pilot-test-{uuid.uuid4().hex}")
    name.write_bytes(bytes(4096))
    libc = ctypes.CDLL(None)
    try:
        with name.open("rb+") as file, mmap.mmap(file.fileno(), 4096):
            source = (
                "import mmap, os, sys, time; file = open(sys.argv[1], 'rb+'); area = mmap.mmap(file.fileno(), 4096); "
                "os.write(1, b'x'); time.sleep(600)"
            )
            job = start(sys.executable, "-c", source, name, cwd=workspace.temporary, stdout=subprocess.PIPE)
            assert job.stdout is not None
            job.stdout.read(1)
            mine = libc.shmget(0, 4096, 0o1600)
            assert verdict(tmp_path, workspace)[0] == "swept"
            assert mine in segments()
            libc.shmctl(mine, 0, None)
            assert name.exists()
    finally:
        name.unlink(missing_ok=True)


def test_a_pilot_in_another_pid_namespace_that_holds_its_lock_lives(tmp_path: Path, start: Start) -> None:
    workspace = dead(tmp_path, pid_namespace=1, processes=[])
    words = ("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", HOLDER, workspace.lock)
    holder = start(*words, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.read(1)
    assert verdict(tmp_path, workspace) == ("live", "")
    assert untouched(workspace)
    holder.kill()
    holder.wait()
    wait_until(lambda: verdict(tmp_path, workspace)[0] == "swept", "it is dead now")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"boot_id": "other", "host": "elsewhere"}, "spared"),
        ({"boot_id": "other", "host": "localhost"}, "spared"),
        ({"boot_id": "", "host": ""}, "spared"),
        ({"boot_id": "before the power was lost", "pid_namespace": 1}, "swept"),
        ({"pid_namespace": 1}, "swept"),
        ({"locked": False, "pid_namespace": 1}, "spared"),
        ({"locked": False}, "swept"),
        ({"processes": "none"}, "spared"),
    ],
)
def test_only_what_was_this_machines_is_swept(tmp_path: Path, changes: dict[str, object], state: str) -> None:
    workspace = dead(tmp_path, **changes)
    found, reason = verdict(tmp_path, workspace)
    assert found == state
    assert untouched(workspace) == (state == "spared") == bool(reason)


def test_a_file_system_without_locks_leaves_it_to_the_processes(tmp_path: Path, start: Start) -> None:
    identity = identify(start("sleep", "600").pid)
    assert identity is not None
    workspace = dead(tmp_path, locked=False, processes=[identity.to_json()])
    assert verdict(tmp_path, workspace) == ("live", "")
    assert untouched(workspace)


def test_one_that_is_being_made_or_lost_its_lock_is_left_alone(tmp_path: Path) -> None:
    making, robbed, torn = (dead(tmp_path) for _ in range(3))
    os.unlink(making.lock)
    os.rename(making.root, making.root + ".new")
    making.root += ".new"
    os.unlink(robbed.lock)
    Path(torn.lock).write_text('{"host": ')
    found = swept(tmp_path)
    for workspace in (making, robbed, torn):
        assert found[workspace.root].state == "spared"
        assert untouched(workspace)


def test_links_and_other_accounts_workspaces_are_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target, foreign, inner, pipe = dead(elsewhere), dead(tmp_path), dead(tmp_path), dead(tmp_path)
    link = Workspace(str(tmp_path / os.path.basename(target.root)))
    os.symlink(target.root, link.root)
    os.chown(foreign.root, NOBODY, NOBODY)
    os.rename(inner.private, elsewhere / "private")
    os.symlink(elsewhere / "private", inner.private)
    os.unlink(pipe.lock)
    os.mkfifo(pipe.lock)
    node_list.enter(foreign.root, {**own_record(), "processes": []})
    found = swept(tmp_path)
    for workspace in (link, foreign, inner, pipe):
        assert found[workspace.root].state == "spared"
        assert untouched(workspace)


def test_what_others_put_beside_it_is_not_even_looked_at(tmp_path: Path) -> None:
    """Everybody may write to /tmp, and each look costs a process."""
    foreign = dead(tmp_path)
    os.chown(foreign.root, NOBODY, NOBODY)
    assert foreign.root not in swept(tmp_path)
    assert untouched(foreign)


def test_any_number_of_names_costs_no_comparison_of_each_with_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of the same account may make as many as it likes; the next pilot begins all the same."""
    compared = 0

    class Name(str):
        __slots__ = ()

        def startswith(self, *arguments: Any) -> bool:
            nonlocal compared
            compared += 1
            return super().startswith(*arguments)

    monkeypatch.setattr(sweep_module, "TOTAL_SECONDS", 0.0)
    monkeypatch.setattr(sweep_module, "_beside", lambda own: [Name(f"/x/pilot-{n:012x}") for n in range(1, 1001)])
    assert swept(tmp_path) == {}
    assert compared <= 1000


def test_any_number_of_things_in_a_journal_is_told_in_short(tmp_path: Path) -> None:
    workspace = dead(tmp_path)
    lines = [{"n": n, "kind": "group", "path": "/" + "./" * 1500, "before": []} for n in range(1, 1001)]
    Path(workspace.journal).write_text("".join(json.dumps(line) + "\n" for line in lines))
    one = swept(tmp_path)[workspace.root]
    assert one.state == "swept"
    assert len(one.leftovers) == MOST_TOLD + 1
    assert one.leftovers[-1]["cause"] == "900 more are left over"


def test_one_that_holds_another_stays(tmp_path: Path) -> None:
    outer = dead(tmp_path)
    inner = dead(Path(outer.temporary))
    Path(f"{outer.root}.x").mkdir()
    node_list.enter(inner.root, {**own_record(), "processes": []})
    found = swept(tmp_path)
    assert (found[outer.root].state, found[outer.root].reason) == ("spared", "another pilot lives in it")
    assert found[inner.root].state == "swept"


@pytest.mark.parametrize("path", ["/nonexistent/node", "pilot-00000000000a", "/nonexistent/../pilot-00000000000a"])
def test_an_entry_that_names_no_workspace_of_a_pilot_ends_nobody(
    tmp_path: Path, node: Path, start: Start, path: str
) -> None:
    """The name of a workspace is what its processes are known by; that of any directory would make strangers of its."""
    assert node.name == "node"
    stranger = start("sleep", "600", cwd=node)
    node_list.enter(path, {**own_record(), "processes": []})
    assert node_list.entries()
    assert swept(tmp_path) == {}
    assert stranger.poll() is None


def test_a_pilot_begins_although_another_looks_whose_its_workspace_is(tmp_path: Path) -> None:
    workspace = dead(tmp_path)
    words = [sys.executable, "-c", LOOKER, workspace.lock]
    own = [sys.executable, "-c", BEGINNER, workspace.root]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as looks,
        subprocess.Popen(own, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as begins,
    ):
        assert looks.stdout is not None
        assert begins.stdin is not None
        assert begins.stdout is not None
        looks.stdout.read(1)
        begins.stdin.close()
        assert begins.stdout.read(1) == b"a"
        looks.communicate(b"x")
        assert begins.stdout.read()[-1:] == b"b"


def test_one_that_another_sweep_holds_is_left_to_it(tmp_path: Path) -> None:
    workspace = dead(tmp_path)
    with open(workspace.lock, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert verdict(tmp_path, workspace) == ("live", "")
    assert verdict(tmp_path, workspace)[0] == "swept"


def test_who_looks_into_a_dead_pilot_at_a_terminal_goes_on(tmp_path: Path) -> None:
    workspace = dead(tmp_path)
    person, terminal = os.forkpty()
    if person == 0:
        os.chdir(workspace.temporary)
        os.execv("/bin/sleep", ["sleep", "600"])
    wait_until(lambda: os.readlink(f"/proc/{person}/cwd") == workspace.temporary, "somebody looks")
    assert verdict(tmp_path, workspace)[0] == "swept"
    assert os.waitpid(person, os.WNOHANG) == (0, 0)
    os.kill(person, signal.SIGKILL)
    os.waitpid(person, 0)
    os.close(terminal)


def test_a_pilot_that_runs_in_a_dead_ones_job_keeps_its_place(tmp_path: Path) -> None:
    outer = dead(tmp_path)
    own = os.path.join(outer.temporary, OWN)
    os.mkdir(own)
    node_list.enter(outer.root, own_record())
    (one,) = sweep(own)
    assert one.state in ("spared", "live")
    assert untouched(outer)


def test_those_of_other_start_directories_are_found_by_the_nodes_list(tmp_path: Path, node: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    workspace = dead(tmp_path / "first")
    node_list.enter(workspace.root, {**own_record(), "processes": []})
    assert swept(tmp_path / "second")[workspace.root].state == "swept"
    assert not os.path.exists(workspace.root)
    assert not list(node.iterdir())


def test_processes_of_a_removed_workspace_are_ended(tmp_path: Path, node: Path, start: Start) -> None:
    workspace = dead(tmp_path)
    job = start("sleep", "600", cwd=workspace.temporary)
    wait_until(lambda: os.readlink(f"/proc/{job.pid}/cwd") == workspace.temporary, "it is there")
    node_list.enter(workspace.root, {**own_record(), "processes": []})
    subprocess.run(["rm", "-r", workspace.root], check=True)
    one = swept(tmp_path)[workspace.root]
    assert (one.state, one.processes) == ("swept", ("sleep",))
    assert job.wait() == -signal.SIGKILL
    assert not list(node.iterdir())


def test_the_interpreter_of_a_removed_workspace_goes_too(tmp_path: Path, node: Path) -> None:
    runtime = tmp_path / "pilot-runtime.0123456789"
    (runtime / "bin").mkdir(parents=True)
    workspace = dead(tmp_path)
    node_list.enter(workspace.root, {**own_record(), "processes": [], "runtime": str(runtime)})
    subprocess.run(["rm", "-r", workspace.root], check=True)
    swept(tmp_path)
    assert not runtime.exists()
    assert not list(node.iterdir())


def test_a_list_that_others_may_write_is_not_read(tmp_path: Path, node: Path) -> None:
    workspace = dead(tmp_path)
    node_list.enter(workspace.root, own_record())
    assert node_list.entries()
    (directory,) = node.iterdir()
    directory.chmod(0o770)
    assert node_list.entries() == {}
    directory.chmod(0o700)
    os.chown(directory, NOBODY, NOBODY)
    assert node_list.entries() == {}


def test_this_boot_is_known_at_all() -> None:
    assert boot_id()


def kill_at_once(pilot: Pilot) -> None:
    """Guardian and main process, stopped first so that neither sees the other's end."""
    assert pilot.guardian is not None
    both = (pilot.guardian.pid, pilot.main_pid)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in both:
            os.kill(pid, number)
    pilot.guardian.wait()
    wait_until(lambda: not os.path.exists(f"/proc/{both[1]}") or both[1] not in pilot.processes(), "both are gone")


def shell_word(pid: int) -> str:
    """The name of a shell or of a sleep, nothing for any other process."""
    name = os.path.basename(next(iter(words(pid)), ""))
    return name if name in ("sh", "sleep") else ""


def words(pid: int) -> list[str]:
    """The arguments of a process; none for one that ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def with_argument(argument: str) -> list[int]:
    """The processes that have this very argument."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and argument in words(int(name))]


def segments() -> list[int]:
    """The System V segments of this IPC namespace."""
    return [int(line.split()[1]) for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
