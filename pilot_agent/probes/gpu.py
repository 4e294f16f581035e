"""GPUs: every device this job may use, and why one that is there cannot be used.

A node without GPUs costs two directory listings: no library is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding
from pilot_agent.probes.amd import read_amd_gpus
from pilot_agent.probes.answers import NOT_RECORDED
from pilot_agent.probes.device import Gpu
from pilot_agent.probes.node import Node

_DRIVER_VERSION = r"Kernel Module(?: for \S+)?\s+([0-9]+(?:\.[0-9]+)+)"


def probe_gpu(context: Context) -> Iterator[Finding]:
    """``gpu.devices`` (a list), ``gpu.count`` (those usable) and ``gpu.driver`` (NVIDIA's kernel module)."""
    node = Node.of(context)
    amd, amd_detail = select(read_amd_gpus(node), context.environment, ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))
    if not has_nvidia(node):
        yield from _report(amd, amd_detail, "sysfs kfd")
        yield Fact.absent("gpu.driver", "neither /dev/nvidia* nor /proc/driver/nvidia exists")
        return
    driver = parse_driver_version(node.read("/proc/driver/nvidia/version") or "")
    source = "/proc/driver/nvidia/version"
    yield (
        Fact("gpu.driver", driver, source=source)
        if driver
        else Fact.unknown("gpu.driver", "the kernel module does not say its version", source=source)
    )
    if not node.live:
        yield Fact.unknown("gpu.devices", NOT_RECORDED)
        yield Fact.unknown("gpu.count", NOT_RECORDED)
        return
    from pilot_agent.probes.nvml import read_nvidia_gpus

    found, problem = read_nvidia_gpus()
    if problem:
        found = tuple(replace(device, state="unusable", reason=problem) for device in listed_by_driver(node))
    if problem and not found:
        yield Fact.unknown("gpu.devices", problem, source="NVML")
        yield Fact.unknown("gpu.count", problem, source="NVML")
        return
    nvidia, nvidia_detail = select(found, context.environment, ("CUDA_VISIBLE_DEVICES",))
    details = "; ".join(detail for detail in (nvidia_detail, amd_detail) if detail)
    yield from _report((*nvidia, *amd), details, "/proc/driver/nvidia" if problem else "NVML")


def has_nvidia(node: Node) -> bool:
    """True when the node shows an NVIDIA device or driver."""
    return node.exists("/proc/driver/nvidia") or any(
        name.startswith("nvidia") and name[6:].isdigit() for name in node.names("/dev")
    )


def parse_driver_version(text: str) -> str | None:
    """The version in ``/proc/driver/nvidia/version``; None when it is not there."""
    match = re.search(_DRIVER_VERSION, text)
    return match[1] if match else None


def listed_by_driver(node: Node) -> tuple[Gpu, ...]:
    """The devices that the kernel module lists, for when its library does not work."""
    found = []
    base = "/proc/driver/nvidia/gpus"
    for index, name in enumerate(node.names(base)):
        lines = (node.read(f"{base}/{name}/information") or "").splitlines()
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        found.append(Gpu("nvidia", index, fields.get("GPU UUID") or None, fields.get("Model") or None))
    return tuple(found)


def select(
    devices: Sequence[Gpu], environment: Mapping[str, str], variables: Sequence[str]
) -> tuple[tuple[Gpu, ...], str]:
    """The devices that the first set variable leaves, in the order of the devices, and what is to be said about it.

    The rules are CUDA's (programming guide, environment variables): indices or the beginnings of UUIDs; what comes
    after the first entry that fits no device is not seen either, so empty, -1 and NoDevFiles hide all.
    """
    variable = next((name for name in variables if name in environment), None)
    if variable is None or not devices:
        return tuple(devices), ""
    text = environment[variable]
    chosen: list[Gpu] = []
    by_index = False
    for entry in text.split(","):
        device = _named(devices, entry.strip())
        if device is None:
            break
        by_index = by_index or entry.strip().isdigit()
        if device not in chosen:
            chosen.append(device)
    detail = f"{len(chosen)} of {len(devices)} left by {variable}={text[:200]}"
    models = {device.name for device in devices}
    if by_index and len(models) > 1 and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        detail += "; its numbers were read in PCI order, CUDA may count different models otherwise"
    return tuple(device for device in devices if device in chosen), detail


def _named(devices: Sequence[Gpu], entry: str) -> Gpu | None:
    """The device an entry names: for a device divided into MIG instances the first one, as CUDA does."""
    if entry.isascii() and entry.isdigit():
        matches = [device for device in devices if device.index == int(entry[:9])]
    elif entry.upper().startswith(("GPU-", "MIG-")):
        beginning = entry.lower()
        matches = [device for device in devices if (device.uuid or "").lower().startswith(beginning)]
        if not matches:
            matches = [device for device in devices if (device.parent or "").lower().startswith(beginning)]
        if len({device.index for device in matches}) > 1 or (len(matches) > 1 and beginning.startswith("mig-")):
            return None
    else:
        return None
    return matches[0] if matches else None


def _report(devices: Sequence[Gpu], detail: str, source: str) -> Iterator[Fact]:
    if devices:
        yield Fact("gpu.devices", [device.as_json() for device in devices], source=source, detail=detail)
    else:
        looked = detail or "neither /dev/nvidia*, /proc/driver/nvidia nor /sys/class/kfd shows a GPU"
        yield Fact.absent("gpu.devices", looked, source=source)
    usable = [device for device in devices if device.state == "usable"]
    yield Fact("gpu.count", len(usable), source=source, detail=detail)
