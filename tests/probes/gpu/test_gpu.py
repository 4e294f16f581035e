"""The whole probe on nodes with GPUs. No device is at hand: NVIDIA's libraries are doubles, the nodes are composed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus, Json
from pilot_agent.probes.gpu.gpu import probe_gpu, shows_nvidia
from pilot_agent.probes.kernel.namespaces import mount
from pilot_agent.probes.node import Node
from pilot_agent.probes.recording import SCHEMA, finish_recording
from tests.probes.doubles import cuda_double, nvml_double
from tests.probes.namespaced import in_namespace
from tests.probes.trees import context_of, facts, write_tree

MS_BIND = 4096
VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.06  Wed Jun 26 06:46:07 UTC 2024\nGCC version:\n"
INFORMATION = "Model: \t\t NVIDIA A100\nIRQ:   \t\t 1\nGPU UUID: \t GPU-5\n"
LISTED = {
    "/proc/driver/nvidia/version": VERSION,
    "/proc/driver/nvidia/gpus/0000:01:00.0/information": INFORMATION,
}
ONE = """\
driver 535.183.06
cuda_driver 12020
count 1
0.uuid GPU-5
0.name NVIDIA A100
0.pci 00000000:01:00.0
"""


def told(name: str, **environment: str) -> dict[str, Fact]:
    return facts(probe_gpu(context_of(name, None, **environment)))


def devices(known: dict[str, Fact]) -> list[dict[str, Any]]:
    return list(known["gpu.devices"].value)


def answered(value: Json = None, **other: Json) -> Json:
    return {"value": value, "problem": "", "hung": False, "stuck": False, "recorded": True} | other


def asked_node(root: Path, files: dict[str, str], answers: dict[str, Json]) -> Context:
    """A composed node of these files on which these tests gave these answers."""
    write_tree(root / "root", files)
    (root / "recording.json").write_text(json.dumps({"schema": SCHEMA, "origin": "composed"}))
    (root / "answers").mkdir()
    for number, (test, answer) in enumerate(answers.items()):
        (root / "answers" / f"{number}.json").write_text(json.dumps({"key": ["test", test], "answer": answer}))
    return Context(root=str(root))


def test_a_node_without_devices_has_none() -> None:
    known = told("bare_metal_el9")
    assert known["gpu.devices"].status is FactStatus.ABSENT
    assert (known["gpu.count"].value, known["gpu.hidden"].value) == (0, 0)
    assert known["gpu.driver"].status is FactStatus.ABSENT
    assert known["gpu.cuda_driver"].status is FactStatus.ABSENT


def test_a_node_without_devices_costs_two_listings(tmp_path: Path) -> None:
    context = Context(root="/", record=str(tmp_path))
    code = [line for line in _readings(context) if "names" in line]
    assert [line["names"] for line in code] == ["/dev", "/sys/class"]
    assert not (tmp_path / "answers").exists()


def _readings(context: Context) -> list[dict[str, Any]]:
    """What the probe reads where ``/sys/class`` and ``/dev`` are empty."""

    def work() -> Json:
        for directory in ("/dev", "/sys/class"):
            mount("none", directory, "tmpfs", 0)
        list(probe_gpu(context))
        return None

    in_namespace(work)
    (readings,) = (Path(context.record or "") / "readings").iterdir()
    return [json.loads(line) for line in readings.read_text().splitlines()]


def test_nobody_knows_of_devices_where_nothing_was_recorded(tmp_path: Path) -> None:
    finish_recording(str(tmp_path), {}, {})
    known = facts(probe_gpu(Context(root=str(tmp_path))))
    assert {fact.status for name, fact in known.items() if name != "gpu.driver" and name != "gpu.cuda_driver"} == {
        FactStatus.UNKNOWN
    }


def test_every_instance_of_a_divided_device_is_a_device() -> None:
    known = told("gpu_mig_h100")
    assert known["gpu.count"].value == 7
    assert {device["parent"] for device in devices(known)} == {"GPU-5f0c1ad2-9d7b-4e0a-8e6f-3b1c2d4e5f60"}
    assert {device["mig"] for device in devices(known)} == {"1g.10gb"}
    assert {device["memory_mib"] for device in devices(known)} == {9984}
    assert [device["process_count"] for device in devices(known)] == [0, 0, 1, 0, 0, 0, 0]
    assert known["gpu.cuda_driver"].value == "12.4"
    assert known["gpu.hidden"].value == 0


def test_an_instance_is_left_by_its_own_identifier() -> None:
    second = devices(told("gpu_mig_h100"))[1]["uuid"]
    known = told("gpu_mig_h100", CUDA_VISIBLE_DEVICES=second)
    assert [device["uuid"] for device in devices(known)] == [second]
    assert known["gpu.hidden"].value == 6


def test_the_broken_one_of_four_is_told_with_what_the_site_must_do() -> None:
    known = told("gpu_one_broken_of_four")
    good, busy, broken = devices(known)
    assert (good["state"], busy["state"], broken["state"]) == ("usable", "usable", "unusable")
    assert "row remapping failed" in broken["reason"]
    assert "the site must have the GPU replaced" in broken["reason"]
    assert busy["processes"] == [{"pid": 9101, "memory_mib": 27000, "name": None}]
    assert known["gpu.count"].value == 2


def test_the_fourth_is_hidden_by_the_control_group() -> None:
    hidden = told("gpu_one_broken_of_four")["gpu.hidden"]
    assert hidden.value == 1
    assert "GPU-dddddddd" in hidden.detail
    assert "control group" in hidden.detail


def test_the_smallest_of_variable_and_batch_wins_and_both_are_told() -> None:
    known = told("gpu_one_broken_of_four", CUDA_VISIBLE_DEVICES="1,2", SLURM_JOB_GPUS="0,1")
    assert [device["uuid"][:12] for device in devices(known)] == ["GPU-bbbbbbbb"]
    assert known["gpu.hidden"].value == 3
    assert "CUDA_VISIBLE_DEVICES=1,2" in known["gpu.devices"].detail
    assert "slurm gave 0, 1" in known["gpu.devices"].detail


def test_a_job_without_gpus_sees_why() -> None:
    known = told("gpu_one_broken_of_four", CUDA_VISIBLE_DEVICES="10000")
    assert known["gpu.devices"].status is FactStatus.ABSENT
    assert known["gpu.count"].value == 0
    assert known["gpu.hidden"].value == 4
    assert "HTCondor's number for a job without GPUs" in known["gpu.devices"].detail


def test_discrete_devices_of_intel_are_found_and_a_screens_are_not() -> None:
    known = told("gpu_intel_max", ZE_AFFINITY_MASK="0,1")
    first, second = devices(known)
    assert (first["vendor"], first["name"]) == ("intel", "Intel Data Center GPU Max 1550")
    assert (first["memory_mib"], second["memory_free_mib"]) == (65280, 57220)
    assert second["pci_id"] == "0000:9a:00.0"


def test_an_intel_device_may_be_hidden_by_its_variable() -> None:
    known = told("gpu_intel_max")
    assert [device["pci_id"] for device in devices(known)] == ["0000:29:00.0"]
    assert known["gpu.hidden"].value == 1


def test_an_amd_device_is_read_from_sysfs() -> None:
    (device,) = devices(told("aarch64_mi250"))
    assert (device["vendor"], device["name"], device["capability"]) == ("amd", "AMD Instinct MI250", "gfx90a")
    assert (device["memory_mib"], device["memory_free_mib"]) == (65520, 65509)
    assert device["uuid"] == f"GPU-{12837465012345678901:016x}"
    assert (device["pci_id"], device["ecc_uncorrected"]) == ("0000:c1:00.0", 0)
    assert device["state"] == "usable"


def test_an_amd_device_may_be_hidden_by_its_variable() -> None:
    known = told("aarch64_mi250", ROCR_VISIBLE_DEVICES="")
    assert known["gpu.devices"].status is FactStatus.ABSENT
    assert "0 of 1" in known["gpu.devices"].detail
    assert known["gpu.hidden"].value == 1


def test_a_devices_place_is_seen_but_not_asked_in_a_tree_of_files(tmp_path: Path) -> None:
    context = write_tree(tmp_path, LISTED)
    assert shows_nvidia(Node(context.root), [])
    known = facts(probe_gpu(context))
    assert known["gpu.driver"].value == "535.183.06"
    (device,) = devices(known)
    assert (device["uuid"], device["pci_id"], device["state"]) == ("GPU-5", "0000:01:00.0", "unknown")
    assert known["gpu.count"].status is FactStatus.UNKNOWN


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answered({"problem": {"error": 12, "text": "no library"}}), "libnvidia-ml.so.1 cannot be loaded"),
        (answered({"problem": {"error": 18, "text": "Mismatch"}}), "reboot"),
        (answered(problem="nvml did not end in time", hung=True), "the driver hangs"),
        (answered(problem="stuck", hung=True, stuck=True), "sleeps in the kernel"),
        (answered(problem="nvml was ended by signal 11"), "signal 11"),
    ],
)
def test_devices_stay_listed_when_nvml_does_not_answer(tmp_path: Path, answer: Json, words: str) -> None:
    known = facts(probe_gpu(asked_node(tmp_path, LISTED, {"nvml": answer})))
    (device,) = devices(known)
    assert (device["uuid"], device["state"]) == ("GPU-5", "unusable")
    assert words in device["reason"]
    assert known["gpu.count"].value == 0
    assert words in known["gpu.cuda_driver"].detail


def test_a_hung_driver_of_one_vendor_does_not_lose_another_vendors_device(tmp_path: Path) -> None:
    kfd = "/sys/class/kfd/kfd/topology/nodes/1"
    files = LISTED | {f"{kfd}/gpu_id": "5\n", f"{kfd}/name": "x\n", f"{kfd}/properties": "unique_id 7\n"}
    answers = {
        "nvml": answered(problem="hung", hung=True),
        "gpu device nodes": answered({"/dev/kfd": ""}),
    }
    known = facts(probe_gpu(asked_node(tmp_path, files, answers)))
    assert [(device["vendor"], device["state"]) for device in devices(known)] == [
        ("nvidia", "unusable"),
        ("amd", "usable"),
    ]


def on_a_node_with_nvidia(tmp_path: Path, context: Context) -> dict[str, Fact]:
    """The facts of this machine with a driver's files and a device node that is none of a GPU put in."""
    driver = tmp_path / "driver"
    write_tree(tmp_path / "files", LISTED)
    (tmp_path / "files" / "proc/driver").rename(driver)

    def work() -> Json:
        mount(str(driver), "/proc/driver", "", MS_BIND)
        return [(fact.name, fact.value, fact.detail) for fact in probe_gpu(context) if isinstance(fact, Fact)]

    return {name: Fact(name, value, detail=detail) for name, value, detail in in_namespace(work)}


