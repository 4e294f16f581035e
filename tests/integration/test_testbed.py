"""The emulated grid does what the other integration tests take for granted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tests.testbed import cache, prerequisites
from tests.testbed.command import CommandError
from tests.testbed.grid import PILOT_IDENTITY, USER_POOL, Grid
from tests.testbed.hosts import Host
from tests.testbed.inspection import resolve
from tests.testbed.neighbours import Watch
from tests.testbed.runs import LOCK, run_directory
from tests.testbed.trees import PILOT

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0
IMAGES = {"debian12": "12", "debian12.sif": "12", "debian13": "13", "debian13.sif": "13"}
WORKERS = ("wn1", "wn2")

# Run by a process of its own, which the test then kills.
STARTER = """
import json, sys, time
from pathlib import Path, PurePosixPath
from tests.testbed.grid import Grid
with Grid(Path(sys.argv[1])) as grid:
    grid.wn1.popen(["sleep", "1000"], user="pilot")
    pids = [host.pid for host in grid.hosts.values()] + [grid.network.pid]
    print(json.dumps(pids), flush=True)
    time.sleep(1000)
"""


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"no {what} after {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.1)


def pool_client(grid: Grid, host: Host, token: str) -> dict[str, str]:
    """Put a token into the pilot account's hands and return the environment of a client that has nothing else."""
    home = host.path(PILOT.home)
    directory = home / "tokens"
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "pool").write_text(token + "\n", encoding="ascii")
    for path, mode in ((directory, 0o700), (directory / "pool", 0o600)):
        path.chmod(mode)
        os.chown(path, PILOT.uid, PILOT.uid)
    return {
        "CONDOR_CONFIG": "ONLY_ENV",
        "_CONDOR_NO_DNS": "True",
        "_CONDOR_DEFAULT_DOMAIN_NAME": USER_POOL.domain,
        "_CONDOR_SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
        "_CONDOR_SEC_TOKEN_DIRECTORY": f"{PILOT.home}/tokens",
    }


@pytest.mark.parametrize("name", WORKERS)
def test_a_site_job_runs_as_the_account_that_submitted_it(grid: Grid, name: str) -> None:
    submit = f"""
        executable = /bin/sh
        transfer_executable = false
        arguments = "-c 'id -un; hostname; exit 3'"
        output = {name}.out
        log = {name}.log
        should_transfer_files = yes
        requirements = TARGET.Machine == "{name}.site.test"
        queue
    """
    grid.factory.path(f"{PILOT.home}/{name}.sub").write_text(submit, encoding="ascii")
    done = grid.factory.run(["condor_submit", f"{name}.sub"], user="pilot")
    assert done.returncode == 0, done.stderr
    waited = grid.factory.run(["condor_wait", "-wait", "60", f"{name}.log"], user="pilot", timeout_seconds=90)
    assert waited.returncode == 0, grid.factory.run(["condor_q", "-better-analyze"], user="pilot").stdout
    assert grid.factory.path(f"{PILOT.home}/{name}.out").read_text().split() == ["pilot", name]
    assert "return value 3" in grid.factory.path(f"{PILOT.home}/{name}.log").read_text()


def test_a_user_pool_token_opens_the_user_pool_from_a_worker(grid: Grid) -> None:
    client = pool_client(grid, grid.wn2, grid.token())
    done = grid.wn2.run(["condor_status", "-pool", USER_POOL.head, "-schedd", "-af", "Name"], user="pilot", env=client)
    assert done.stdout.split() == ["pool.pool.test"], done.stderr


def test_a_pilot_token_may_advertise_and_read_but_not_command_daemons(grid: Grid) -> None:
    client = pool_client(grid, grid.wn1, grid.token())
    wanted = {"ADVERTISE_STARTD": True, "ADVERTISE_MASTER": True, "READ": True, "DAEMON": False, "ADMINISTRATOR": False}
    for level, allowed in wanted.items():
        words = ["condor_ping", "-pool", USER_POOL.head, "-type", "collector", "-quiet", level]
        assert (grid.wn1.run(words, user="pilot", env=client).returncode == 0) is allowed, level


def test_no_token_opens_nothing(grid: Grid) -> None:
    client = pool_client(grid, grid.wn1, "") | {"_CONDOR_SEC_TOKEN_DIRECTORY": "/nonexistent"}
    done = grid.wn1.run(["condor_status", "-pool", USER_POOL.head, "-any"], user="pilot", env=client)
    assert done.returncode != 0
    assert "AUTHENTICATE" in done.stderr


