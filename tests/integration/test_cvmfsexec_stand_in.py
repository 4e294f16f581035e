"""The stand-in for cvmfsexec behaves as the real one was observed to, on a real node with real FUSE mounts."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.integration.test_containers import WITHOUT_FUSE
from tests.testbed.cvmfs.distribution import CONFIGURATION, LIBRARY, LOCAL, PROXY, Distribution, Server
from tests.testbed.grid import Grid
from tests.testbed.hosts import Host
from tests.testbed.leftovers import snapshot
from tests.testbed.trees import PILOT

A, B, EMPTY = "a.example.org", "b.example.org", "empty.example.org"
PLACE = "/var/tmp/stand-in"
PATIENCE_SECONDS = 60.0
IGNORED = sum(1 << (number - 1) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM))
"""The signals that cvmfsexec has its command ignore, as /proc shows them."""

Make = Callable[[], Distribution]


@pytest.fixture(scope="module")
def server(grid: Grid) -> Iterator[Server]:
    """Two repositories with a file each, and an empty one."""
    before = snapshot(grid.wn1)
    server = Server(grid.wn1, f"{PLACE}/server")
    server.publish_configuration()
    for name in (A, B):
        server.publish(name, {"new_repository": f"this is {name}\n"}, revision=7)
    server.publish(EMPTY, {})
    yield server
    server.remove()
    grid.wn1.run(["rm", "-rf", PLACE])
    assert snapshot(grid.wn1) == before


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    """Makes distributions of the test's own."""
    server.host.run(["chmod", "755", PLACE])
    made: list[Distribution] = []
    names = itertools.count()

    def make() -> Distribution:
        directory = f"{PLACE}/distribution-{next(names)}"
        server.host.run(["install", "-d", "-o", PILOT.name, "-g", PILOT.name, directory])
        made.append(Distribution.lay_out(server, directory))
        return made[-1]

    yield make
    for one in made:
        one.remove()


def read(host: Host, path: str) -> str:
    """What the pilots' account reads there; empty with the reason on standard error where it cannot."""
    return host.run(["cat", path], user=PILOT.name).stdout


def attribute(host: Host, path: str, name: str) -> str:
    """An extended attribute, or the error's name."""
    source = (
        "import errno, os, sys\n"
        "try:\n    print(os.getxattr(sys.argv[1], 'user.' + sys.argv[2]).decode())\n"
        "except OSError as error:\n    print(errno.errorcode[error.errno])\n"
    )
    return host.run(["python3", "-c", source, path, name], user=PILOT.name).stdout.strip()


