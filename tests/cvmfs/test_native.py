from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from pilot_agent.cvmfs.native import (
    RepositoryState,
    examine,
    find_native,
    is_repository_name,
    look,
    mounted_repositories,
    report,
)
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus
from pilot_agent.probes.namespaces import mount
from pilot_agent.probes.node import Node
from tests.probes.namespaced import in_namespace
from tests.probes.trees import write_tree


def repository(root: Path, name: str) -> None:
    (root / name).mkdir()
    (root / name / "new_repository").write_text("")


def test_repositories_with_content_answer_in_the_order_asked_for(tmp_path: Path) -> None:
    repository(tmp_path, "b.example.org")
    repository(tmp_path, "a.example.org")
    found = examine(str(tmp_path), ["b.example.org", "a.example.org", "b.example.org"])
    assert found == (RepositoryState("b.example.org"), RepositoryState("a.example.org"))


def test_a_missing_and_an_empty_repository_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.example.org").mkdir()
    missing, empty = examine(str(tmp_path), ["missing.example.org", "empty.example.org"])
    assert "no such directory" in missing.refused
    assert "empty directory" in empty.refused


def test_the_revision_is_read_where_the_client_tells_it(tmp_path: Path) -> None:
    repository(tmp_path, "a.example.org")
    os.setxattr(tmp_path / "a.example.org", "user.revision", b"4711")
    (state,) = examine(str(tmp_path), ["a.example.org"])
    assert state.revision == 4711


def test_a_revision_that_is_no_number_is_not_told(tmp_path: Path) -> None:
    repository(tmp_path, "a.example.org")
    os.setxattr(tmp_path / "a.example.org", "user.revision", b"\xffnew")
    assert examine(str(tmp_path), ["a.example.org"]) == (RepositoryState("a.example.org"),)


def silent_mount(directory: Path) -> int:
    """A FUSE mount whose server never answers."""
    directory.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    mount("silent", str(directory), "fuse", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0")
    return device


def test_one_that_hangs_does_not_hide_the_others(tmp_path: Path) -> None:
    repository(tmp_path, "good.example.org")

    def work() -> object:
        silent_mount(tmp_path / "hung.example.org")
        found = examine(str(tmp_path), ["hung.example.org", "good.example.org"], deadline_seconds=0.3)
        return [asdict(state) for state in found]

    hung, good = in_namespace(work)
    assert "hangs" in hung["refused"]
    assert good["refused"] == ""


def test_one_whose_client_died_is_told_so(tmp_path: Path) -> None:
    def work() -> object:
        os.close(silent_mount(tmp_path / "dead.example.org"))
        return [asdict(state) for state in examine(str(tmp_path), ["dead.example.org"])]

    (dead,) = in_namespace(work)
    assert "client of this mount has died" in dead["refused"]


def test_a_node_without_the_mount_point_is_refused_without_a_child(tmp_path: Path) -> None:
    (state,) = examine(str(tmp_path / "cvmfs"), ["a.example.org"])
    assert "this node has no" in state.refused


@pytest.mark.parametrize("name", ["", ".", "..", "../etc", "a/b.c", ".hidden.org", "name", "a b.org", "a\0.org"])
def test_what_is_no_repository_name_is_never_entered(tmp_path: Path, name: str) -> None:
    assert not is_repository_name(name)
    (state,) = examine(str(tmp_path), [name])
    assert "no repository name" in state.refused


def test_mounted_repositories_are_known_without_touching_them(tmp_path: Path) -> None:
    lines = (
        "1 0 0:1 / /cvmfs rw - autofs /etc/auto.cvmfs rw\n"
        "2 1 0:2 / /cvmfs/a.example.org ro - fuse cvmfs2 ro\n"
        "3 1 0:3 / /cvmfs/a.example.org/sub ro - fuse cvmfs2 ro\n"
        "4 1 0:4 / /data rw - ext4 /dev/b rw\n"
    )
    context = write_tree(tmp_path, {"/proc/self/mountinfo": lines})
    assert mounted_repositories(Node(context.root)) == ("a.example.org",)


def test_the_facts_name_who_answers_and_why_others_do_not() -> None:
    states = [RepositoryState("a.example.org", "", 7), RepositoryState("b.example.org", "broken")]
    known = {fact.name: fact for fact in report(states, mounted=False)}
    assert known["cvmfs.repositories"].value == ["a.example.org"]
    assert known["cvmfs.refused"].value == [{"repository": "b.example.org", "reason": "broken"}]
    assert known["cvmfs.revisions"].value == {"a.example.org": 7}
    assert known["cvmfs.mount_point"].status is FactStatus.ABSENT


def test_a_recording_is_not_looked_at(tmp_path: Path) -> None:
    found: list[Fact] = list(find_native(Context(root=str(tmp_path))))
    assert {fact.status for fact in found} == {FactStatus.UNKNOWN}


def test_this_machine_answers_for_what_is_configured() -> None:
    context = Context(config={"cvmfs": {"repositories": ["missing.example.org"]}})
    known = {fact.name: fact for fact in find_native(context)}
    assert known["cvmfs.repositories"].value == []
    assert known["cvmfs.refused"].value[0]["repository"] == "missing.example.org"


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.example.org").write_text("")
    assert b"Not a directory" in look(str(tmp_path / "file.example.org"))
