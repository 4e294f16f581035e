from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.cvmfs.namespace import (
    Namespaces,
    StepError,
    hand_over,
    join,
    make_room,
    obstacle,
    own_mounts,
    receive,
    seal,
    show,
)
from pilot_agent.probes.kernel.namespaces import mount
from pilot_agent.process import Result, Runner
from tests.probes.namespaced import as_nobody, in_namespace
from tests.probes.seccomp import refuse

NEW, THERE = "/pilot-agent-new", "/mnt"
"""A directory that / has not, and one that every node has."""
REPOSITORY = "a.example.org"
ABOVE_THREE = 20


@pytest.fixture
def place() -> Iterator[str]:
    """A directory in which every account may write."""
    # Not tmp_path: the directories above that are the test account's alone.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        os.chmod(directory, 0o777)
        for name in ("spare", "dist"):
            os.mkdir(f"{directory}/{name}")
            os.chmod(f"{directory}/{name}", 0o777)
        yield directory


def in_child(work: Callable[[], bytes], *keep: int) -> Result:
    """How ``work`` ended in a child that has the descriptors ``keep``."""
    with Runner() as runner:
        return runner.wait(runner.start_call(work, name="child", deadline_seconds=60, keep=keep))


def prepared(directory: str, mount_point: str) -> Namespaces:
    """Namespaces that a child made, with one repository that says where it is."""
    user, group = os.getuid(), os.getgid()
    ours, theirs = _channel()

    def work() -> bytes:
        another_root = make_room(f"{directory}/spare", mount_point)
        mount("tmpfs", f"{directory}/dist", "tmpfs", 0, "mode=755")
        Path(f"{directory}/dist/new_repository").write_text("this is it")
        show(f"{directory}/dist", REPOSITORY, mount_point)
        seal(mount_point, another_root=another_root)
        hand_over(theirs, user, group)
        return b"done"

    ended = in_child(work, theirs.fileno())
    assert ended.answer == b"done", ended.explain()
    found = receive(ours)
    ours.close()
    theirs.close()
    assert found is not None
    return found


def _channel() -> tuple[socket.socket, socket.socket]:
    import fcntl

    pair = socket.socketpair()
    lifted = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, ABOVE_THREE) for one in pair]
    for one in pair:
        one.close()
    return socket.socket(fileno=lifted[0]), socket.socket(fileno=lifted[1])


def inside(directory: str, mount_point: str, work: Callable[[], Any]) -> Any:
    """What an ordinary account's ``work`` gives (as JSON) in a process that joined."""

    def outside() -> Any:
        os.chdir(directory)
        join(prepared(directory, mount_point))
        return work()

    return as_nobody(outside)


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("mount_point", [NEW, THERE])
def test_a_process_that_joins_reads_the_repository_at_the_mount_point(place: str, mount_point: str) -> None:
    def work() -> Any:
        return [os.listdir(mount_point), Path(f"{mount_point}/{REPOSITORY}/new_repository").read_text()]

    assert inside(place, mount_point, work) == [[REPOSITORY], "this is it"]


@pytest.mark.parametrize("mount_point", [NEW, THERE])
def test_who_joins_stays_who_and_where_it_was(place: str, mount_point: str) -> None:
    def told() -> list[Any]:
        return [
            os.getresuid(),
            os.getresgid(),
            os.getcwd(),
            os.umask(0o022),
            os.getpid() == int(os.readlink("/proc/self")),
        ]

    def there() -> list[Any]:
        os.chdir(place)
        return told()

    before = as_nobody(there)
    assert inside(place, mount_point, told) == before


def test_who_joined_has_no_rights_of_root(place: str) -> None:
    def after_exec() -> Any:
        from pilot_agent.process import run

        ended = run(
            ["/bin/sh", "-c", "id -u; grep CapEff /proc/self/status"],
            deadline_seconds=60,
            environment={"PATH": "/bin:/usr/bin"},
        )
        return ended.text.split()

    user, label, effective = inside(place, THERE, after_exec)
    assert (user == "0", label) == (False, "CapEff:")
    assert int(effective, 16) == 0


