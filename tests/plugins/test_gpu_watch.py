"""GPUs that are lost while jobs run, seen through a double of NVML's library that changes its answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.lifecycle.acceptance import Acceptance
from pilot_agent.lifecycle.gpu_watch import LOST, LOST_ATTRIBUTE, GpuWatch
from pilot_agent.model import Fact
from pilot_agent.plugins.gpu_watch import look_again
from pilot_agent.probes.gpu import gpu
from tests.probes.doubles import nvml_double

TWO = """\
count 2
driver 550.90.07
0.uuid GPU-1
0.name NVIDIA H100
0.memory_mib 81920 80000
1.uuid GPU-2
1.name NVIDIA H100
1.memory_mib 81920 80000
"""


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """What a task is given on a node on which two GPUs worked when the pilot began."""
    monkeypatch.setattr(gpu, "shows_nvidia", lambda node, names: True)
    environment = nvml_double(tmp_path, TWO)
    made = Context(environment=environment, config={"probes": {"gpu_test": True}})
    facts = {fact.name: fact for fact in gpu.probe_gpu(replace(made, config={})) if isinstance(fact, Fact)}
    assert facts["gpu.count"].value == 2, facts
    return replace(made, facts=facts)


def become(tmp_path: Path, answers: str) -> None:
    """The library answers otherwise from now on."""
    (tmp_path / "libnvidia-ml.so.1.txt").write_text(answers)


def test_gpus_that_work_are_not_lost(context: Context) -> None:
    assert look_again(context) == {LOST_ATTRIBUTE: None}


def test_one_that_fell_off_the_bus_is_named_with_the_reason(context: Context, tmp_path: Path) -> None:
    become(tmp_path, TWO.replace("1.uuid GPU-2", "1.handle !15"))
    told = str(look_again(context)[LOST_ATTRIBUTE])
    assert told.startswith("NVIDIA H100 GPU-2: ")
    assert "GPU-1" not in told
    assert "bus" in told


def test_one_that_a_job_has_for_itself_is_not_lost(context: Context, tmp_path: Path) -> None:
    become(tmp_path, TWO + "1.compute_mode 3\n1.processes 77:10\nprocess.77 /usr/bin/train\n")
    assert look_again(context) == {LOST_ATTRIBUTE: None}
    become(tmp_path, TWO + "1.compute_mode 3\n1.processes 77:10\n1.remapped_rows 0 1 0 1\n")
    assert "the site must have the GPU replaced" in str(look_again(context)[LOST_ATTRIBUTE])


def test_one_that_is_not_listed_any_more_is_lost(context: Context, tmp_path: Path) -> None:
    become(tmp_path, TWO.replace("count 2", "count 1"))
    told = str(look_again(context)[LOST_ATTRIBUTE])
    assert told.startswith("NVIDIA H100 GPU-2: ")
    assert "GPU-1" not in told


def test_a_driver_that_stopped_loses_all_of_them(context: Context, tmp_path: Path) -> None:
    become(tmp_path, "init !18\n")
    told = str(look_again(context)[LOST_ATTRIBUTE])
    assert ("GPU-1: " in told, "GPU-2: " in told) == (True, True)


class Told:
    """Hears of events, and of what is put into the ad."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def write(self, name: str, **data: object) -> None:
        self.events.append(name)

    def update(self, attributes: object) -> None:
        return


def test_no_job_begins_while_a_gpu_is_lost() -> None:
    told = Told()
    acceptance = Acceptance(told, lambda: None)  # type: ignore[arg-type]
    watch = GpuWatch(told, acceptance)  # type: ignore[arg-type]
    watch.hear({LOST_ATTRIBUTE: None})
    for _ in range(2):
        watch.hear({LOST_ATTRIBUTE: "NVIDIA H100 GPU-2: fell off the bus"})
        watch.hear({"Another": 1})
        assert acceptance.reasons == {LOST}
    watch.hear({LOST_ATTRIBUTE: None})
    assert acceptance.reasons == set()
    assert told.events == ["gpu.lost", "gpu.back"]
