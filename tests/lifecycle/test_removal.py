"""Removing a tree that strangers wrote into: all of it, and nothing outside it."""

from __future__ import annotations

import array
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.journal import MountEntry
from pilot_agent.lifecycle.mounts import mounts_below, undo_recorded, unmount_all
from pilot_agent.lifecycle.removal import NotOurs, remove_tree
from pilot_agent.probes.kernel.namespaces import mount
from pilot_agent.probes.mount_flags import read_flags
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from tests.probes.namespaced import in_namespace

NOBODY = 65534


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A workspace with a few files in it."""
    root = tmp_path / "pilot-x"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_text("x")
    (root / "keep").mkdir()
    return root


@pytest.fixture
def bind(tree: Path, tmp_path: Path) -> Iterator[Path]:
    """A directory of the same file system, mounted into the tree; its one file must survive."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    subprocess.run(["mount", "--bind", outside, tree / "a" / "b"], check=True)
    yield outside
    subprocess.run(["umount", tree / "a" / "b"], check=False, capture_output=True)


def remove(path: Path, **options: object) -> list[dict[str, object]]:
    return remove_tree(str(path), Budget(20), prefix="pilot-", **options)  # type: ignore[arg-type]


def test_everything_goes(tree: Path) -> None:
    assert remove(tree) == []
    assert not tree.exists()


def test_doing_it_twice_is_fine(tree: Path) -> None:
    remove(tree)
    assert remove(tree) == []


def test_kept_names_stay(tree: Path) -> None:
    assert remove(tree, keep=("keep",)) == []
    assert os.listdir(tree) == ["keep"]


def test_links_are_removed_and_not_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (tree / "to-directory").symlink_to(outside)
    (tree / "to-file").symlink_to(outside / "precious")
    (tree / "dangling").symlink_to("/nonexistent")
    assert remove(tree) == []
    assert (outside / "precious").exists()


def test_a_workspace_that_is_a_link_is_refused(tree: Path, tmp_path: Path) -> None:
    link = tmp_path / "pilot-link"
    link.symlink_to(tree)
    with pytest.raises(NotOurs):
        remove(link)
    assert (tree / "a").exists()


