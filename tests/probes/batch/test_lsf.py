from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.model import FactStatus
from pilot_agent.probes.batch.allocation import Bound, read_allocations
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.batch.lsf import parse_run_limit
from pilot_agent.probes.node import Node
from pilot_agent.probes.resources.cpu import probe_cpu
from tests.probes.trees import context_of, facts, limits, write_tree
from tests.probes.written import written_node


def test_slots_of_several_hosts_are_those_of_this_one(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "b.example.org\n"})
    environment = {"LSB_JOBID": "5", "LSB_MCPU_HOSTS": "a 16 b 4", "LSB_DJOB_NUMPROC": "20"}
    (found,) = read_allocations(Node(context.root), environment)
    assert found.cores == (Bound(4, "LSB_MCPU_HOSTS"),)


def test_the_number_of_all_slots_counts_on_one_host(tmp_path: Path) -> None:
    (found,) = read_allocations(Node(str(tmp_path)), {"LSB_JOBID": "5", "LSB_DJOB_NUMPROC": "6", "LSB_JOBINDEX": "0"})
    assert (found.cores, found.job_id) == ((Bound(6, "LSB_DJOB_NUMPROC"),), "5")


def test_an_element_of_an_array_says_all_that_lsf_knows() -> None:
    known = facts(probe_batch(context_of("lsf_power9")))
    assert {name: fact.value for name, fact in known.items() if fact.known} == {
        "batch.system": "lsf",
        "batch.job_id": "88101[7]",
        "batch.job_name": "pilots[1-9]",
        "batch.user": "pilot",
        "batch.queue": "batch",
        "batch.account": "HEP101",
        "batch.nodes": ["batch2", "h41n05", "h41n06"],
        "batch.node_index": 1,
        "batch.cores": 16,
        "batch.memory_mib": 65536,
        "batch.scratch": "/tmp/88101.tmpdir",
        "batch.start_time": 1795513601,
    }
    assert known["batch.end_time"].status is FactStatus.UNKNOWN
    assert limits(probe_cpu(context_of("lsf_power9")), "cpu.usable")["LSB_MCPU_HOSTS"] == 16


def test_hosts_of_another_place_are_not_believed(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "c\n"})
    assert read_allocations(Node(context.root), {"LSB_JOBID": "5", "LSB_MCPU_HOSTS": "a 16 b 4"}) == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60.0\n", 3600),
        ("3.5/hostA\n", 210),
        ("1440", 86400),
        ("00:03:00\n", 180),
        ("-\n", None),
        ("", None),
        ("3:30", None),
        ("1.0 L", None),
    ],
)
def test_the_run_limit_in_every_form_of_bjobs(text: str, seconds: int | None) -> None:
    assert parse_run_limit(text) == seconds


@given(st.text() | st.from_regex(r"[0-9:./-]{0,20}"))
def test_a_run_limit_of_any_text_is_a_time_or_none(text: str) -> None:
    found = parse_run_limit(text)
    assert found is None or found >= 0


def test_lsf_is_asked_how_long_the_job_may_run(tmp_path: Path) -> None:
    environment = {"LSB_JOBID": "88101", "LSB_JOBINDEX": "7", "LSB_HOSTS": "a"}
    asked = ("bjobs", "-noheader", "-o", "runtimelimit", "88101[7]")
    files = {"/proc/sys/kernel/hostname": "a\n", "/proc/stat": "btime 1795000000\n"}
    files |= {"/proc/self/stat": "30 (pilot) S 20 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9000 0 0\n"}
    files |= {"/proc/20/stat": "20 (1.lsf) S 10 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 8000 0 0\n"}
    files |= {"/proc/10/stat": "10 (res) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 7000 0 0\n"}
    known = facts(probe_batch(written_node(tmp_path, environment, {asked: "120.0\n"}, files)))
    assert (known["batch.walltime_seconds"].value, known["batch.walltime_seconds"].source) == (
        7200,
        "bjobs runtimelimit",
    )
    assert known["batch.end_time"].value == 1795000080 + 7200
