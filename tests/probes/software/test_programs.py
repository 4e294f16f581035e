from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.hookspecs import Context
from pilot_agent.probes.node import Node
from pilot_agent.probes.recording import finish_recording
from pilot_agent.probes.software.programs import Places, find_programs
from pilot_agent.probes.software.stamps import Stamp, read_stamps, search_stamp
from tests.probes.trees import write_tree

STAMP = Stamp("/usr/bin/x", b"$V: ", rb"\$V: ([0-9]{1,3}\.[0-9]{1,3})")
MOUNTS = """\
61 1 253:0 / / rw,relatime - xfs /dev/sda1 rw
62 61 253:1 / /opt rw,nosuid,nodev - xfs /dev/sda2 rw
90 61 0:51 / /share rw - nfs4 filer:/share rw
91 61 0:52 / /cvmfs rw - autofs /etc/auto.cvmfs rw
92 91 0:53 / /cvmfs/a.example.org ro - fuse /dev/fuse ro
93 90 253:9 / /share/local rw - ext4 /dev/sdb1 rw
"""


def places(root: Path, files: dict[str, str] | None = None) -> Places:
    return Places.of(Node(write_tree(root, {"/proc/self/mountinfo": MOUNTS} | (files or {})).root))


def test_links_are_followed_as_far_as_local_file_systems_go(tmp_path: Path) -> None:
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "usr" / "bin" / "a").symlink_to("../../etc/alternatives/a")
    (tmp_path / "etc" / "alternatives").mkdir(parents=True)
    (tmp_path / "etc" / "alternatives" / "a").symlink_to("/share/sw/a")
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "sw").symlink_to("elsewhere")
    found = places(tmp_path)
    assert found.resolve("/bin") == "/usr/bin"
    assert found.resolve("/bin/../bin/./a") == "/share/sw/a"
    assert found.resolve("/bin/a", near=False) == "/share/elsewhere/a"


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert places(tmp_path).resolve("/a/x").endswith("/x")


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/usr/bin", None),
        ("/share", "/share"),
        ("/share/bin", "/share"),
        ("/shared/bin", None),
        ("/share/local/bin", None),
        ("/cvmfs/b.example.org", "/cvmfs"),
        ("/cvmfs/a.example.org/bin", "/cvmfs/a.example.org"),
    ],
)
def test_what_may_hang_is_known_by_its_mount(tmp_path: Path, path: str, point: str | None) -> None:
    mount = places(tmp_path).far(path)
    assert (mount.point if mount else None) == point


