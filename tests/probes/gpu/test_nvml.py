"""NVML through a double of its library, and what its answers mean. No NVIDIA code and no device is involved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.model import Json
from pilot_agent.probes.gpu.device import Gpu, pci_address
from pilot_agent.probes.gpu.nvml import Nvidia, judge_nvml
from pilot_agent.probes.gpu.nvml_fields import ask_nvml
from pilot_agent.probes.node import Node
from tests.probes.doubles import nvml_double

WHOLE = """\
0.uuid GPU-1
0.name NVIDIA H100
0.memory_mib 81920 80000
0.capability 9 0
0.pci 00000000:17:00.0
0.minor 0
"""


def ask(directory: Path, text: str, *, seconds: float = 60.0) -> Any:
    environment = nvml_double(directory, text)
    return Node("/").ask("nvml", lambda: ask_nvml(environment), seconds=seconds)


def judged(directory: Path, text: str) -> Nvidia:
    answer = ask(directory, text)
    assert not answer.problem, answer
    return judge_nvml(answer.value)


def only(directory: Path, text: str) -> Gpu:
    (device,) = judged(directory, "count 1\n" + text).devices
    return device


def test_a_whole_device_is_described(tmp_path: Path) -> None:
    text = "0.compute_mode 0\n0.persistence 1\n0.ecc_mode 1 1\n0.ecc_volatile 0\n0.ecc_aggregate 4\n"
    device = only(tmp_path, WHOLE + text + "0.temperature 35\n0.power 71600\n0.remapped_rows 0 0 0 0\n")
    assert (device.uuid, device.name, device.memory_mib, device.memory_free_mib) == (
        "GPU-1",
        "NVIDIA H100",
        81920,
        80000,
    )
    assert (device.capability, device.pci_id, device.minor) == ("9.0", "0000:17:00.0", 0)
    assert (device.compute_mode, device.persistence, device.ecc) == ("default", True, True)
    assert (device.ecc_uncorrected, device.ecc_uncorrected_lifetime) == (0, 4)
    assert (device.temperature_celsius, device.power_watts) == (35, 72)
    assert (device.state, device.reason, device.note) == ("usable", "", "")


def test_the_versions_are_told(tmp_path: Path) -> None:
    found = judged(tmp_path, "driver 550.90.07\ncuda_driver 12040\nnvml 12.550.90.07\ncount 0\n")
    assert (found.driver, found.cuda_driver, found.version) == ("550.90.07", "12.4", "12.550.90.07")
    assert found.devices == ()


@pytest.mark.parametrize("error", [3, 4, 13, 999])
@pytest.mark.parametrize(
    "field", ["name", "memory_mib", "capability", "pci", "ecc_volatile", "compute_mode", "processes"]
)
def test_a_field_that_is_not_told_does_not_hide_the_others(tmp_path: Path, field: str, error: int) -> None:
    device = only(tmp_path, WHOLE + f"0.{field} !{error}\n")
    assert (device.uuid, device.minor, device.state) == ("GPU-1", 0, "usable")


def test_the_answer_keeps_every_error_by_field(tmp_path: Path) -> None:
    answer = ask(tmp_path, "count 1\n0.uuid GPU-1\n0.name !4\n").value
    fields = answer["devices"][0]["fields"]
    assert fields["uuid"] == {"value": "GPU-1"}
    assert fields["name"] == {"error": 4, "text": "Insufficient Permissions"}
    assert fields["memory"] == {"error": 3, "text": "Not Supported"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("0.memory_mib !15", "fell off the bus"),
        ("0.ecc_mode !16", "nvidia-smi --gpu-reset -i 0000:17:00.0"),
        ("0.uuid !999", "does not tell its UUID"),
        ("0.compute_mode 2", "nvidia-smi -i 0000:17:00.0 -c DEFAULT"),
        ("0.compute_mode 3\n0.processes 77:10\nprocess.77 /usr/bin/train --key x", "process 77 (train) holds it"),
        ("0.remapped_rows 0 1 0 1", "the site must have the GPU replaced"),
        ("0.remapped_rows 0 1 1 0", "waits for the repair that a reset makes"),
        ("0.retired_pending 1\n0.ecc_volatile 2", "waits for the repair that a reset makes"),
        ("0.recovery_action 2", "the site must reboot it"),
        ("0.mig_mode 1 1", "has no instances"),
        ("0.handle !999", "gives no access"),
        ("0.handle !15", "fell off the bus"),
    ],
)
def test_a_broken_device_says_what_the_site_must_do(tmp_path: Path, lines: str, words: str) -> None:
    device = only(tmp_path, WHOLE + lines + "\n")
    assert device.state == "unusable"
    assert words in device.reason


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("0.processes 77:10 78:20", "2 processes have it open already"),
        ("0.remapped_rows 3 0 1 0", "waits for a reset"),
        ("0.ecc_volatile 2", "2 uncorrectable memory errors"),
        ("0.ecc_mode 1 0", "ECC will be off after a reset"),
        ("0.mig_mode 0 1", "MIG will be on after a reset"),
    ],
)
def test_what_jobs_can_live_with_is_a_note(tmp_path: Path, lines: str, words: str) -> None:
    device = only(tmp_path, WHOLE + lines + "\n")
    assert device.state == "usable"
    assert words in device.note


def test_an_exclusive_device_that_mps_holds_can_be_shared(tmp_path: Path) -> None:
    lines = "0.compute_mode 3\n0.processes 5:1\nprocess.5 /usr/bin/nvidia-cuda-mps-server\n"
    assert only(tmp_path, WHOLE + lines).state == "usable"


def test_a_device_kept_from_this_job_is_counted_and_takes_no_number(tmp_path: Path) -> None:
    found = judged(tmp_path, "count 2\n0.handle !4\n" + WHOLE.replace("0.", "1.", 1).replace("\n0.", "\n1."))
    assert found.refused == 1
    assert [(device.uuid, device.index) for device in found.devices] == [("GPU-1", 0)]


def test_a_lost_device_keeps_its_number(tmp_path: Path) -> None:
    found = judged(tmp_path, "count 2\n0.handle !15\n1.uuid GPU-2\n")
    assert [(device.index, device.state) for device in found.devices] == [(0, "unusable"), (1, "usable")]


def test_instances_stand_in_for_the_device_they_divide(tmp_path: Path) -> None:
    lines = "0.mig_mode 1 1\n0/1.uuid MIG-1\n0/1.attributes 2 1 20096\n0/1.gpu_instance 3\n0/4.handle !4\n"
    found = judged(tmp_path, "count 1\n" + WHOLE + lines)
    (device,) = found.devices
    assert (device.uuid, device.parent, device.mig, device.gpu_instance) == ("MIG-1", "GPU-1", "1c.2g.20gb", 3)
    assert (device.name, device.capability, device.memory_mib) == ("NVIDIA H100", "9.0", 20096)
    assert found.refused == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("init !9", "modprobe nvidia"),
        ("init !18", "must reboot after the driver's update"),
        ("init !4", "/dev/nvidiactl"),
        ("init !999", "must repair the NVIDIA driver"),
        ("count !17", "does not list devices"),
    ],
)
def test_a_library_that_does_not_work_says_what_the_site_must_do(tmp_path: Path, lines: str, words: str) -> None:
    assert words in judged(tmp_path, lines + "\n").problem


def test_a_machine_without_the_library_says_so() -> None:
    answer = Node("/").ask("nvml", lambda: ask_nvml({}), seconds=60)
    found = judge_nvml(answer.value)
    assert "libnvidia-ml.so.1 cannot be loaded" in found.problem or not found.problem


def test_a_file_that_is_no_library_gives_the_loaders_words(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    answer = Node("/").ask("nvml", lambda: ask_nvml({"LD_LIBRARY_PATH": str(tmp_path)}), seconds=60)
    found = judge_nvml(answer.value)
    assert str(tmp_path) in found.problem or not found.problem


def test_a_driver_that_hangs_costs_its_deadline_only(tmp_path: Path) -> None:
    answer = ask(tmp_path, "count 1\n0.uuid !hang\n", seconds=0.5)
    assert answer.hung
    assert answer.value is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:17:00.0", "0000:17:00.0"),
        ("00010000:0B:00.0", "0000:0b:00.0"),
        ("0000:c1:00.0", "0000:c1:00.0"),
        ("", None),
        (None, None),
        ("a:b", None),
    ],
)
def test_places_on_the_bus_have_one_form(text: str | None, address: str | None) -> None:
    assert pci_address(text) == address


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["value", "error", "text", "handle", "fields", "instances", "total", "pid", "memory"]),
            inner,
        )
    ),
    max_leaves=10,
)
FIELDS = st.dictionaries(
    st.sampled_from(["uuid", "name", "memory", "mig_mode", "pci", "processes", "remapped_rows", "ecc_mode", "power"]),
    st.one_of(VALUES, VALUES.map(lambda value: {"value": value})),
)
DEVICE = st.fixed_dictionaries({"handle": st.one_of(st.just({"value": 0}), VALUES), "fields": FIELDS}) | VALUES
ANSWERS = st.fixed_dictionaries({"count": st.just({"value": 2}), "devices": st.lists(DEVICE, max_size=3) | VALUES})


@given(st.one_of(VALUES, ANSWERS))
def test_a_damaged_answer_is_never_an_exception(answer: Json) -> None:
    found = judge_nvml(answer)
    assert all(device.as_json() for device in found.devices)