def until(what: str, true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_a_repository_needs_the_configuration_repository_before_it(make: Make) -> None:
    dist = make()
    first = dist.run("mountrepo", A)
    assert first.returncode == 16
    assert f"mountrepo {A} failed" in first.stdout
    dist.mount(A)
    assert read(dist.host, f"{dist.point(A)}/new_repository") == f"this is {A}\n"
    assert attribute(dist.host, dist.point(A), "fqrn") == A
    assert attribute(dist.host, dist.point(A), "revision") == "7"
    assert attribute(dist.host, dist.point(A), "no_such") == "ENODATA"
    again = dist.run("mountrepo", A)
    assert (again.returncode, again.stdout) == (0, f"{A} already mounted\n")
    assert dist.run("umountrepo", "-a").returncode == 0
    assert dist.mounts() == []
    until("the clients end", lambda: dist.clients() == [])


def test_a_repository_that_tells_nothing_of_itself_mounts_all_the_same(make: Make) -> None:
    dist = make()
    dist.mount(EMPTY)
    assert dist.point(EMPTY) in [mount.target for mount in dist.mounts()]
    assert dist.host.run(["ls", "-A", dist.point(EMPTY)], user=PILOT.name).stdout == ""
    assert attribute(dist.host, dist.point(EMPTY), "fqrn") == "ENODATA"


@pytest.mark.parametrize(
    ("local", "code", "said"),
    [
        ("", 23, "proxy auto-discovery failed"),
        (PROXY.rstrip("\n"), 23, "proxy auto-discovery failed"),
        (PROXY + "CVMFS_CACHE_BASE=//proc/none\n", 9, "cannot create workspace directory"),
    ],
    ids=["no proxy", "last line without its end", "no place for the cache"],
)
def test_a_bad_configuration_has_the_exit_code_of_the_client(make: Make, local: str, code: int, said: str) -> None:
    dist = make()
    dist.write(LOCAL, local)
    done = dist.run("mountrepo", CONFIGURATION)
    assert done.returncode == code
    assert said in done.stderr
    assert f"mountrepo {CONFIGURATION} failed" in done.stdout


def test_other_failures_have_theirs(make: Make) -> None:
    dist = make()
    assert dist.run("mountrepo").returncode == 1
    assert dist.run("cvmfsexec", A).returncode == 1
    without = dist.run("mountrepo", CONFIGURATION, wrapper=WITHOUT_FUSE)
    assert (without.returncode, "fuse: mount failed" in without.stderr) == (4, True)
    dist.mount()
    unknown = dist.run("mountrepo", "nosuch.example.org")
    assert unknown.returncode == 16
    assert dist.host.path(dist.point("nosuch.example.org")).is_dir()
    dist.host.run(["rm", f"{dist.directory}/{LIBRARY}"])
    assert dist.run("mountrepo", A).returncode == 7
    assert dist.run("dist/usr/bin/cvmfs2", "--version").returncode == 0


def test_the_root_of_a_dead_client_can_still_be_asked_for_its_status(make: Make) -> None:
    dist = make()
    dist.mount(A)
    assert dist.host.run(["stat", dist.point(A)], user=PILOT.name).returncode == 0
    dist.signal(signal.SIGKILL, dist.clients(A))
    until("the client ends", lambda: dist.clients(A) == [])
    assert dist.host.run(["stat", dist.point(A)], user=PILOT.name).returncode == 0
    assert "not connected" in dist.host.run(["ls", dist.point(A)], user=PILOT.name).stderr
    assert attribute(dist.host, dist.point(A), "fqrn") == "ENOTCONN"
    again = dist.run("mountrepo", A)
    assert (again.returncode, "Permission denied" in again.stderr) == (4, True)
    assert dist.run("umountrepo", A).returncode == 0
    dist.mount(A)
    assert read(dist.host, f"{dist.point(A)}/new_repository") == f"this is {A}\n"


def test_a_client_that_hangs_holds_whoever_asks_until_it_goes_on(make: Make) -> None:
    dist = make()
    dist.mount(A)
    dist.signal(signal.SIGSTOP, dist.clients(A))
    asking = ["timeout", "-s", "KILL", "2", "cat", f"{dist.point(A)}/new_repository"]
    assert dist.host.run(asking, user=PILOT.name).returncode != 0
    dist.signal(signal.SIGCONT, dist.clients(A))
    assert read(dist.host, f"{dist.point(A)}/new_repository") == f"this is {A}\n"


def test_what_is_in_the_cache_mounts_again_when_its_server_is_gone(make: Make, server: Server) -> None:
    dist, gone = make(), f"{server.image(B)}.gone"
    assert dist.run("mountrepo", CONFIGURATION).returncode == 0
    server.host.run(["mv", server.image(B), gone])
    assert dist.run("mountrepo", B).returncode == 16
    server.host.run(["mv", gone, server.image(B)])
    dist.mount(B)
    assert dist.run("umountrepo", B).returncode == 0
    server.host.run(["mv", server.image(B), gone])
    dist.mount(B)
    server.host.run(["mv", gone, server.image(B)])


def test_a_repository_that_is_used_is_unmounted_only_lazily(make: Make) -> None:
    dist = make()
    dist.mount(A)
    user = dist.host.popen(["tail", "-f", f"{dist.point(A)}/new_repository"], user=PILOT.name)
    until("the file is open", lambda: any("tail" in process.argv for process in dist.processes()))
    until("it is busy", lambda: dist.run("umountrepo", A).returncode == 1)
    assert dist.run("umountrepo", "-z", A).returncode == 0
    assert dist.clients(A)
    user.kill()
    user.wait()
    until("the client ends with its last user", lambda: dist.clients(A) == [])


def test_what_one_distribution_unmounts_another_one_keeps(make: Make) -> None:
    one, other = make(), make()
    one.mount(A)
    other.mount(A)
    assert one.run("umountrepo", "-a").returncode == 0
    assert one.mounts() == []
    assert read(other.host, f"{other.point(A)}/new_repository") == f"this is {A}\n"


def test_a_command_in_a_namespace_sees_cvmfs_and_ignores_signals(make: Make) -> None:
    dist = make()
    script = f"id -u; cat /cvmfs/{A}/new_repository; ls /cvmfs; grep SigIgn /proc/self/status; exit 37"
    done = dist.run("cvmfsexec", "-N", A, "--", "/bin/sh", "-c", script)
    assert done.returncode == 37, done.stderr
    lines = done.stdout.splitlines()
    # The client's words come on standard output, before those of the command.
    assert lines[0] == "CernVM-FS: loading Fuse module... done"
    assert lines[-5:-1] == [str(PILOT.uid), f"this is {A}", A, CONFIGURATION]
    # Whoever started the tests may have had more of them ignored.
    assert int(lines[-1].removeprefix("SigIgn:"), 16) & IGNORED == IGNORED
    assert dist.mounts() == []
    until("the clients go with the namespace", lambda: dist.clients() == [])
    assert dist.run("cvmfsexec", "-N", A, "nosuch.example.org", "--", "true").returncode == 16


@contextmanager
def inside(dist: Distribution, script: str) -> Iterator[subprocess.Popen[str]]:
    """A script of bash that has begun in a namespace; what is left of it in the end is killed."""
    words = dist.command("cvmfsexec", "-N", A, "--", "/bin/bash", "-c", f"touch {dist.directory}/here; {script}")
    door = dist.host.popen(words, user=PILOT.name, cwd="/")
    try:
        until("the command runs", dist.host.path(f"{dist.directory}/here").exists)
        yield door
    finally:
        dist.signal(signal.SIGKILL, dist.processes())
        door.wait()


def test_a_signal_to_the_outer_shell_leaves_what_is_inside_and_the_end_of_its_init_does_not(make: Make) -> None:
    dist = make()
    with inside(dist, "while true; do sleep 0.1; done"):
        started = [one for one in dist.processes() if f"{dist.directory}/cvmfsexec" in one.argv[:3]]
        (outer,) = [one for one in started if one.argv[0].endswith("bash") and "-inside" not in one.argv]
        (first,) = [one for one in started if one.argv[0].endswith("bash") and "-inside" in one.argv]
        dist.signal(signal.SIGTERM, [outer])
        until("the outer shell ends", lambda: outer.pid not in [one.pid for one in dist.processes()])
        assert dist.clients(A)
        dist.signal(signal.SIGKILL, [first])
        until("all end with the namespace", lambda: dist.processes() == [])


def test_a_second_start_in_the_same_directory_breaks_the_first(make: Make) -> None:
    dist = make()
    with inside(dist, "while [ -e /usr/bin/sleep ]; do sleep 0.1; done; exit 42") as first:
        assert first.poll() is None
        second = dist.run("cvmfsexec", "-N", "--", "cat", f"/cvmfs/{CONFIGURATION}/etc/cvmfs/default.conf")
        assert (second.returncode, "CVMFS_SERVER_URL" in second.stdout) == (0, True)
        until("the first has no programs any more", lambda: first.poll() is not None)
        assert first.returncode == 42
