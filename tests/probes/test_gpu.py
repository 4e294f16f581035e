from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml
import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.amd import gfx_name, parse_properties
from pilot_agent.probes.device import Gpu
from pilot_agent.probes.gpu import has_nvidia, listed_by_driver, parse_driver_version, probe_gpu, select
from pilot_agent.probes.node import Node
from pilot_agent.probes.nvml import list_devices, read_nvidia_gpus
from tests.probes.trees import context_of, facts, write_tree

A = Gpu("nvidia", 0, "GPU-aaaa1111", "A100")
B = Gpu("nvidia", 1, "GPU-bbbb2222", "A100")
C1 = Gpu("nvidia", 2, "MIG-cccc3333", "A100 MIG 1g.5gb", parent="GPU-cccc0000")
C2 = Gpu("nvidia", 2, "MIG-cccc4444", "A100 MIG 1g.5gb", parent="GPU-cccc0000")
ALL = (A, B, C1, C2)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("0", [A]),
        ("1,0", [A, B]),
        ("GPU-bbbb", [B]),
        ("gpu-BBBB2222", [B]),
        ("GPU-", []),
        ("2", [C1]),
        ("GPU-cccc0000", [C1]),
        ("MIG-cccc4444", [C2]),
        ("MIG-cccc", []),
        ("0,7,1", [A]),
        ("0,x,1", [A]),
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
        ("10000", []),
        ("0,0", [A]),
        (" 1 ", [B]),
        ("²", []),
    ],
)
def test_the_variable_leaves_what_cuda_would_see(value: str, left: list[Gpu]) -> None:
    found, detail = select(ALL, {"CUDA_VISIBLE_DEVICES": value}, ("CUDA_VISIBLE_DEVICES",))
    assert list(found) == left
    assert f"{len(left)} of 4" in detail


def test_without_the_variable_all_are_left() -> None:
    assert select(ALL, {}, ("CUDA_VISIBLE_DEVICES",)) == (ALL, "")


def test_numbers_of_different_models_are_doubted() -> None:
    mixed = (A, Gpu("nvidia", 1, "GPU-x", "T4"))
    variables = ("CUDA_VISIBLE_DEVICES",)
    assert "PCI order" in select(mixed, {"CUDA_VISIBLE_DEVICES": "0"}, variables)[1]
    ordered = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert "PCI order" not in select(mixed, ordered, variables)[1]


@dataclass
class Board:
    """A device as NVML answers for it: a value, or the number of an error."""

    fields: Mapping[str, Any]
    instances: Sequence[Board] = ()
    mig: Any = field(default_factory=lambda: pynvml.NVML_ERROR_NOT_SUPPORTED)


@dataclass
class Memory:
    total: int


class Library:
    """NVML's calls over a list of boards, with NVML's own errors."""

    NVMLError = pynvml.NVMLError
    NVML_ERROR_NO_PERMISSION = pynvml.NVML_ERROR_NO_PERMISSION
    NVML_ERROR_GPU_IS_LOST = pynvml.NVML_ERROR_GPU_IS_LOST
    NVML_ERROR_RESET_REQUIRED = pynvml.NVML_ERROR_RESET_REQUIRED

    def __init__(self, boards: Sequence[Board | int]) -> None:
        self.boards = boards
        self.nvmlDeviceGetUUID = self._getter("uuid")
        self.nvmlDeviceGetName = self._getter("name")
        self.nvmlDeviceGetMemoryInfo = self._getter("memory")
        self.nvmlDeviceGetCudaComputeCapability = self._getter("capability")

    @staticmethod
    def _value(value: Any) -> Any:
        if isinstance(value, int):
            raise pynvml.NVMLError(value)
        return value

    def _getter(self, name: str) -> Callable[[Board], Any]:
        return lambda board: self._value(board.fields.get(name, pynvml.NVML_ERROR_NOT_SUPPORTED))

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self._value(self.boards[index])

    def nvmlDeviceGetMigMode(self, board: Board) -> Any:
        return self._value(board.mig)

    def nvmlDeviceGetMaxMigDeviceCount(self, board: Board) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, board: Board, index: int) -> Board:
        if index >= len(board.instances):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return board.instances[index]


WHOLE = Board({"uuid": "GPU-1", "name": "H100", "memory": Memory(80 << 30), "capability": (9, 0)})


def test_a_whole_device_is_described() -> None:
    assert list(list_devices(Library([WHOLE]))) == [Gpu("nvidia", 0, "GPU-1", "H100", 81920, "9.0")]