def test_nothing_of_it_is_seen_outside_and_nothing_is_mounted_in_the_workspace_inside(place: str) -> None:
    before = mounts()
    assert [line for line in inside(place, NEW, mounts).splitlines() if place in line] == []
    assert mounts() == before
    assert not os.path.exists(NEW)


def test_who_is_inside_can_remove_the_workspace(place: str) -> None:
    def work() -> Any:
        for name in ("spare", "dist"):
            assert os.listdir(f"{place}/{name}") == []
            os.rename(f"{place}/{name}", f"{place}/{name}.moved")
        return sorted(os.listdir(place))

    assert inside(place, NEW, work) == ["dist.moved", "spare.moved"]


@pytest.mark.parametrize("mount_point", [NEW, THERE])
def test_nobody_inside_adds_to_the_mount_point_or_to_a_new_root(place: str, mount_point: str) -> None:
    def work() -> Any:
        refused = []
        for path in (f"{mount_point}/b.example.org", "/new-directory"):
            try:
                os.mkdir(path)
            except OSError as error:
                refused.append(error.errno)
        return len(refused)

    assert inside(place, mount_point, work) == 2


def test_a_new_root_has_all_that_is_in_the_old_one(place: str) -> None:
    def work() -> Any:
        return [
            sorted(os.listdir("/")),
            {name: os.readlink(f"/{name}") for name in os.listdir("/") if os.path.islink(f"/{name}")},
        ]

    links = {name: os.readlink(f"/{name}") for name in os.listdir("/") if os.path.islink(f"/{name}")}
    assert inside(place, NEW, work) == [sorted([*os.listdir("/"), NEW[1:]]), links]


def test_containers_can_be_made_inside(place: str) -> None:
    def work() -> Any:
        return in_namespace(contained)

    def contained() -> list[str]:
        mount("tmpfs", THERE, "tmpfs", 0)
        return os.listdir(f"{NEW}/{REPOSITORY}")

    assert inside(place, NEW, work) == ["new_repository"]


def test_the_namespaces_end_with_the_last_that_is_in_them(place: str) -> None:
    def work() -> Any:
        found = prepared(place, NEW)
        name = os.readlink(f"/proc/self/fd/{found.mounts}")
        found.close()
        return name

    name = as_nobody(work)
    assert name.startswith("mnt:[")
    assert name != own_mounts()


def test_where_user_namespaces_are_refused_the_step_says_so_and_the_caller_is_where_it_was(place: str) -> None:
    def work() -> Any:
        before = own_mounts()
        ours, theirs = _channel()

        def child() -> bytes:
            refuse("userns")
            try:
                make_room(f"{place}/spare", NEW)
            except StepError as error:
                return str(error).encode()
            return b""

        said = in_child(child, theirs.fileno()).answer.decode()
        theirs.close()
        return [said, receive(ours) is None, own_mounts() == before, os.getuid() == os.geteuid()]

    said, nothing, *same = as_nobody(work)
    assert said.startswith("a user and a mount namespace: EPERM")
    assert nothing
    assert same == [True, True]


def test_where_mounts_are_refused_after_a_good_namespace_the_step_says_so(place: str) -> None:
    def work() -> Any:
        def child() -> bytes:
            refuse("mount")
            try:
                make_room(f"{place}/spare", NEW)
            except StepError as error:
                return str(error).encode()
            return b""

        return in_child(child).answer.decode()

    assert as_nobody(work).startswith("mounts of its own: EPERM")


def test_root_is_an_obstacle_and_an_ordinary_account_is_none() -> None:
    assert as_nobody(obstacle) == ""
    assert "as root" in in_namespace(obstacle)


def test_in_another_user_namespace_it_works_as_well(place: str) -> None:
    """A pilot in a container has its account mapped already."""

    def work() -> Any:
        first = json.dumps(sorted(os.listdir(NEW)))
        return [first, _again()]

    def _again() -> Any:
        found = prepared_below()
        join(found)
        return os.listdir("/media")

    def prepared_below() -> Namespaces:
        os.rename(f"{place}/dist", f"{place}/dist.before")
        os.mkdir(f"{place}/dist")
        return prepared(place, "/media")

    assert inside(place, NEW, work) == [json.dumps([REPOSITORY]), [REPOSITORY]]
