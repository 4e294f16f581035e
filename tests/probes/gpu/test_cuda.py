"""The test of a device through a double of CUDA's driver library. No NVIDIA code and no device is involved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilot_agent.probes.answers import Answer
from pilot_agent.probes.gpu.cuda import judge_test, program, try_device
from pilot_agent.probes.node import Node
from tests.probes.doubles import cuda_double

IDENTITIES = ("GPU-1b2c", "0000:17:00.0")


def outcome(directory: Path, behaviour: str, identity: str = IDENTITIES[0], *, seconds: float = 60.0) -> Any:
    environment = cuda_double(directory, behaviour)
    return Node("/").ask("cuda", lambda: try_device(identity, environment), seconds=seconds)


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_device_that_computes_right_passes(tmp_path: Path, identity: str) -> None:
    answer = outcome(tmp_path, "right", identity)
    assert answer.value["wrong"] == 0
    assert judge_test(answer) == ""


def test_a_single_wrong_word_is_found(tmp_path: Path) -> None:
    answer = outcome(tmp_path, "wrong")
    place, found, expected = answer.value["first"]
    assert (place, found ^ expected) == (1 << 19, 1)
    assert "computes wrong: 1 of 1048576 words" in judge_test(answer)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("fail cuInit 802", "nvidia-fabricmanager"),
        ("fail cuMemAlloc_v2 2", "CUDA_ERROR_OUT_OF_MEMORY: no memory of it is free"),
        ("fail cuCtxCreate_v2 46", "another process holds it exclusively"),
        ("fail cuModuleLoadData 222", "the site must update the driver"),
        ("fail cuCtxSynchronize 719", "the program failed on it"),
        ("fail cuMemcpyDtoH_v2 214", "uncorrectable memory error"),
        ("fail cuLaunchKernel 12345", "cuLaunchKernel gave 12345: the site must repair it"),
        ("die", "ended by signal 6"),
    ],
)
def test_a_device_that_fails_says_where_and_what_to_do(tmp_path: Path, behaviour: str, words: str) -> None:
    assert words in judge_test(outcome(tmp_path, behaviour))


def test_a_device_that_hangs_does_not_pass(tmp_path: Path) -> None:
    assert "did not end in time" in judge_test(outcome(tmp_path, "hang", seconds=0.5))


def test_without_a_driver_library_it_could_not_be_tested(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("no library")
    answer = Node("/").ask("cuda", lambda: try_device("GPU-1", {"LD_LIBRARY_PATH": str(tmp_path)}), seconds=60)
    assert judge_test(answer)


@pytest.mark.parametrize("value", [None, [], {"error": []}, {"error": 0}, {"wrong": 0}, {"error": True, "wrong": 1}])
def test_a_damaged_answer_does_not_pass(value: Any) -> None:
    assert judge_test(Answer(value))


def test_old_devices_get_a_program_for_them() -> None:
    assert ".target sm_30" in program(3)
    assert ".target sm_50" in program(9)