def test_a_field_that_is_not_told_does_not_hide_the_others() -> None:
    partial = Board({"uuid": b"GPU-2", "name": pynvml.NVML_ERROR_NO_PERMISSION, "capability": (8, 0)})
    assert list(list_devices(Library([partial]))) == [Gpu("nvidia", 0, "GPU-2", None, None, "8.0")]


def test_a_lost_device_is_unusable_and_keeps_its_number() -> None:
    lost = Board({"uuid": "GPU-3", "name": "H100", "memory": pynvml.NVML_ERROR_GPU_IS_LOST})
    first, second = list_devices(Library([lost, WHOLE]))
    assert (first.state, first.index) == ("unusable", 0)
    assert "GPU is lost" in first.reason
    assert (second.state, second.index) == ("usable", 1)


def test_a_device_kept_from_this_job_is_neither_listed_nor_counted() -> None:
    (only,) = list_devices(Library([pynvml.NVML_ERROR_NO_PERMISSION, WHOLE]))
    assert (only.uuid, only.index) == ("GPU-1", 0)


def test_a_device_without_a_handle_is_unusable() -> None:
    (only,) = list_devices(Library([pynvml.NVML_ERROR_UNKNOWN]))
    assert only.state == "unusable"
    assert "handle" in only.reason


def test_instances_stand_in_for_the_device_they_divide() -> None:
    instance = Board({"uuid": "MIG-1", "memory": Memory(5 << 30)})
    divided = Board(WHOLE.fields, [instance], (1, 1))
    (only,) = list_devices(Library([divided]))
    assert only == Gpu("nvidia", 0, "MIG-1", "H100", 5120, "9.0", parent="GPU-1")


def test_a_divided_device_without_instances_is_unusable() -> None:
    (only,) = list_devices(Library([Board(WHOLE.fields, [], (1, 1))]))
    assert only.state == "unusable"
    assert "no instances" in only.reason


def test_mig_that_is_off_leaves_the_device_whole() -> None:
    (only,) = list_devices(Library([Board(WHOLE.fields, [], (0, 0))]))
    assert only.state == "usable"


def test_a_machine_without_a_driver_gives_the_reason() -> None:
    found, problem = read_nvidia_gpus()
    assert found or "NVML does not start" in problem


def test_a_node_without_devices_has_none() -> None:
    known = facts(probe_gpu(context_of("bare_metal_el9")))
    assert known["gpu.devices"].status is FactStatus.ABSENT
    assert known["gpu.count"].value == 0


def test_an_amd_device_is_read_from_sysfs() -> None:
    (device,) = facts(probe_gpu(context_of("aarch64_mi250")))["gpu.devices"].value
    assert (device["vendor"], device["name"], device["capability"]) == ("amd", "aldebaran", "gfx90a")
    assert device["memory_mib"] == 65520
    assert device["uuid"] == f"GPU-{12837465012345678901:016x}"
    assert device["state"] == "unknown"


def test_an_amd_device_may_be_hidden_by_its_variable() -> None:
    known = facts(probe_gpu(context_of("aarch64_mi250", ROCR_VISIBLE_DEVICES="")))
    assert known["gpu.devices"].status is FactStatus.ABSENT
    assert "0 of 1" in known["gpu.devices"].detail


def test_instruction_sets_have_names() -> None:
    assert [gfx_name(version) for version in (90010, 110000, 90402, 0)] == ["gfx90a", "gfx1100", "gfx942", None]
    assert parse_properties("a 1\nb x\n3\n") == {"a": 1}


def test_nvidias_driver_is_seen_but_not_asked_in_a_recording(tmp_path: Path) -> None:
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.06  Wed Jun 26 06:46:07 UTC 2024\nGCC version:\n"
    information = "Model: \t\t NVIDIA A100\nIRQ:   \t\t 1\nGPU UUID: \t GPU-5\n"
    context = write_tree(
        tmp_path,
        {
            "/proc/driver/nvidia/version": version,
            "/proc/driver/nvidia/gpus/0000:01:00.0/information": information,
        },
    )
    assert has_nvidia(Node(context.root))
    assert listed_by_driver(Node(context.root)) == (Gpu("nvidia", 0, "GPU-5", "NVIDIA A100"),)
    known = facts(probe_gpu(context))
    assert known["gpu.driver"].value == "535.183.06"
    assert known["gpu.devices"].status is FactStatus.UNKNOWN


def test_the_open_kernel_module_has_a_version_too() -> None:
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.90.07  Release Build\n"
    assert parse_driver_version(line) == "550.90.07"
    assert parse_driver_version("") is None


def test_this_machine_answers() -> None:
    assert {"gpu.devices", "gpu.count", "gpu.driver"} == set(facts(probe_gpu(Context())))
