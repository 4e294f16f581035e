"""What others on the node can change is not believed, and what only looks so is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.probes.kernel.namespaces import mount
from pilot_agent.trust.local import code_writable_by_others, replaceable_by_others, writable_by_others
from tests.probes.namespaced import NOBODY, as_nobody, in_namespace

MS_RDONLY = 1
STRANGER = 12345


def file(directory: Path, mode: int = 0o644, name: str = "file") -> str:
    """A file with this mode."""
    path = directory / name
    path.write_text("x = 1\n")
    path.chmod(mode)
    return str(path)


def directory(above: Path, mode: int, name: str = "directory") -> Path:
    """A directory with this mode."""
    path = above / name
    path.mkdir()
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o400])
def test_a_file_that_only_its_owner_writes_is_believed(open_path: Path, mode: int) -> None:
    assert writable_by_others(file(open_path, mode)) == ""


@pytest.mark.parametrize(("mode", "who"), [(0o666, "everybody"), (0o602, "everybody"), (0o664, "everybody of its")])
def test_a_file_that_others_write_is_not(open_path: Path, mode: int, who: str) -> None:
    path = file(open_path, mode)
    assert writable_by_others(path).startswith(f"{path} may be written by {who}")


def test_a_file_of_another_account_is_not(open_path: Path) -> None:
    path = file(open_path)
    os.chown(path, STRANGER, -1)
    assert writable_by_others(path) == f"{path} belongs to the account {STRANGER}, and neither to root nor to this one"


def test_an_account_believes_root_and_itself_with_its_private_group(open_path: Path) -> None:
    of_root, own = file(open_path, 0o644, "root"), file(open_path, 0o664, "own")
    os.chown(own, NOBODY, NOBODY)
    assert as_nobody(lambda: [writable_by_others(of_root), writable_by_others(own)]) == ["", ""]


def test_a_directory_in_which_everybody_may_rename_spoils_what_is_below_it(open_path: Path) -> None:
    loose = directory(open_path, 0o777)
    path = file(directory(loose, 0o755, "inner"))
    expected = f"in {loose} everybody may rename and remove what is there (no sticky bit)"
    assert writable_by_others(path) == expected
    assert replaceable_by_others(str(loose / "inner")) == expected
    assert replaceable_by_others(str(loose)) == expected


def test_a_sticky_directory_spoils_nothing_but_itself(open_path: Path) -> None:
    sticky = directory(open_path, 0o1777)
    assert writable_by_others(file(sticky)) == ""
    assert replaceable_by_others(str(sticky)) == ""
    assert writable_by_others(str(sticky)) == f"{sticky} may be written by everybody"


def test_what_nobody_else_can_get_to_may_have_any_mode(open_path: Path) -> None:
    private = directory(open_path, 0o700, "private")
    loose = directory(private, 0o777)
    assert writable_by_others(file(loose, 0o666)) == ""
    assert replaceable_by_others(str(loose)) == ""


def test_the_private_directory_of_a_stranger_protects_nothing(open_path: Path) -> None:
    private = directory(open_path, 0o700, "private")
    loose = directory(private, 0o777)
    os.chown(private, STRANGER, -1)
    assert replaceable_by_others(str(loose))


def test_a_link_that_others_can_replace_is_not_believed(open_path: Path) -> None:
    target = file(open_path)
    loose = directory(open_path, 0o777)
    (loose / "link").symlink_to(target)
    assert str(loose) in writable_by_others(str(loose / "link"))
    (open_path / "link").symlink_to(file(loose))
    assert str(loose) in writable_by_others(str(open_path / "link"))


def test_directories_that_a_site_gave_to_a_batch_system_or_a_group_are_its_own_matter(open_path: Path) -> None:
    scratch = directory(open_path, 0o775)
    os.chown(scratch, STRANGER, STRANGER)
    assert replaceable_by_others(str(scratch)) == ""


def test_what_is_mounted_read_only_is_nobodys_to_change(tmp_path: Path) -> None:
    def work() -> object:
        mount("tmpfs", str(tmp_path), "tmpfs", MS_RDONLY, "size=1m,mode=0777,uid=0")
        return writable_by_others(str(tmp_path))

    assert in_namespace(work) == ""


def test_a_pipe_of_the_shell_is_believed() -> None:
    reader, writer = os.pipe()
    try:
        assert writable_by_others(f"/dev/fd/{reader}") == ""
    finally:
        os.close(reader)
        os.close(writer)


def test_what_is_not_there_is_told_by_whoever_reads_it(open_path: Path) -> None:
    assert writable_by_others(str(open_path / "missing")) == ""
    assert code_writable_by_others(str(open_path / "missing")) == ""


def test_all_code_of_a_directory_is_looked_at_and_nothing_else(open_path: Path) -> None:
    place = directory(open_path, 0o755)
    file(place, name="plugin.py")
    file(place, 0o666, name="notes.txt")
    package = directory(place, 0o755, "package")
    file(package, name="__init__.py")
    assert code_writable_by_others(str(place)) == ""
    deep = directory(package, 0o755, "deep")
    for above, name in ((deep, "part.py"), (place, "native.so")):
        loose = file(above, 0o646, name)
        assert code_writable_by_others(str(place)) == f"{loose} may be written by everybody"
        os.chmod(loose, 0o644)
    metadata = file(directory(place, 0o755, "x-1.dist-info"), 0o666, "entry_points.txt")
    assert metadata in code_writable_by_others(str(place))
    place.chmod(0o777)
    assert code_writable_by_others(str(place)) == f"{place} may be written by everybody"