def test_the_library_of_a_live_node_is_asked(tmp_path: Path) -> None:
    known = on_a_node_with_nvidia(tmp_path, Context(environment=nvml_double(tmp_path / "lib", ONE)))
    (device,) = devices(known)
    assert (device["uuid"], device["state"]) == ("GPU-5", "usable")
    assert known["gpu.driver"].value == "535.183.06"
    assert known["gpu.cuda_driver"].value == "12.2"


@pytest.mark.parametrize(("behaviour", "state"), [("right", "usable"), ("wrong", "unusable")])
def test_a_device_computes_when_the_configuration_says_so(tmp_path: Path, behaviour: str, state: str) -> None:
    environment = nvml_double(tmp_path / "lib", ONE) | cuda_double(tmp_path / "lib", behaviour)
    context = Context(environment=environment, config={"probes": {"gpu_test": True}})
    known = on_a_node_with_nvidia(tmp_path, context)
    (device,) = devices(known)
    assert (device["state"], device["tested"]) == (state, True)
    assert known["gpu.count"].value == (1 if state == "usable" else 0)


def test_a_recording_answers_as_its_machine_did(tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    environment = nvml_double(tmp_path / "lib", ONE) | cuda_double(tmp_path / "lib", "fail cuInit 802")
    config: dict[str, Json] = {"probes": {"gpu_test": True}}
    live = on_a_node_with_nvidia(tmp_path, Context(environment=environment, config=config, record=str(recording)))
    finish_recording(str(recording), environment, {})
    replayed = facts(probe_gpu(Context(root=str(recording), environment=environment, config=config)))
    assert {name: fact.value for name, fact in replayed.items()} == {name: fact.value for name, fact in live.items()}
    assert "nvidia-fabricmanager" in devices(replayed)[0]["reason"]


def test_this_machine_answers() -> None:
    names = {"gpu.devices", "gpu.count", "gpu.hidden", "gpu.driver", "gpu.cuda_driver"}
    assert names == set(facts(probe_gpu(Context())))


PCI = "/sys/bus/pci/devices/0000:17:00.0"


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("", "modprobe nvidia"),
        ("nouveau", "install and load nvidia"),
        ("vfio-pci", "virtual machine"),
    ],
)
def test_a_promised_device_without_its_driver_is_unusable(tmp_path: Path, driver: str, words: str) -> None:
    files = {f"{PCI}/class": "0x030200\n", f"{PCI}/vendor": "0x10de\n", f"{PCI}/device": "0x2330\n"}
    root = write_tree(tmp_path, files).root
    if driver:
        (tmp_path / PCI.lstrip("/") / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
    known = facts(probe_gpu(Context(root=root, environment={"SLURM_JOB_GPUS": "0"})))
    (device,) = devices(known)
    assert (device["state"], device["pci_id"], device["name"]) == ("unusable", "0000:17:00.0", "NVIDIA device 0x2330")
    assert words in device["reason"]
    assert known["gpu.count"].value == 0


@pytest.mark.parametrize("variables", [{}, {"CUDA_VISIBLE_DEVICES": "10000"}, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}])
def test_nobody_looks_for_a_device_that_was_not_promised(tmp_path: Path, variables: dict[str, str]) -> None:
    files = {f"{PCI}/class": "0x030200\n", f"{PCI}/vendor": "0x10de\n"}
    known = facts(probe_gpu(Context(root=write_tree(tmp_path, files).root, environment=variables)))
    assert known["gpu.devices"].status is FactStatus.ABSENT


NAMES = ("gpu_mig_h100", "gpu_one_broken_of_four", "gpu_intel_max", "aarch64_mi250")
VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("ZE_AFFINITY_MASK", "SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE"),
    *("_CONDOR_AssignedGPUs", "PBS_JOBID", "PBS_GPUFILE"),
)
WORDS = ("0", "1", ",", "-", ".", "GPU-", "MIG-0", "gpu²", "all", "10000")
TEXTS = st.one_of(st.text(max_size=8), st.lists(st.sampled_from(WORDS)).map("".join))


@given(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(VARIABLES), TEXTS))
def test_any_variables_give_devices_or_a_reason(name: str, variables: dict[str, str]) -> None:
    known = facts(probe_gpu(Context(root=context_of(name).root, environment=variables)))
    hidden, count = known["gpu.hidden"], known["gpu.count"]
    assert json.dumps([known["gpu.devices"].value, hidden.value])
    assert count.known
    assert bool(hidden.detail) == bool(hidden.value)
