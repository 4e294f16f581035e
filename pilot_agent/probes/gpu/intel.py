"""Intel's discrete GPUs as the kernel lists them in sysfs (drivers i915 and xe); no library is needed.

A graphics core inside a processor has no memory of its own and is none that jobs ask for: only display controllers of
the classes 0x0302 and 0x0380, and what shows local memory, count. Formats: the kernel's
``Documentation/ABI/testing/sysfs-driver-intel-xe*`` and Intel's i915 of the Data Center GPU (``lmem_total_bytes``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pilot_agent.probes.answers import NOT_RECORDED, Answer
from pilot_agent.probes.gpu.device import Gpu, pci_address
from pilot_agent.probes.gpu.device_nodes import explained, is_kept, outcome
from pilot_agent.probes.node import Node

DRM = "/sys/class/drm"
_VENDOR = "0x8086"
# PCI class code: 3D controller, and display controller that is no screen's.
_COMPUTE_CLASSES = ("0x0302", "0x0380")
# Names by PCI identifier, from Intel's list of supported hardware; others are shown by their number.
_NAMES = {
    "0x0bd5": "Intel Data Center GPU Max 1550",
    "0x0bd6": "Intel Data Center GPU Max 1550",
    "0x0bd9": "Intel Data Center GPU Max 1100",
    "0x0bda": "Intel Data Center GPU Max 1100",
    "0x0bdb": "Intel Data Center GPU Max 1100",
    "0x56c0": "Intel Data Center GPU Flex 170",
    "0x56c1": "Intel Data Center GPU Flex 140",
    "0xe20b": "Intel Arc B580",
    "0x56a0": "Intel Arc A770",
}
_MOST_CARDS = 256


def read_intel_gpus(node: Node) -> tuple[Gpu, ...]:
    """Every discrete device, in the kernel's order. Whether it may be opened is not known yet."""
    found: list[Gpu] = []
    for number in sorted(_cards(node)):
        card = f"{DRM}/card{number}"
        base = f"{card}/device"
        if node.read_line(f"{base}/vendor") != _VENDOR:
            continue
        memory = _memory_bytes(node, card)
        code = node.read_line(f"{base}/class") or ""
        if not memory and not code.startswith(_COMPUTE_CLASSES):
            continue
        identifier = (node.read_line(f"{base}/device") or "").lower()
        minor = _render_minor(node, base)
        found.append(
            Gpu(
                vendor="intel",
                index=len(found),
                name=_NAMES.get(identifier) or (f"Intel GPU {identifier}" if identifier else None),
                memory_mib=memory >> 20 if memory else None,
                memory_free_mib=_free_mib(node, card),
                pci_id=_pci_id(node, base),
                minor=minor,
                node=None if minor is None else f"/dev/dri/renderD{minor}",
            )
        )
    return tuple(found)


def judge_intel(
    node: Node, devices: tuple[Gpu, ...], opened: Answer
) -> tuple[tuple[Gpu, ...], tuple[tuple[Gpu, str], ...]]:
    """The devices with what opening them gave, and those that are kept from this job with who keeps them."""
    left: list[Gpu] = []
    kept: list[tuple[Gpu, str]] = []
    for device in devices:
        problem = outcome(opened, device.node)
        path = device.node or ""
        if device.node is None:
            reason = "it has no render node; the site must load its driver (i915 or xe) and its firmware"
            left.append(replace(device, state="unusable", reason=reason))
        elif problem is None:
            unknown = opened.problem or NOT_RECORDED
            left.append(replace(device, state="unknown", reason=f"whether it opens is not known: {unknown}"))
        elif is_kept(problem):
            kept.append((device, explained(node, path, problem)))
        elif problem:
            left.append(replace(device, state="unusable", reason=explained(node, path, problem)))
        else:
            left.append(device)
    return tuple(left), tuple(kept)


def _cards(node: Node) -> Iterator[int]:
    """The numbers of the cards, without their outputs (``card0-DP-1``)."""
    for name in node.names(DRM)[: 16 * _MOST_CARDS]:
        digits = name[4:]
        if name.startswith("card") and digits.isascii() and digits.isdigit() and len(digits) < 6:
            yield int(digits)


def _memory_bytes(node: Node, card: str) -> int | None:
    """Local memory: i915 shows it for the card, xe for each tile of the device (in KiB of its regions' size)."""
    whole = node.read_integer(f"{card}/lmem_total_bytes")
    if whole is not None:
        return whole
    tiles = [name for name in node.names(f"{card}/device") if name.startswith("tile")]
    sizes = [node.read(f"{card}/device/{tile}/physical_vram_size_bytes") for tile in tiles[:16]]
    numbers = [_any_base(size) for size in sizes]
    return sum(numbers) or None


def _any_base(text: str | None) -> int:
    try:
        return int((text or "").strip()[:20], 0)
    except ValueError:
        return 0


def _free_mib(node: Node, card: str) -> int | None:
    free = node.read_integer(f"{card}/lmem_avail_bytes")
    return None if free is None else free >> 20


def _render_minor(node: Node, base: str) -> int | None:
    names = [name[7:] for name in node.names(f"{base}/drm") if name.startswith("renderD")]
    numbers = [int(digits) for digits in names if digits.isascii() and digits.isdigit() and len(digits) < 6]
    return min(numbers, default=None)


def _pci_id(node: Node, base: str) -> str | None:
    """From the device's own event file, as links of sysfs lead out of what may be looked at in a recording."""
    for line in (node.read(f"{base}/uevent", limit_bytes=4096) or "").splitlines():
        name, _, value = line.partition("=")
        if name == "PCI_SLOT_NAME":
            return pci_address(value)
    return None
