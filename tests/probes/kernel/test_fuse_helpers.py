from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.probes.kernel.fuse_helpers import Helper, best_helper, find_helpers, parse_version
from pilot_agent.probes.mount_flags import parse_flags
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of, write_tree

NOSUID = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /usr rw,nosuid - ext4 /dev/sda2 rw\nx\n"


def test_helpers_are_found_once_and_version_3_first(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/usr/bin/fusermount3": "", "/usr/local/bin/fusermount": ""})
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "usr/bin/fusermount").symlink_to("fusermount3")
    found = find_helpers(Node(context.root), "/opt:relative")
    assert [helper.path for helper in found] == ["/usr/bin/fusermount3", "/usr/local/bin/fusermount"]
    assert not any(helper.able for helper in found)


def test_only_a_helper_of_root_with_the_setuid_bit_counts(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/usr/bin/fusermount3": ""})
    (tmp_path / "usr/bin/fusermount3").chmod(0o4755)
    (helper,) = find_helpers(Node(context.root), "")
    assert helper.setuid == helper.able == (os.geteuid() == 0)


def test_a_helper_on_a_mount_without_setuid_programs_has_no_rights() -> None:
    node = Node.of(context_of("el8_no_user_namespaces"))
    (free,) = find_helpers(node, "")
    (held,) = find_helpers(node, "", parse_flags(NOSUID))
    assert (free.able, free.version) == (True, "3.3.0")
    assert (held.able, held.nosuid, held.mount_point) == (False, True, "/usr")
    assert held.as_json() == {"path": "/usr/bin/fusermount3", "setuid": True, "nosuid": True, "version": "3.3.0"}


def test_the_search_path_is_looked_at_only_where_no_usual_directory_has_one(tmp_path: Path) -> None:
    (tmp_path / "fusermount3").write_text("")
    assert str(tmp_path / "fusermount3") not in {h.path for h in find_helpers(Node(), str(tmp_path))}
    context = write_tree(tmp_path / "node", {"/opt/fusermount3": ""})
    assert find_helpers(Node(context.root), "/opt") == []


def test_a_helper_that_everybody_may_exchange_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot_agent.probes.kernel.fuse_helpers.DIRECTORIES", ())
    own, exposed = tmp_path / "own", tmp_path / "exposed"
    for directory in (own, exposed):
        directory.mkdir()
        (directory / "fusermount3").write_text("#!/bin/sh\n")
        (directory / "fusermount3").chmod(0o755)
    # The directories of a test may be reached by its account alone, and then nobody else could exchange anything.
    for above in (tmp_path, *tmp_path.parents[:-2]):
        above.chmod(above.stat().st_mode | 0o001)
    exposed.chmod(0o777)
    assert [helper.path for helper in find_helpers(Node(), f"{exposed}:{own}")] == [f"{own}/fusermount3"]


def test_the_best_helper_is_one_with_rights() -> None:
    plain, able = Helper("/a", 0o755, 0), Helper("/b", 0o4755, 0, setuid=True)
    capable = Helper("/c", 0o755, 0, capabilities=True)
    assert best_helper([plain, able]) is able
    assert best_helper([plain, capable]) is capable
    assert best_helper([plain]) is plain
    assert best_helper([]) is None
    assert capable.as_json()["capabilities"] is True


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("fusermount3 version: 3.14.0\n", "3.14.0"),
        ("fusermount version: 2.9.2\n", "2.9.2"),
        ("", None),
        ("version: \n", None),
    ],
)
def test_versions_are_read(text: str, version: str | None) -> None:
    assert parse_version(text) == version


def test_the_helper_of_this_machine_tells_its_version() -> None:
    best = best_helper(find_helpers(Node(), ""))
    assert best is not None
    assert best.version
