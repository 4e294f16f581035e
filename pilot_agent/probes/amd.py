"""AMD GPUs as the kernel's compute driver (kfd) lists them in sysfs; no library is needed."""

from __future__ import annotations

import os

from pilot_agent.probes.answers import NOT_RECORDED
from pilot_agent.probes.device import Gpu
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"
DEVICE = "/dev/kfd"
# HSA_MEM_HEAP_TYPE_FB_PUBLIC and _PRIVATE of the driver's interface: the device's own memory.
_DEVICE_HEAPS = (1, 2)


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
    """Every GPU node of the topology, in the kernel's order; empty without the driver. Whether it may be opened is
    known on the node itself only."""
    names = sorted((name for name in node.names(TOPOLOGY) if parse_integer(name) is not None), key=int)
    found: list[Gpu] = []
    for name in names:
        base = f"{TOPOLOGY}/{name}"
        # Processors are nodes of the topology too, with the number 0.
        if not node.read_integer(f"{base}/gpu_id"):
            continue
        properties = parse_properties(node.read(f"{base}/properties") or "")
        identifier = properties.get("unique_id")
        refused = _refused() if node.live else NOT_RECORDED
        found.append(
            Gpu(
                vendor="amd",
                index=len(found),
                uuid=f"GPU-{identifier:016x}" if identifier else None,
                name=node.read_line(f"{base}/name"),
                memory_mib=_memory_mib(node, base),
                capability=gfx_name(properties.get("gfx_target_version", 0)),
                state=("unusable" if refused else "usable") if node.live else "unknown",
                reason=refused,
            )
        )
    return tuple(found)


def _memory_mib(node: Node, base: str) -> int | None:
    banks = [
        parse_properties(node.read(f"{base}/mem_banks/{name}/properties") or "")
        for name in node.names(f"{base}/mem_banks")
    ]
    sizes = [bank.get("size_in_bytes", 0) for bank in banks if bank.get("heap_type") in _DEVICE_HEAPS]
    return sum(sizes) >> 20 or None


def _refused() -> str:
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{DEVICE} cannot be opened ({error.strerror}); the site must add this account to its group"
    return ""
