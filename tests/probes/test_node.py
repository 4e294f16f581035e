from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import configured_integer, parse_cpu_list, parse_integer


def test_a_link_out_of_a_recording_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    root.mkdir()
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "relative").symlink_to("../secret")
    node = Node(str(root))
    assert node.read("/absolute") is None
    assert node.read("/relative") is None
    assert node.read("/../secret") is None
    assert not node.exists("/absolute")


def test_a_link_inside_a_recording_is_followed(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "file").write_text("inside\n")
    (tmp_path / "file").symlink_to("usr/file")
    assert Node(str(tmp_path)).read_line("/file") == "inside"


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    node = Node(str(tmp_path))
    assert node.read("/missing") is None
    assert node.read("/directory") is None
    assert node.read("/fifo") == ""
    assert node.read("/a\0b") is None
    assert node.names("/missing") == []


def test_only_the_root_itself_is_live() -> None:
    assert Node().live
    assert Node("//").live
    assert not Node("/tmp").live


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("0-3,8\n", {0, 1, 2, 3, 8}),
        ("5", {5}),
        ("0-11:2/4", {0, 1, 4, 5, 8, 9}),
        ("", None),
        ("\n", None),
        ("3-1", None),
        ("0-", None),
        ("0,,1", None),
        ("0-9999999", None),
        ("0-7:3/0", None),
        ("0-7:2", None),
        ("x", None),
    ],
)
def test_kernel_lists_are_read_or_refused(text: str, members: set[int] | None) -> None:
    assert parse_cpu_list(text) == (None if members is None else frozenset(members))


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "max", "1_0", "²", "9" * 30])
def test_only_plain_digits_are_a_number(text: str | None) -> None:
    assert parse_integer(text) is None


def test_a_configured_number_must_be_a_positive_one() -> None:
    assert configured_integer({"site": {"cpus": 4}}, "site", "cpus") == 4
    for config in ({}, {"site": None}, {"site": {"cpus": True}}, {"site": {"cpus": 0}}, {"site": {"cpus": "4"}}):
        assert configured_integer(config, "site", "cpus") is None


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_program_that_everybody_may_exchange_is_not_run_but_the_next_of_its_name(open_path: Path) -> None:
    planted = script(open_path / "loose" / "tool", f"touch {open_path}/ran")
    planted.parent.chmod(0o777)
    script(planted.parent / "helper", f"touch {open_path}/ran")
    script(open_path / "tight" / "tool", "echo $1; helper")
    path = {"PATH": f"relative:{planted.parent}:{open_path}/tight"}
    answer = Node().run(["tool", "it"], environment=path)
    assert (answer.argv, answer.stdout) == (("tool", "it"), "it\n")
    assert "helper" in answer.stderr
    alone = Node().run(["tool"], environment={"PATH": str(planted.parent)})
    told = f"{planted.parent} was passed over: everybody may write to {planted.parent}"
    assert alone.problem == f"tool was not found where it may be started from: {told}"
    assert not alone.missing
    assert not (open_path / "ran").exists()


def test_a_program_that_is_nowhere_is_missing(tmp_path: Path) -> None:
    assert Node().run(["no-such-program"], environment={"PATH": str(tmp_path)}).missing
