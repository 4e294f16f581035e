from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact
from pilot_agent.probes.batch.ancestry import (
    Ancestor,
    ancestors,
    oldest_of_account,
    parse_stat,
    started_by,
    vouched_for,
)
from pilot_agent.probes.batch.batch import probe_batch
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


def of_accounts(root: Path, *accounts: str) -> Node:
    """A node on which this process (number 30) and those above it, each 100 s older, belong to these accounts."""
    files = {"/proc/stat": "cpu 1\nbtime 1795000000\n"}
    for place, account in enumerate(accounts):
        pid = 30 - place
        files |= {
            f"/proc/{'self' if pid == 30 else pid}/stat": LINE.format(
                pid=pid, name="x", parent=pid - 1, ticks=90000 - 10000 * place
            ),
            f"/proc/{'self' if pid == 30 else pid}/status": f"Name:\tx\nUid:\t{account}\t0\t0\t0\n",
        }
    return Node(write_tree(root, files).root)


@pytest.mark.parametrize(
    ("accounts", "started"),
    [
        (("1000", "1000", "1000", "0"), 1795000700),
        (("1000", "0", "1000"), 1795000900),
        (("1000", "1000"), 1795000800),
        (("0", "0"), None),
        (("", "1000"), None),
    ],
)
def test_the_oldest_process_of_the_account_began_with_the_job(
    tmp_path: Path, accounts: tuple[str, ...], started: int | None
) -> None:
    assert oldest_of_account(of_accounts(tmp_path, *accounts)) == started


def test_a_job_whose_system_tells_no_start_began_with_its_accounts_oldest_process(tmp_path: Path) -> None:
    node = of_accounts(tmp_path, "1000", "1000", "0")
    context = Context(root=node.root, environment={"PBS_JOBID": "5", "PBS_WALLTIME": "3600"})
    known = {found.name: found for found in probe_batch(context) if isinstance(found, Fact)}
    assert known["batch.start_time"].value == 1795000800
    assert known["batch.start_time"].source == "start of the oldest process of this account above the pilot"
    assert known["batch.end_time"].value == 1795004400
