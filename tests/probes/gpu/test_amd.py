"""AMD's and Intel's devices from composed sysfs files; no device is at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilot_agent.probes.answers import Answer
from pilot_agent.probes.gpu.amd import amd_nodes, completed_by_smi, gfx_name, judge_amd, parse_properties, parse_smi
from pilot_agent.probes.gpu.amd import read_amd_gpus as read
from pilot_agent.probes.gpu.device import Gpu
from pilot_agent.probes.gpu.intel import judge_intel, read_intel_gpus
from pilot_agent.probes.node import Node
from tests.probes.trees import write_tree
from tests.probes.written import written_node

ONE = Gpu("amd", 0, "GPU-1", pci_id="0000:03:00.0", node="/dev/dri/renderD128")
STATIC = [
    {
        "gpu": 0,
        "asic": {"market_name": "AMD Instinct MI300X"},
        "board": {"product_name": "N/A"},
        "bus": {"bdf": "0000:03:00.0"},
        "vram": {"size": {"value": 196592, "unit": "MB"}},
    }
]
METRIC = [{"gpu": 0, "mem_usage": {"free_vram": {"value": 190000, "unit": "MB"}}}]


def test_instruction_sets_have_names() -> None:
    assert [gfx_name(version) for version in (90010, 110000, 90402, 0)] == ["gfx90a", "gfx1100", "gfx942", None]
    assert parse_properties("a 1\nb x\n3\n") == {"a": 1}


@pytest.mark.parametrize(
    ("opened", "state", "words"),
    [
        ({"/dev/kfd": "", "/dev/dri/renderD128": ""}, "usable", ""),
        ({"/dev/kfd": "EACCES", "/dev/dri/renderD128": "EACCES"}, "unusable", "must add the account"),
        ({"/dev/kfd": "", "/dev/dri/renderD128": "EIO"}, "unusable", "reload the GPU's driver"),
        (None, "unknown", "not known"),
    ],
)
def test_a_device_is_as_usable_as_its_nodes(opened: dict[str, str] | None, state: str, words: str) -> None:
    answer = Answer(opened) if opened else Answer(problem="it hung", hung=True)
    ((device,), kept) = judge_amd(Node("/nowhere"), (ONE,), answer)
    assert (device.state, kept) == (state, ())
    assert words in device.reason


def test_a_device_of_another_job_is_kept() -> None:
    left, ((device, why),) = judge_amd(
        Node("/nowhere"), (ONE,), Answer({"/dev/kfd": "", "/dev/dri/renderD128": "EPERM"})
    )
    assert (left, device) == ((), ONE)
    assert "control group" in why


def test_the_nodes_of_all_devices_are_tried() -> None:
    assert amd_nodes((ONE,)) == ["/dev/kfd", "/dev/dri/renderD128"]
    assert amd_nodes(()) == []


def test_errors_of_the_memory_are_a_note(tmp_path: Path) -> None:
    base, device = "/sys/class/kfd/kfd/topology/nodes/1", "/sys/class/drm/renderD128/device"
    files = {
        f"{base}/gpu_id": "9\n",
        f"{base}/properties": "drm_render_minor 128\nlocation_id 768\nunique_id 5\n",
        f"{device}/ras/umc_err_count": "ue: 2\nce: 7\n",
        f"{device}/mem_info_vram_total": "17179869184\n",
        f"{device}/mem_info_vram_used": "1048576\n",
    }
    node = Node(write_tree(tmp_path, files).root)
    (found,) = read(node)
    assert (found.pci_id, found.memory_mib, found.memory_free_mib) == ("0000:03:00.0", 16384, 16383)
    ((judged,), _) = judge_amd(node, (found,), Answer({"/dev/kfd": "", "/dev/dri/renderD128": ""}))
    assert judged.note == "2 uncorrectable memory errors"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("before", ["", "x.py:1: SyntaxWarning: 'return' in a 'finally' block\n  return x\n"])
def test_amd_smi_tells_what_sysfs_does_not(tmp_path: Path, wrapped: bool, before: str) -> None:
    def text(records: object) -> str:
        return before + json.dumps({"gpu_data": records} if wrapped else records)

    answers = {
        ("amd-smi", "static", "--json"): text(STATIC),
        ("amd-smi", "metric", "--mem-usage", "--json"): text(METRIC),
    }
    node = Node.of(written_node(tmp_path, {}, answers))
    (device,) = completed_by_smi(node, (ONE,))
    assert (device.name, device.memory_mib, device.memory_free_mib) == ("AMD Instinct MI300X", 196592, 190000)


def test_without_amd_smi_nothing_changes(tmp_path: Path) -> None:
    assert completed_by_smi(Node.of(written_node(tmp_path, {}, {})), (ONE,)) == (ONE,)
    assert parse_smi("no JSON") == {}
    assert parse_smi('{"gpu_data": 3}') == {}


def intel(root: Path, **files: str) -> tuple[Gpu, ...]:
    base = {"vendor": "0x8086", "class": "0x038000", "device": "0x9999", "uevent": "PCI_SLOT_NAME=0000:29:00.0"}
    tree = {f"/sys/class/drm/card0/device/{name}": text for name, text in (base | files).items()}
    return read_intel_gpus(Node(write_tree(root, tree).root))


def test_a_device_of_the_newer_driver_shows_the_memory_of_its_tiles(tmp_path: Path) -> None:
    tiles = {f"tile{number}/physical_vram_size_bytes": "0x0000000100000000\n" for number in (0, 1)}
    (device,) = intel(tmp_path, **tiles, **{"drm/renderD130/dev": "226:130"})
    assert (device.memory_mib, device.node, device.name) == (8192, "/dev/dri/renderD130", "Intel GPU 0x9999")


def test_a_core_inside_a_processor_is_no_device(tmp_path: Path) -> None:
    assert intel(tmp_path, **{"class": "0x030000"}) == ()


def test_a_device_without_its_driver_is_unusable(tmp_path: Path) -> None:
    found = intel(tmp_path)
    ((device,), _) = judge_intel(Node("/nowhere"), found, Answer({}))
    assert device.state == "unusable"
    assert "must load its driver" in device.reason


@pytest.mark.parametrize(("problem", "state"), [("", "usable"), ("EACCES", "unusable")])
def test_an_intel_device_is_as_usable_as_its_node(problem: str, state: str) -> None:
    device = Gpu("intel", 0, node="/dev/dri/renderD128")
    ((judged,), _) = judge_intel(Node("/nowhere"), (device,), Answer({"/dev/dri/renderD128": problem}))
    assert judged.state == state