def test_a_directory_of_another_name_or_owner_is_refused(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "home"
    other.mkdir()
    with pytest.raises(NotOurs, match="named"):
        remove(other)
    with pytest.raises(NotOurs, match="named"):
        remove(tree / "..")
    os.chown(tree, NOBODY, NOBODY)
    with pytest.raises(NotOurs, match="belongs"):
        remove(tree)


def test_a_mount_of_the_same_file_system_is_not_entered(tree: Path, bind: Path) -> None:
    leftovers = remove(tree)
    assert (bind / "precious").exists()
    assert leftovers[0]["cause"] == "something is mounted there"
    assert leftovers[0]["path"] == str(tree / "a" / "b")


def test_mounts_below_are_found_and_undone(tree: Path, bind: Path) -> None:
    assert [mount.path for mount in mounts_below(str(tree))] == [str(tree / "a" / "b")]
    assert unmount_all(str(tree), [], Budget(10)) == []
    assert remove(tree) == []
    assert (bind / "precious").exists()


def test_a_mount_that_is_in_use_is_undone_lazily(tree: Path, bind: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=tree / "a" / "b") as user:
        assert unmount_all(str(tree), [], Budget(10)) == []
        user.kill()


def test_a_recorded_mount_is_undone_by_its_own_command_and_one_in_use_stays(tree: Path, bind: Path) -> None:
    place = str(tree / "a" / "b")
    gone = MountEntry(1, str(tree / "a"), ("rm", str(bind / "precious")))
    recorded = [gone, MountEntry(2, place, ("umount", place))]
    with subprocess.Popen(["sleep", "60"], cwd=place) as user:
        undo_recorded(recorded, Budget(60))
        assert [mount.path for mount in mounts_below(str(tree))] == [place]
        user.kill()
    undo_recorded(recorded, Budget(60))
    assert mounts_below(str(tree)) == []
    assert (bind / "precious").exists(), "what is not mounted is not undone"


def test_a_table_with_odd_names_is_read(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(r"36 35 98:0 / /w/pilot-1/a\040b\134c rw - fuse.x x rw" + "\n")
    assert [(m.path, m.filesystem) for m in mounts_below("/w/pilot-1", str(table))] == [(r"/w/pilot-1/a b\c", "fuse.x")]
    assert mounts_below("/w/pilot", str(table)) == []


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_mount_whose_name_looks_like_an_end_of_a_line_hides_nothing_and_ends_nothing(
    tmp_path: Path, end: str
) -> None:
    """The kernel escapes blank, tab, newline and backslash; any account of the node may mount FUSE where it likes."""

    def work() -> list[list[str]]:
        for name in (f"a{end}b", "c"):
            (tmp_path / name).mkdir()
            mount("none", str(tmp_path / name), "tmpfs", 0)
        seen = [found.point for found in read_mounts(Node()) if found.point.startswith(f"{tmp_path}/")]
        flagged = [found.point for found, _ in read_flags(Node()) if found.point.startswith(f"{tmp_path}/")]
        return [[found.path for found in mounts_below(str(tmp_path))][::-1], seen, flagged]

    there = [f"{tmp_path}/a{end}b", f"{tmp_path}/c"]
    assert in_namespace(work) == [there, there, there]


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300])
def test_directories_without_permission_go_too(tree: Path, open_path: Path, mode: int) -> None:
    """As an ordinary user, whom permissions bind."""
    tree = tree.rename(open_path / tree.name)
    os.chown(open_path, NOBODY, NOBODY)
    os.chmod(tree / "a" / "b", mode)
    for path in (tree, tree / "a", tree / "a" / "b", tree / "keep"):
        os.chown(path, NOBODY, NOBODY)
    child = os.fork()
    if child == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os._exit(1 if remove(tree) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not tree.exists()


def test_a_tree_deeper_than_any_descriptor_limit_goes(tree: Path) -> None:
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    assert remove(tree) == []
    assert not tree.exists()


def test_a_deep_tree_without_permissions_goes_too(tree: Path, open_path: Path) -> None:
    """A directory that may not be written to cannot be moved either: a job that made a few hundred of them, one in the
    other, must not end whoever removes them."""
    tree = tree.rename(open_path / tree.name)
    for path in (open_path, tree, tree / "a", tree / "a" / "b", tree / "keep"):
        os.chown(path, NOBODY, NOBODY)
    child = os.fork()
    if child == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.chdir(tree)
        for _ in range(700):
            os.mkdir("d")
            os.chdir("d")
        for _ in range(700):
            os.chmod(".", 0o500)
            os.chdir("..")
        try:
            left = remove(tree)
        except RecursionError:
            left = [{}]
        os._exit(1 if left else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not tree.exists()


def test_an_exhausted_budget_is_told(tree: Path) -> None:
    leftovers = remove_tree(str(tree), Budget(0), prefix="pilot-")
    assert leftovers
    assert "time" in str(leftovers[0]["cause"])


def test_names_that_are_no_text_go(tree: Path) -> None:
    os.mkdir(os.fsencode(tree) + b"/\xff\xfe")
    (tree / "fifo").parent.joinpath("new\nline").touch()
    os.mkfifo(tree / "fifo")
    assert remove(tree) == []


def test_what_cannot_be_removed_is_named_with_its_cause(tree: Path) -> None:
    set_immutable(tree / "a" / "b" / "file", on=True)
    try:
        leftovers = remove(tree)
        assert leftovers[0]["path"] == str(tree / "a" / "b" / "file")
        assert leftovers[0]["cause"] == "operation not permitted"
        assert not (tree / "keep").exists()
    finally:
        set_immutable(tree / "a" / "b" / "file", on=False)


def set_immutable(path: Path, *, on: bool) -> None:
    """What chattr +i does (ioctl_iflags(2)); root only."""
    get_flags, set_flags, immutable = 0x80086601, 0x40086602, 0x10
    with path.open("rb") as file:
        flags = array.array("I", [0])
        fcntl.ioctl(file, get_flags, flags)
        flags[0] = flags[0] | immutable if on else flags[0] & ~immutable
        fcntl.ioctl(file, set_flags, flags)
