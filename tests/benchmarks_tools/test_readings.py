"""What is read from logs and from the kernel's files is what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import role
from benchmarks.node import slot_ad_moments
from benchmarks.processes import Memory, parse_rollup, parse_spent, spent_seconds
from benchmarks.services import Round, figures, parse_schedstat
from benchmarks.timeline import parse_imports

COLLECTOR_LOG = """\
11/21/26 02:46:27.123 (D_ALWAYS) MasterAd     : Inserting ** "< pilot_1 >"
11/21/26 02:46:28.250 MachineSlotAd  : Inserting ** "< slot1@pilot_1 , 10.77.0.11 >"
11/21/26 02:46:29.000 MachineSlotAd  : Updating ... "< slot1@pilot_1 , 10.77.0.11 >"
11/21/26 02:46:29.500 MachinePvtAd   : Inserting ** "< slot1@pilot_1 , 10.77.0.11 >"
"""

ROLLUP = """\
55d0c0e00000-7ffd2d5f2000 ---p 00000000 00:00 0                          [rollup]
Rss:               10944 kB
Pss:                9184 kB
Pss_Dirty:          4000 kB
Private_Clean:       100 kB
Private_Dirty:      4000 kB
"""

IMPORTS = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |   pilot_agent.light
import time:       250 |        350 | pilot_agent.lifecycle.guardian
pilot-agent said something
"""


def test_slot_ads_are_found_among_the_others() -> None:
    first, second = slot_ad_moments(COLLECTOR_LOG)
    assert first == 1795229188.25
    assert second - first == 0.75


def test_memory_is_read_in_kib() -> None:
    assert parse_rollup(ROLLUP) == Memory(rss_kib=10944, pss_kib=9184, private_kib=4100)


def test_cpu_time_is_that_of_a_process_and_of_what_ended_below_it() -> None:
    before = " ".join(str(number) for number in range(1, 11))
    assert parse_spent(f"77 (a) b (c)) S {before} 100 20 3000 400 20 0 1 0\n") == 3520


def test_the_cpu_time_of_an_ended_child_is_its_parents(tmp_path: Path) -> None:
    before = spent_seconds([os.getpid()])
    until = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-S", "-c", until], check=True)
    assert spent_seconds([os.getpid()]) - before > 0.2
    assert spent_seconds([os.getpid()], tmp_path) == 0


def test_imports_are_read_with_their_depth() -> None:
    light, guardian = parse_imports(IMPORTS)
    assert (light.module, light.own, light.depth) == ("pilot_agent.light", 100, 1)
    assert (guardian.module, guardian.own, guardian.cumulative, guardian.depth) == (
        "pilot_agent.lifecycle.guardian",
        250,
        350,
        0,
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/bin/python3", "-I", "/x/pilot.pyz", "run", "--config", "a"], "guardian"),
        (["/usr/bin/python3", "-I", "/x/pilot.pyz", "_keeper", "/w"], "keeper"),
        (["/usr/bin/python3", "-I", "/x/pilot.pyz", "_channel", "/w"], "_channel"),
        (["PILOT", "/w/ads.fifo"], "ad channel"),
        (["/bin/cat", "/w/ads"], "cat"),
        ([], "?"),
    ],
)
def test_a_process_is_called_by_its_command(words: list[str], expected: str) -> None:
    assert role(words) == expected


def test_the_time_on_a_processor_is_the_first_number_in_nanoseconds() -> None:
    assert parse_schedstat("1500000000 4711 99\n") == 1.5


def test_services_cost_what_one_keeper_takes_more_than_the_other() -> None:
    made = [Round(0.003, 0.001, 9.5, 9.0, 0.002, 0.4, 0.25)] * 10
    cpu, memory, seen, back = figures(made)
    assert cpu.value().median == pytest.approx(0.2)
    assert memory.value().median == pytest.approx(0.5)
    assert (seen.met(), cpu.met()) == (True, True)
    assert back.parts["over"] == pytest.approx(0.05)
