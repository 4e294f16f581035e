from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.model import FactStatus
from pilot_agent.probes.node import Node
from pilot_agent.probes.system.limits import find_limits, parse_limits
from tests.probes.trees import write_tree

TEXT = """\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max stack size            8388608              unlimited            bytes     
Max core file size        0                    unlimited            bytes     
Max processes             4096                 513413               processes 
Max open files            1024                 262144               files     
Max locked memory         65536                65536                bytes     
Max nice priority         0                    0                    
"""  # noqa: W291


def test_soft_and_hard_limits_have_the_units_of_their_names(tmp_path: Path) -> None:
    fact = find_limits(Node(write_tree(tmp_path, {"/proc/self/limits": TEXT}).root))
    assert fact.value == {
        "cpu_seconds": {"soft": "unlimited", "hard": "unlimited"},
        "stack_kib": {"soft": 8192, "hard": "unlimited"},
        "core_kib": {"soft": 0, "hard": "unlimited"},
        "nproc": {"soft": 4096, "hard": 513413},
        "nofile": {"soft": 1024, "hard": 262144},
        "memlock_kib": {"soft": 64, "hard": 64},
    }


def test_limits_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    assert find_limits(Node(str(tmp_path))).status is FactStatus.UNKNOWN


@pytest.mark.parametrize(
    "line", ["Max open files  x  5  files", "Max open files  5", "Max open files", "open files  1  2"]
)
def test_a_damaged_line_costs_its_own_limit_only(line: str) -> None:
    assert parse_limits(f"{line}\n{TEXT}") == parse_limits(TEXT)
    assert parse_limits(line) == {}


def test_this_process_has_the_limits_that_it_asks_the_kernel_for() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    assert find_limits(Node()).value["nofile"] == {
        "soft": "unlimited" if soft == unlimited else soft,
        "hard": "unlimited" if hard == unlimited else hard,
    }


@given(st.lists(st.tuples(st.sampled_from(["nofile", "nproc"]), st.integers(0, 10**17), st.integers(0, 10**17))))
def test_numbers_are_kept_whatever_the_columns(rows: list[tuple[str, int, int]]) -> None:
    words = {"nofile": "Max open files", "nproc": "Max processes"}
    text = "\n".join(f"{words[name]}   {soft}  {hard} units" for name, soft, hard in rows)
    assert parse_limits(text) == {name: {"soft": soft, "hard": hard} for name, soft, hard in rows}


def test_the_number_of_open_files_stands_first_as_a_page_shows_only_the_beginning(tmp_path: Path) -> None:
    fact = find_limits(Node(write_tree(tmp_path, {"/proc/self/limits": TEXT}).root))
    assert next(iter(fact.value)) == "nofile"