def test_an_expired_token_is_refused(grid: Grid) -> None:
    token = grid.token(lifetime_seconds=1)
    time.sleep(2)
    client = pool_client(grid, grid.wn1, token)
    done = grid.wn1.run(["condor_status", "-pool", USER_POOL.head, "-any"], user="pilot", env=client)
    assert done.returncode != 0


def test_a_token_names_the_identity_it_was_asked_for(grid: Grid) -> None:
    shown = grid.pool.run(["condor_token_list", "-dir", "/tmp/asked"])
    assert shown.stdout == ""
    directory = grid.pool.path("/tmp/asked")
    directory.mkdir()
    (directory / "token").write_text(grid.token() + "\n", encoding="ascii")
    (directory / "token").chmod(0o600)
    assert PILOT_IDENTITY in grid.pool.run(["condor_token_list", "-dir", "/tmp/asked"]).stdout


@pytest.mark.parametrize("name", WORKERS)
@pytest.mark.parametrize("image", IMAGES)
def test_apptainer_runs_every_image_for_the_pilot_account(grid: Grid, name: str, image: str) -> None:
    script = '. /etc/os-release; echo "$VERSION_ID"; id -u'
    words = ["apptainer", "exec", "--contain", "--ipc", "--pid", f"/images/{image}", "sh", "-c", script]
    done = grid.hosts[name].run(words, user="pilot")
    assert done.stdout.split() == [IMAGES[image], str(PILOT.uid)], done.stderr


def test_the_images_are_not_writable_on_a_worker(grid: Grid) -> None:
    assert grid.wn1.run(["touch", "/images/debian13/mark"]).returncode != 0


def test_one_worker_has_python_and_the_other_has_none(grid: Grid) -> None:
    assert grid.wn1.run(["python3", "--version"]).stdout.startswith("Python 3.13")
    assert grid.wn2.run(["sh", "-c", "ls -d /usr/bin/python* /usr/lib/python*"]).stdout == ""
    assert grid.wn2.run(["condor_version"]).returncode == 0


def test_a_cut_host_is_not_reached_until_it_is_joined_again(grid: Grid) -> None:
    words = ["ping", "-c", "1", "-W", "1", "10.77.0.12"]
    grid.wn2.link.down()
    try:
        assert grid.factory.run(words).returncode != 0
    finally:
        grid.wn2.link.up()
    assert grid.factory.run([*words[:3], "-W", "5", words[-1]]).returncode == 0


def test_a_program_that_takes_too_long_is_killed_with_its_output_kept(grid: Grid) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        grid.wn1.run(["sh", "-c", "echo begun; exec sleep 987"], user="pilot", timeout_seconds=0.5)
    assert str(caught.value.stdout) == "begun\n"
    assert not [process for process in grid.wn1.processes() if "987" in process.argv]


def test_a_daemon_left_behind_does_not_hold_the_caller(grid: Grid) -> None:
    done = grid.wn1.run(["sh", "-c", "sleep 986 & echo $!"], user="pilot", timeout_seconds=20)
    left = int(done.stdout)
    assert [process.uid for process in grid.wn1.processes() if process.pid == left] == [PILOT.uid]
    grid.wn1.run(["kill", str(left)])


def test_a_signal_reaches_the_program_behind_the_door(grid: Grid) -> None:
    script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    door = grid.wn1.popen(["sh", "-c", script], user="pilot", stdout=subprocess.PIPE)
    assert door.stdout is not None
    assert door.stdout.readline() == "ready\n"
    grid.wn1.signal(door, signal.SIGTERM)
    assert door.communicate(timeout=PATIENCE_SECONDS)[0] == "got it\n"
    assert door.returncode == 7


def test_a_path_follows_absolute_links_inside_the_host(grid: Grid) -> None:
    grid.wn1.path("/var/run/mark").write_text("inside", encoding="ascii")
    assert grid.wn1.run(["cat", "/run/mark"]).stdout == "inside"
    assert not Path("/run/mark").exists()


def test_a_host_keeps_its_disk_and_loses_its_memory_when_the_plug_is_pulled(grid: Grid) -> None:
    with run_directory() as directory:
        host = Host(replace(grid.wn1.plan, name="spare", address="10.77.0.50"), directory / "spare", grid.network)
        host.start()
        try:
            host.path("/root/kept").write_text("kept", encoding="ascii")
            host.path("/run/lost").write_text("lost", encoding="ascii")
            host.stop()
            assert not host.running
            host.start()
            assert host.path("/root/kept").exists()
            assert not host.path("/run/lost").exists()
        finally:
            host.remove()


