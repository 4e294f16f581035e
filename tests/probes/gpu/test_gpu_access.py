"""Which devices variables, control groups and batch systems leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.probes.batch.batch_job import Allocation, Bound
from pilot_agent.probes.gpu.device import Gpu
from pilot_agent.probes.gpu.device_nodes import explained, is_allowed, kept_by_group, open_nodes
from pilot_agent.probes.gpu.gpu_access import Source, batch_sources, grant, renumbered, select, visible_sources
from pilot_agent.probes.node import Node
from tests.probes.namespaced import as_nobody
from tests.probes.trees import write_tree

A = Gpu("nvidia", 0, "GPU-aaaa1111", "A100", minor=4)
B = Gpu("nvidia", 1, "GPU-bbbb2222", "A100", minor=5)
C1 = Gpu("nvidia", 2, "MIG-cccc3333", "A100 MIG 1g.5gb", parent="GPU-cccc0000")
C2 = Gpu("nvidia", 2, "MIG-cccc4444", "A100 MIG 1g.5gb", parent="GPU-cccc0000")
ALL = (A, B, C1, C2)
AMD = (Gpu("amd", 0, "GPU-01"), Gpu("amd", 1, "GPU-02"), Gpu("amd", 2, "GPU-03"))
INTEL = (Gpu("intel", 0, pci_id="0000:29:00.0"), Gpu("intel", 1, pci_id="0000:9a:00.0"))


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


@pytest.mark.parametrize("value", ["10000", "-1", "NoDevFiles", ""])
def test_a_placeholder_hides_all_and_is_explained(value: str) -> None:
    found, detail = select(ALL, {"CUDA_VISIBLE_DEVICES": value}, ("CUDA_VISIBLE_DEVICES",))
    assert found == ()
    assert detail.endswith(")")


def test_numbers_of_different_models_are_doubted() -> None:
    mixed = (A, Gpu("nvidia", 1, "GPU-x", "T4"))
    variables = ("CUDA_VISIBLE_DEVICES",)
    assert "PCI order" in select(mixed, {"CUDA_VISIBLE_DEVICES": "0"}, variables)[1]
    ordered = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert "PCI order" not in select(mixed, ordered, variables)[1]


def left_by(devices: tuple[Gpu, ...], sources: list[Source]) -> list[str]:
    return [device.identity for device in grant(devices, sources).devices]


@pytest.mark.parametrize(
    ("variables", "left"),
    [
        ({"ROCR_VISIBLE_DEVICES": "1,2"}, ["GPU-02", "GPU-03"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-02"}, ["GPU-02"]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "0"}, ["GPU-02"]),
        ({"CUDA_VISIBLE_DEVICES": "2"}, ["GPU-03"]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "2"}, ["GPU-01"]),
    ],
)
def test_hip_counts_what_rocm_left(variables: dict[str, str], left: list[str]) -> None:
    assert left_by(AMD, visible_sources(AMD, variables)) == left


@pytest.mark.parametrize(
    ("value", "left"),
    [("0", [0]), ("1.0", [1]), ("0.0,0.1,1.1", [0, 1]), ("7,1", [1]), ("", [0, 1]), ("x", [])],
)
def test_level_zero_leaves_devices_and_their_tiles(value: str, left: list[int]) -> None:
    found = grant(INTEL, visible_sources(INTEL, {"ZE_AFFINITY_MASK": value}))
    assert [device.index for device in found.devices] == left


@pytest.mark.parametrize("value", ["all", "none", "void", "0,1", "/var/run/nvidia-container-devices", ""])
def test_what_a_container_runtime_was_told_hides_nothing_here(value: str) -> None:
    sources = visible_sources((A, B), {"NVIDIA_VISIBLE_DEVICES": value})
    assert left_by((A, B), sources) == [A.uuid, B.uuid]
    assert "not compared" in sources[0].text


def test_identifiers_for_a_container_runtime_count() -> None:
    assert left_by((A, B), visible_sources((A, B), {"NVIDIA_VISIBLE_DEVICES": "GPU-bbbb2222"})) == [B.uuid]


def gave(*names: str, count: int | None = None) -> list[Allocation]:
    bound = None if count is None else Bound(count, "SLURM_GPUS_ON_NODE")
    return [Allocation("slurm", gpus=names or None, gpu_count=bound)]


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (("4",), [A]),
        (("gpu5",), [B]),
        (("4", "5"), [A, B]),
        (("GPU-bbbb",), [B]),
        (("CUDA0",), [A]),
        (("9",), [A, B]),
        (("unheard-of",), [A, B]),
    ],
)
def test_batch_systems_name_device_nodes_identifiers_or_places(names: tuple[str, ...], left: list[Gpu]) -> None:
    sources = batch_sources((A, B), gave(*names), {}, complete=True)
    assert left_by((A, B), sources) == [device.uuid for device in left]


def test_a_batch_name_that_fits_nothing_is_told() -> None:
    (source,) = batch_sources((A, B), gave("9"), {}, complete=True)
    assert "names none of the devices here" in source.text


def test_numbers_are_not_compared_with_instances() -> None:
    (source,) = batch_sources(ALL, gave("0"), {}, complete=True)
    assert source.left is None
    assert "not compared" in source.text


def test_an_identifier_of_a_divided_device_means_all_its_instances() -> None:
    assert left_by(ALL, batch_sources(ALL, gave("GPU-cccc0000"), {}, complete=True)) == [C1.uuid, C2.uuid]


def test_a_count_of_none_hides_all() -> None:
    assert left_by(ALL, batch_sources(ALL, gave(count=0), {}, complete=True)) == []


def test_a_count_that_does_not_say_which_is_told() -> None:
    (source,) = batch_sources((A, B), gave(count=1), {}, complete=True)
    assert "does not say which of the 2" in source.text
    assert source.left is None


def test_places_mean_nothing_where_some_devices_are_not_seen() -> None:
    assert left_by(AMD, batch_sources(AMD, gave("1"), {}, complete=True)) == ["GPU-02"]
    assert len(left_by(AMD, batch_sources(AMD, gave("1"), {}, complete=False))) == 3


@pytest.mark.parametrize(
    ("variables", "left"),
    [
        ({"_CONDOR_AssignedGPUs": "GPU-bbbb2222"}, [B]),
        ({"_CONDOR_AssignedGPUs": "GPU-aaaa1111, GPU-bbbb2222"}, [A, B]),
        ({"SLURM_JOB_GPUS": "4,5", "SLURM_STEP_GPUS": "5"}, [B]),
        ({"SLURM_STEP_GPUS": "5"}, [A, B]),
    ],
)
def test_variables_of_steps_and_slots_count(variables: dict[str, str], left: list[Gpu]) -> None:
    assert left_by((A, B), batch_sources((A, B), [], variables, complete=True)) == [device.uuid for device in left]


def test_every_source_is_told_and_the_smallest_set_wins() -> None:
    found = grant(
        (A, B), [Source("one", frozenset({"GPU-aaaa1111", "GPU-bbbb2222"})), Source("two", frozenset({"GPU-bbbb2222"}))]
    )
    assert found.devices == (B,)
    assert found.hidden == ((A, "two"),)
    assert found.sources == ("one", "two")


def test_instances_share_the_number_of_their_device() -> None:
    assert [device.index for device in renumbered((B, C1, C2))] == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("a *:* rwm\n", True),
        ("c 195:* rwm\n", True),
        ("c 195:0 rw\n", True),
        ("c *:* m\nc 195:0 r\nc 195:0 w\n", True),
        ("c 195:1 rwm\n", False),
        ("c *:* m\n", False),
        ("b 195:0 rwm\n", False),
        ("", False),
    ],
)
def test_a_list_of_devices_allows_or_not(text: str, allowed: bool) -> None:
    assert is_allowed(text, "195:0") is allowed


def test_the_group_that_forbids_a_device_is_named(tmp_path: Path) -> None:
    mount = "40 30 0:30 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
    files = {
        "/proc/self/cgroup": "5:devices:/slurm/job_1\n",
        "/proc/self/mountinfo": mount,
        "/sys/fs/cgroup/devices/slurm/job_1/devices.list": "c 1:3 rwm\n",
    }
    node = Node(write_tree(tmp_path, files).root)
    assert kept_by_group(node, "/dev/nvidia0") is None
    recorded = {"kind": "device", "mode": 438, "uid": 0, "gid": 0, "size_bytes": 0, "device": "195:0"}
    known = _with_status(tmp_path, {"/dev/nvidia0": recorded})
    assert kept_by_group(known, "/dev/nvidia0") == "cgroup1 devices.list /slurm/job_1"
    assert explained(known, "/dev/nvidia0", "EPERM").startswith("cgroup1 devices.list /slurm/job_1 keeps")


def _with_status(root: Path, found: dict[str, dict[str, object]]) -> Node:
    from pilot_agent.probes.recording import Recording

    readings = {("stat", path): status for path, status in found.items()}
    return Node(str(root), recording=Recording(str(root), complete=False, readings=readings))


def test_device_nodes_are_really_opened(tmp_path: Path) -> None:
    (tmp_path / "closed").write_text("")
    (tmp_path / "closed").chmod(0)
    tmp_path.chmod(0o755)
    paths = ["/dev/null", "/dev/no_such_device", str(tmp_path)]
    assert open_nodes(paths) == {"/dev/null": "", "/dev/no_such_device": "ENOENT", str(tmp_path): "EISDIR"}


def test_a_device_node_that_an_account_may_not_open_is_told(open_path: Path) -> None:
    closed = open_path / "closed"
    closed.write_text("")
    closed.chmod(0)
    assert as_nobody(lambda: open_nodes([str(closed)])) == {str(closed): "EACCES"}
    assert "must add the account to that group" in explained(Node("/"), str(closed), "EACCES")
    assert "reload the GPU's driver" in explained(Node("/"), str(closed), "EIO")
    assert "is not in this container" in explained(Node("/"), str(closed), "ENOENT")
