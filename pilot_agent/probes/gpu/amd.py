"""AMD GPUs as the kernel's drivers list them in sysfs (kfd and amdgpu); no library is needed.

Formats: the kernel's ``Documentation/gpu/amdgpu`` (driver-misc, ras) and ``drivers/gpu/drm/amd/amdkfd/kfd_topology.c``.
Where amd-smi is installed it is asked for what sysfs does not tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pilot_agent.model import Json
from pilot_agent.probes.answers import NOT_RECORDED, Answer
from pilot_agent.probes.gpu.device import Gpu, pci_address
from pilot_agent.probes.gpu.device_nodes import explained, is_kept, outcome
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"
DEVICE = "/dev/kfd"
# HSA_MEM_HEAP_TYPE_FB_PUBLIC and _PRIVATE of the driver's interface: the device's own memory.
_DEVICE_HEAPS = (1, 2)
_MOST_NODES = 512
# amd-smi is a program in Python that looks at every device several times.
_SMI_SECONDS = 5.0
_UNITS = {"B": 0, "KB": 10, "MB": 20, "GB": 30}


def parse_properties(text: str) -> dict[str, int]:
    """A kfd properties file: ``name number`` per line; lines in another form are left out."""
    found = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        # Identifiers are 64 bits wide, so up to twenty digits.
        if name and number.isascii() and number.isdigit() and len(number) <= 20:
            found[name] = int(number)
    return found


def gfx_name(version: int) -> str | None:
    """The name of an instruction set: 90010 is gfx90a (two decimal digits each for minor and stepping)."""
    if version <= 0:
        return None
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def read_amd_gpus(node: Node) -> tuple[Gpu, ...]:
    """Every GPU of the topology, in the kernel's order; empty without the driver. Whether it may be opened is not
    known yet."""
    names = sorted((name for name in node.names(TOPOLOGY)[:_MOST_NODES] if parse_integer(name) is not None), key=int)
    found: list[Gpu] = []
    for name in names:
        base = f"{TOPOLOGY}/{name}"
        # Processors are nodes of the topology too, with the number 0.
        if not node.read_integer(f"{base}/gpu_id"):
            continue
        properties = parse_properties(node.read(f"{base}/properties") or "")
        minor = properties.get("drm_render_minor")
        identifier = properties.get("unique_id")
        device = f"/sys/class/drm/renderD{minor}/device" if minor else None
        found.append(
            Gpu(
                vendor="amd",
                index=len(found),
                uuid=f"GPU-{identifier:016x}" if identifier else None,
                name=(node.read_line(f"{device}/product_name") if device else None) or node.read_line(f"{base}/name"),
                memory_mib=_memory_mib(node, base, device),
                memory_free_mib=_free_mib(node, device),
                capability=gfx_name(properties.get("gfx_target_version", 0)),
                pci_id=_pci_id(properties),
                minor=minor,
                node=f"/dev/dri/renderD{minor}" if minor else None,
                ecc_uncorrected=_uncorrected(node, device),
            )
        )
    return tuple(found)


def amd_nodes(devices: tuple[Gpu, ...]) -> list[str]:
    """The device nodes to try: the one of all, and one of each."""
    return [DEVICE, *(device.node for device in devices if device.node)] if devices else []


def judge_amd(
    node: Node, devices: tuple[Gpu, ...], opened: Answer
) -> tuple[tuple[Gpu, ...], tuple[tuple[Gpu, str], ...]]:
    """The devices with what opening them gave, and those that are kept from this job with who keeps them."""
    left: list[Gpu] = []
    kept: list[tuple[Gpu, str]] = []
    for device in devices:
        paths = [path for path in (DEVICE, device.node) if path]
        problems = [(path, outcome(opened, path)) for path in paths]
        path, problem = next(((path, problem) for path, problem in problems if problem), ("", ""))
        if all(problem is None for _, problem in problems):
            unknown = opened.problem or NOT_RECORDED
            left.append(replace(device, state="unknown", reason=f"whether it opens is not known: {unknown}"))
        elif problem and is_kept(problem):
            kept.append((device, explained(node, path, problem)))
        elif problem:
            left.append(replace(device, state="unusable", reason=explained(node, path, problem)))
        else:
            errors = device.ecc_uncorrected
            left.append(replace(device, note=f"{errors} uncorrectable memory errors" if errors else ""))
    return tuple(left), tuple(kept)


def completed_by_smi(node: Node, devices: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """The devices with what only amd-smi tells; as they were where sysfs tells all, or it is missing or fails."""
    wanting = [each for each in devices if None in (each.memory_mib, each.memory_free_mib, each.name)]
    if not wanting:
        return devices
    static = parse_smi(node.run(["amd-smi", "static", "--json"], seconds=_SMI_SECONDS).stdout)
    if not static:
        return devices
    metric = parse_smi(node.run(["amd-smi", "metric", "--mem-usage", "--json"], seconds=_SMI_SECONDS).stdout)
    told = {key: record for key, record in static.items() if key}
    usage = {record.get("gpu"): record for record in metric.values() if isinstance(record.get("gpu"), int)}
    return tuple(_completed(device, told.get(device.pci_id or ""), usage) for device in devices)


def _completed(device: Gpu, told: Mapping[str, Json] | None, usage: Mapping[Json, Mapping[str, Json]]) -> Gpu:
    if told is None:
        return device
    number = told.get("gpu")
    used = usage.get(number, {}) if isinstance(number, int) else {}
    return replace(
        device,
        name=_words(told, "board", "product_name") or _words(told, "asic", "market_name") or device.name,
        memory_mib=device.memory_mib or _size_mib(_inside(told, "vram", "size")),
        memory_free_mib=device.memory_free_mib
        if device.memory_free_mib is not None
        else _size_mib(_inside(used, "mem_usage", "free_vram")),
    )


def parse_smi(text: str) -> dict[str, Mapping[str, Json]]:
    """The records of amd-smi's JSON by their place on the bus (``metric`` has none: by ``gpu N``).

    Its releases write a list, or an object that holds it as ``gpu_data``, and Python's warnings may stand before.
    """
    begin = min((place for place in (text.find("\n["), text.find("\n{")) if place >= 0), default=-1) + 1
    try:
        found = json.loads(text if text[:1] in ("[", "{") else text[begin:])
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, dict):
        found = found.get("gpu_data")
    records = [record for record in found[:_MOST_NODES] if isinstance(record, dict)] if isinstance(found, list) else []
    return {pci_address(_words(record, "bus", "bdf")) or f"gpu {record.get('gpu')}": record for record in records}


def _inside(record: Json, *names: str) -> Json:
    for name in names:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def _words(record: Json, *names: str) -> str | None:
    text = _inside(record, *names)
    return text[:200] if isinstance(text, str) and text not in ("", "N/A") else None


def _size_mib(size: Json) -> int | None:
    """MiB of ``{"value": 65520, "unit": "MB"}``, or of the bare number of MB that older releases write."""
    value, unit = (size.get("value"), size.get("unit")) if isinstance(size, Mapping) else (size, "MB")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 60 or unit not in _UNITS:
        return None
    return (value << _UNITS[unit]) >> 20


def _memory_mib(node: Node, base: str, device: str | None) -> int | None:
    banks = [
        parse_properties(node.read(f"{base}/mem_banks/{name}/properties") or "")
        for name in node.names(f"{base}/mem_banks")
    ]
    size = sum(bank.get("size_in_bytes", 0) for bank in banks if bank.get("heap_type") in _DEVICE_HEAPS)
    if not size and device:
        size = node.read_integer(f"{device}/mem_info_vram_total") or 0
    return size >> 20 or None


def _free_mib(node: Node, device: str | None) -> int | None:
    if device is None:
        return None
    total, used = (node.read_integer(f"{device}/mem_info_vram_{name}") for name in ("total", "used"))
    return None if total is None or used is None else max(0, total - used) >> 20


def _uncorrected(node: Node, device: str | None) -> int | None:
    """Uncorrectable errors of the memory controllers: ``ue: N`` in ``ras/umc_err_count``; None without RAS."""
    text = node.read(f"{device}/ras/umc_err_count") if device else None
    return next(_counts(text or ""), None)


def _counts(text: str) -> Iterator[int]:
    for line in text.splitlines():
        name, _, number = line.partition(":")
        count = parse_integer(number)
        if name.strip() == "ue" and count is not None:
            yield count


def _pci_id(properties: Mapping[str, int]) -> str | None:
    """``location_id`` holds bus, device and function in 8, 5 and 3 bits."""
    place = properties.get("location_id")
    if not place or place >= 1 << 16:
        return None
    domain = properties.get("domain", 0) & 0xFFFF
    return f"{domain:04x}:{place >> 8:02x}:{place >> 3 & 0x1F:02x}.{place & 7:x}"