def test_nothing_of_a_grid_survives_the_kill_of_its_starter(testbed_machine: None) -> None:
    before = _outer_state()
    with (
        run_directory() as directory,
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as starter,
    ):
        assert starter.stdout is not None
        pids = json.loads(starter.stdout.readline())
        spaces = {_namespace(pid, kind) for pid in pids for kind in ("mnt", "net")}
        spaces -= {_namespace(os.getpid(), "mnt")}
        assert len(_processes_in(spaces)) > len(pids)
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        wait_for("end of every process in the grid's namespaces", lambda: not _processes_in(spaces))
    assert _outer_state() == before


def _outer_state() -> tuple[list[str], list[str]]:
    """Return the outer machine's mounts and network interfaces."""
    return Path("/proc/mounts").read_text().splitlines(), sorted(os.listdir("/sys/class/net"))


def _namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def _processes_in(spaces: set[str]) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if {_namespace(int(name), "mnt"), _namespace(int(name), "net")} & spaces:
                    found.append(int(name))
            except OSError:
                continue
    return found


def test_a_tree_is_built_once_for_one_recipe_and_again_for_another(tmp_path: Path) -> None:
    built: list[str] = []

    def builder(target: Path) -> None:
        built.append(target.name)

    first = cache.build_once(tmp_path, "tree", {"packages": ["a"]}, builder)
    assert cache.build_once(tmp_path, "tree", {"packages": ["a"]}, builder) == first
    assert cache.build_once(tmp_path, "tree", {"packages": ["b"]}, builder) != first
    assert len(built) == 2


def test_a_failed_build_is_not_taken_for_a_tree(tmp_path: Path) -> None:
    def builder(target: Path) -> None:
        (target / "half").touch()
        raise CommandError("no network")

    with pytest.raises(CommandError):
        cache.build_once(tmp_path, "tree", 1, builder)
    made = cache.build_once(tmp_path, "tree", 1, lambda target: None)
    assert list(made.iterdir()) == []
    assert not list(tmp_path.glob("*.partial-*"))


def test_a_killed_run_is_cleared_by_the_next_and_a_live_one_is_not(tmp_path: Path) -> None:
    left = tmp_path / "runs" / "grid-left"
    left.mkdir(parents=True)
    (left / LOCK).touch()
    with run_directory(tmp_path) as first, run_directory(tmp_path) as second:
        assert first.exists()
        assert second.exists()
        assert not left.exists()
    assert list((tmp_path / "runs").iterdir()) == []


def test_links_that_go_round_are_an_error_and_not_a_hang(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many symbolic links"):
        resolve(tmp_path, PurePosixPath("/a/file"))


def test_everything_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(prerequisites.PrerequisiteError) as caught:
        prerequisites.require()
    if os.geteuid() == 0:
        assert {"mmdebstrap", "ip", "unshare"} <= {item.name for item in caught.value.missing}
    assert all(item.remedy in str(caught.value) for item in caught.value.missing)


def test_only_named_prerequisites_are_excused() -> None:
    assert prerequisites.skipped({"PILOT_TEST_SKIP": "root, overlayfs,"}) == {"root", "overlayfs"}
    assert prerequisites.skipped({}) == frozenset()


def test_what_a_test_leaves_on_a_worker_node_is_named_once_for_each_module(
    grid: Grid, request: pytest.FixtureRequest
) -> None:
    watch, host = Watch(grid), grid.wn1
    script = "mkdir /cvmfs && touch /usr/bin/env && chmod o-r /etc/passwd && mount -t tmpfs left /mnt && rm /etc/issue"
    sleeper = host.popen(["sleep", "7654"])
    try:
        assert host.run(["sh", "-c", script]).returncode == 0
        watch.look_after(request.node)
        host.run(["mkdir", "/cvmfs/later"])
        found = watch.left_by("first", 0)
        name = request.node.name
        came = ["changed /etc/passwd", "file /cvmfs", "gone /etc/issue", "mount /mnt tmpfs left"]
        expected = [*(f"wn1: {trace} (came with {name})" for trace in came), "wn1: file /cvmfs/later (came with first)"]
        expected.append(f"wn1: process of 0: sleep 7654 (came with {name})")
        assert found == sorted(expected)
        assert watch.left_by("second", 0) == []
        assert len(watch.left_by("first", 0)) == len(expected)
    finally:
        sleeper.kill()
        sleeper.wait()
        host.run(["sh", "-c", "umount /mnt; rm -r /cvmfs; chmod o+r /etc/passwd"])
        host.path("/etc/issue").write_bytes((host.plan.tree / "etc/issue").read_bytes())
    assert watch.left_by("third") == []
