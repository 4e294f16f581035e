from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.probes.batch.ancestry import Ancestor, ancestors, parse_stat, started_by, vouched_for
from pilot_agent.probes.node import Node
from tests.probes.trees import write_tree

LINE = "{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 0 0\n"


def test_a_programs_name_may_look_like_the_rest_of_the_line() -> None:
    assert parse_stat(LINE.format(pid=7, name="a) S 1 (b", parent=3, ticks=50)) == (Ancestor("a) S 1 (b", 50), 3)


@pytest.mark.parametrize("text", ["", "7 (x", "7 (x) S", "7 x S 3 1 1"])
def test_a_damaged_line_is_no_process(text: str) -> None:
    assert parse_stat(text) is None


def test_the_ancestors_of_this_process_begin_with_itself() -> None:
    own = Path("/proc/self/comm").read_text().strip()
    found = list(ancestors(Node("/")))
    assert found[0].name == own
    assert len(found) > 1 or os.getppid() <= 1


def test_processes_that_are_each_others_parents_do_not_hang(tmp_path: Path) -> None:
    files = {"/proc/self/stat": LINE.format(pid=7, name="a", parent=8, ticks=1)}
    files |= {f"/proc/{pid}/stat": LINE.format(pid=pid, name="b", parent=15 - pid, ticks=1) for pid in (7, 8)}
    context = write_tree(tmp_path, files)
    assert len(list(ancestors(Node(context.root)))) == 64


def test_without_the_kernels_boot_time_no_start_is_known(tmp_path: Path) -> None:
    files = {
        "/proc/self/stat": LINE.format(pid=7, name="a", parent=8, ticks=1),
        "/proc/8/stat": LINE.format(pid=8, name="pbs_mom", parent=1, ticks=1),
    }
    node = Node(write_tree(tmp_path, files).root)
    assert vouched_for(node, (), ("pbs_mom",))
    assert started_by(node, ("pbs_mom",)) is None
