from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import Finding
from pilot_agent.probes.mountinfo import mount_of, parse_mountinfo
from pilot_agent.probes.node import Node
from pilot_agent.probes.recording import finish_recording
from pilot_agent.probes.resources.cgroup import levels, parse_cpu_max, parse_memberships
from pilot_agent.probes.resources.control_groups import probe_cgroup
from pilot_agent.probes.resources.cpu import probe_cpu
from pilot_agent.probes.resources.memory import probe_memory
from tests.probes.trees import write_tree

CGROUP2 = "28 23 0:25 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def test_all_ancestors_are_climbed_to_the_mount_point(tmp_path: Path) -> None:
    context = write_tree(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/a/b\n",
            "/proc/self/mountinfo": CGROUP2.format(root="/"),
            "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        },
    )
    found = list(levels(Node(context.root), "cpu"))
    assert [level.path for level in found] == ["/a/b", "/a", "/"]
    assert found[0].directory == "/sys/fs/cgroup/a/b"


def test_a_mounted_part_of_the_hierarchy_is_entered_at_its_root(tmp_path: Path) -> None:
    context = write_tree(
        tmp_path,
        {
            "/proc/self/cgroup": "4:memory:/docker/abc/job\n",
            "/proc/self/mountinfo": "31 30 0:29 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1048576\n",
        },
    )
    found = list(levels(Node(context.root), "memory"))
    assert [(level.path, level.directory) for level in found] == [
        ("/docker/abc/job", "/sys/fs/cgroup/memory/job"),
        ("/docker/abc", "/sys/fs/cgroup/memory"),
    ]


@pytest.mark.parametrize("path", ["/../../outside", "/not/mounted/here"])
def test_a_group_that_cannot_be_seen_leaves_what_the_mount_shows(tmp_path: Path, path: str) -> None:
    context = write_tree(
        tmp_path,
        {
            "/proc/self/cgroup": f"0::{path}\n",
            "/proc/self/mountinfo": CGROUP2.format(root="/"),
            "/sys/fs/cgroup/cpu.max": "max\n",
        },
    )
    assert [level.directory for level in levels(Node(context.root), "cpu")] == ["/sys/fs/cgroup"]


def test_both_versions_are_climbed_on_a_hybrid_node(tmp_path: Path) -> None:
    context = write_tree(
        tmp_path,
        {
            "/proc/self/cgroup": "4:cpu,cpuacct:/\n0::/\n",
            "/proc/self/mountinfo": "31 30 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
            "32 30 0:30 / /cg/unified rw - cgroup2 cgroup2 rw\n",
            "/cg/cpu/tasks": "",
            "/cg/unified/cgroup.procs": "",
        },
    )
    assert [level.version for level in levels(Node(context.root), "cpu")] == [1, 2]


def test_without_a_list_of_groups_there_is_nothing_to_climb(tmp_path: Path) -> None:
    assert list(levels(Node(str(tmp_path)), "cpu")) == []


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", None), ("250000 100000", 2.5), ("100000", 1.0), ("0 100000", None), ("1 0", None), ("x y z", None)],
)
def test_quotas_are_cores(text: str, cores: float | None) -> None:
    assert parse_cpu_max(text) == cores


def test_damaged_lines_are_left_out() -> None:
    assert parse_memberships("x\n1:cpu\n2:cpu:relative\n3:cpu,cpuacct:/a:b\n") == ((("cpu", "cpuacct"), "/a:b"),)
    assert parse_mountinfo("1 2 3\n1 2 0:3 / /x rw -\n") == ()


def test_blanks_in_mount_points_are_read() -> None:
    (mount,) = parse_mountinfo("1 2 0:3 / /a\\040b rw - nfs4 server:/x rw\n")
    assert mount.point == "/a b"
    assert mount.shared


def test_the_last_mount_over_a_directory_counts() -> None:
    mounts = parse_mountinfo(
        "1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /tmp rw - tmpfs t rw\n3 1 0:3 / /tmp rw - xfs /dev/b rw\n"
    )
    found = [mount_of(mounts, path) for path in ("/tmp/x", "/tmpx", "/tmp")]
    assert [mount.kind if mount else None for mount in found] == ["xfs", "ext4", "xfs"]


@pytest.mark.parametrize("probe", [probe_cpu, probe_memory, probe_cgroup])
def test_a_recording_of_this_machine_gives_the_same_facts_again(
    tmp_path: Path, probe: Callable[[Context], Iterator[Finding]]
) -> None:
    kept = str(tmp_path / "kept")
    found = list(probe(Context(record=kept)))
    finish_recording(kept, {}, {})
    assert list(probe(Context(root=kept))) == found