def test_a_node_that_boots_from_a_network_is_looked_at_like_any_other(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/self/mountinfo": "1 0 0:9 / / rw - nfs4 filer:/root rw\n"})
    assert Places.of(Node(context.root)).far("/usr/bin") is None


def test_how_a_file_system_is_mounted_is_told(tmp_path: Path) -> None:
    found = places(tmp_path)
    mount = next(mount for mount in found.mounts if mount.point == "/opt")
    assert found.flags(mount) == ("rw", "nosuid", "nodev")


def test_programs_come_in_the_order_of_the_search_path_and_each_file_once(tmp_path: Path) -> None:
    found = places(tmp_path, {"/a/tool": "", "/b/tool": "", "/b/other": "", "/c/tool/file": ""})
    (tmp_path / "a" / "other").symlink_to("../b/other")
    (tmp_path / "d").symlink_to("a")
    programs = find_programs(
        found, lambda name: name in ("tool", "other"), ["/b", "relative", "/d", "/a", "/c", "/b\0"]
    )
    assert [program.path for program in programs.named("tool")] == ["/b/tool", "/d/tool"]
    assert [program.path for program in programs.named("other", "tool")] == ["/b/other", "/b/tool", "/d/tool"]
    assert not any(program.executable for program in programs.found)


def test_a_search_path_without_end_is_cut_and_told(tmp_path: Path) -> None:
    programs = find_programs(places(tmp_path), lambda _: True, [f"/{number}" for number in range(70)])
    assert len(programs.untold) == 6
    assert set(programs.untold.values()) == {"more than 64 directories"}


def test_a_version_is_found_behind_text_that_only_looks_like_it() -> None:
    assert search_stamp(b"\0$V: %s\0..$V: 24.0 ", STAMP) == "24.0"
    assert search_stamp(b"$V: " * 500 + b"$V: 1.2", STAMP) is None
    assert search_stamp(b"", STAMP) is None


def test_versions_of_missing_and_empty_files_are_left_out(tmp_path: Path) -> None:
    node = Node(write_tree(tmp_path, {"/usr/bin/x": "$V: 1.2", "/usr/bin/empty": ""}).root)
    stamps = [STAMP, Stamp("/usr/bin/empty", STAMP.text, STAMP.form), Stamp("/none", STAMP.text, STAMP.form)]
    assert read_stamps(node, stamps) == {"/usr/bin/x": "1.2"}
    assert read_stamps(node, []) == {}


def test_versions_are_read_from_files_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x7fELF" * 1000 + b"$V: 7.25")
    path = str(tmp_path / "x")
    assert read_stamps(Node(), [Stamp(path, STAMP.text, STAMP.form)]) == {path: "7.25"}


@given(st.binary(max_size=300))
def test_any_content_has_a_version_or_none(content: bytes) -> None:
    found = search_stamp(content, STAMP)
    assert found is None or found.encode() in content


@given(st.lists(st.sampled_from(["/", "a", "..", ".", "b", "//", "share", "é"]), max_size=12))
def test_a_path_is_resolved_without_leaving_the_root(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        resolved = places(Path(root)).resolve("/".join(parts))
    assert resolved.startswith("/")
    assert ".." not in resolved.split("/") or "share" in parts


def executable(path: Path, text: str = "exit 0") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("mode", "why"), [(0o777, ""), (0o1777, "the sticky bit keeps what is there, not what comes")])
def test_programs_that_everybody_may_exchange_are_passed_over_with_the_reason(
    open_path: Path, mode: int, why: str
) -> None:
    loose, tight = open_path / "loose", open_path / "tight"
    planted = executable(loose / "tool")
    own = executable(tight / "tool")
    (tight / "link").symlink_to(loose / "tool")
    (tight / "open").write_text("")
    (tight / "open").chmod(0o777)
    loose.chmod(mode)
    programs = find_programs(Places.of(Node()), {"tool", "link", "open"}.__contains__, [str(loose), str(tight)])
    assert [program.path for program in programs.found] == [own]
    assert programs.untold == {
        planted: f"passed over: everybody may write to {loose}",
        f"{tight}/link": f"passed over: everybody may write to {loose}",
        f"{tight}/open": f"passed over: everybody may write to {tight}/open",
    }, why


def test_a_directory_behind_one_that_is_closed_to_others_is_nobody_elses_to_write(open_path: Path) -> None:
    (open_path / "private").mkdir(mode=0o700)
    path = executable(open_path / "private" / "loose" / "tool")
    (open_path / "private" / "loose").chmod(0o777)
    programs = find_programs(Places.of(Node()), "tool".__eq__, [os.path.dirname(path)])
    assert [program.path for program in programs.found] == [path]


def test_what_was_passed_over_is_passed_over_in_the_recording_too(open_path: Path) -> None:
    planted = executable(open_path / "loose" / "tool")
    (open_path / "loose").chmod(0o777)
    kept = str(open_path / "kept")
    live = find_programs(Places.of(Node.of(Context(record=kept))), "tool".__eq__, [os.path.dirname(planted)])
    finish_recording(kept, {}, {})
    assert live.untold
    assert find_programs(Places.of(Node.of(Context(root=kept))), "tool".__eq__, [os.path.dirname(planted)]) == live
