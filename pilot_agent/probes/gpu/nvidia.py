"""NVIDIA's devices on a node: what the kernel module lists, what NVML tells of them, and what may be opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pilot_agent.probes.answers import Answer
from pilot_agent.probes.gpu.device import Gpu, pci_address
from pilot_agent.probes.gpu.device_nodes import explained, is_kept, kept_by_group, outcome
from pilot_agent.probes.gpu.nvml import Nvidia, judge_nvml
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

PROC = "/proc/driver/nvidia"
_DRIVER_VERSION = r"Kernel Module(?: for \S+)?\s+([0-9]+(?:\.[0-9]+)+)"
_MOST_DEVICES = 256


@dataclass(frozen=True, slots=True)
class Found:
    """``devices`` may be opened (or nobody knows), ``kept`` are on the node and not for this job, each with who keeps
    it; ``unseen`` is how many more NVML refused without a name. ``told`` is NVML's own answer."""

    devices: tuple[Gpu, ...]
    kept: tuple[tuple[Gpu, str], ...]
    unseen: int
    told: Nvidia


def is_nvidia_node(name: str) -> bool:
    """True for the name of a device node of a GPU: ``nvidia`` and its number."""
    return name.startswith("nvidia") and name[6:].isascii() and name[6:].isdigit()


def parse_driver_version(text: str) -> str | None:
    """The version in ``/proc/driver/nvidia/version``; None when it is not there."""
    match = re.search(_DRIVER_VERSION, text)
    return match[1] if match else None


def listed_by_driver(node: Node) -> tuple[Gpu, ...]:
    """All devices of the node as the kernel module lists them, also those that this job may not use."""
    found = []
    base = f"{PROC}/gpus"
    for index, name in enumerate(node.names(base)[:_MOST_DEVICES]):
        lines = (node.read(f"{base}/{name}/information") or "").splitlines()
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        uuid = fields.get("GPU UUID", "")
        minor = parse_integer(fields.get("Device Minor"))
        found.append(
            Gpu(
                vendor="nvidia",
                index=index,
                # A device that nobody has used since the module was loaded shows question marks.
                uuid=uuid if uuid and "?" not in uuid else None,
                name=fields.get("Model") or None,
                pci_id=pci_address(name),
                minor=minor,
                node=None if minor is None else f"/dev/nvidia{minor}",
            )
        )
    return tuple(found)


def nvidia_nodes(node: Node, listed: tuple[Gpu, ...]) -> list[str]:
    """The device nodes to try: those that are there and those that the listed devices should have."""
    there = [f"/dev/{name}" for name in node.names("/dev") if is_nvidia_node(name)]
    return sorted({*there, *(device.node for device in listed if device.node)})[:_MOST_DEVICES]


def judge_nvidia(node: Node, listed: tuple[Gpu, ...], nvml: Answer, opened: Answer) -> Found:
    """What the answers mean together. Devices stay listed when NVML cannot be asked, with the reason."""
    told = judge_nvml(nvml.value) if nvml.value is not None else Nvidia(problem=_not_asked(nvml))
    if told.problem:
        state = "unusable" if nvml.recorded else "unknown"
        reason = told.problem
        candidates = tuple(replace(each, state=state, reason=reason) for each in listed)  # type: ignore[arg-type]
        return _sorted_out(node, candidates, opened, 0, told)
    known = {device.pci_id for device in told.devices if device.pci_id} | {
        device.parent or device.uuid for device in told.devices
    }
    missing = [each for each in listed if each.pci_id not in known and each.uuid not in known]
    # Without a place on the bus nobody can say which of the listed ones a nameless broken device is.
    nameless = sum(1 for device in told.devices if device.uuid is None and device.pci_id is None)
    found = [
        replace(each, node=f"/dev/nvidia{each.minor}") if each.minor is not None else each for each in told.devices
    ]
    kept, unlisted = [], []
    for each in missing:
        problem = outcome(opened, each.node)
        if problem is None and each.node and kept_by_group(node, each.node):
            problem = "EPERM"
        if problem:
            kept.append((each, explained(node, each.node or "", problem)))
        elif told.refused:
            kept.append((each, "NVML refuses it (Insufficient Permissions)"))
        else:
            unlisted.append(each)
    reason = "the kernel module lists it and NVML does not; the site must look for it in the kernel's log (NVRM, Xid)"
    found += [replace(each, state="unusable", reason=reason) for each in unlisted[nameless:]]
    sorted_out = _sorted_out(node, tuple(found), opened, max(0, told.refused - len(kept)), told)
    return replace(sorted_out, kept=(*kept, *sorted_out.kept))


def _sorted_out(node: Node, devices: tuple[Gpu, ...], opened: Answer, unseen: int, told: Nvidia) -> Found:
    """Devices whose node does not open are kept from this job, or unusable."""
    left: list[Gpu] = []
    kept: list[tuple[Gpu, str]] = []
    for device in devices:
        problem = outcome(opened, device.node)
        if problem is None and device.node and kept_by_group(node, device.node):
            problem = "EPERM"
        if problem and is_kept(problem):
            kept.append((device, explained(node, device.node or "", problem)))
        elif problem and device.state == "usable":
            left.append(replace(device, state="unusable", reason=explained(node, device.node or "", problem)))
        else:
            left.append(device)
    return Found(tuple(left), tuple(kept), unseen, told)


def _not_asked(nvml: Answer) -> str:
    if not nvml.recorded:
        return nvml.problem
    if nvml.hung or nvml.stuck:
        how = "and cannot be ended: it sleeps in the kernel" if nvml.stuck else "in time"
        return (
            f"NVML does not answer {how}; the driver hangs: the site must look for NVRM and Xid in the kernel's log "
            "and reboot the node"
        )
    return f"NVML could not be asked: {nvml.problem}"
