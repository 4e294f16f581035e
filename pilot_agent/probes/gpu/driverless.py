"""GPUs on the bus that no GPU driver has taken: looked for only where somebody promised this job a GPU.

A node whose driver does not load shows no device node, so that its GPUs are missed silently otherwise. Format: the
kernel's ``Documentation/ABI/testing/sysfs-bus-pci`` and the class codes of the PCI specification.
"""

from __future__ import annotations

import posixpath
from typing import Literal

from pilot_agent.probes.gpu.device import Gpu, pci_address
from pilot_agent.probes.node import Node

DEVICES = "/sys/bus/pci/devices"
_VENDORS: dict[str, tuple[Literal["nvidia", "amd"], str, tuple[str, ...]]] = {
    "0x10de": ("nvidia", "NVIDIA", ("nvidia",)),
    "0x1002": ("amd", "AMD", ("amdgpu",)),
}
# 3D controllers, display controllers that are no screen's, and those that are.
_CLASSES = ("0x0302", "0x0380", "0x0300")
_MOST_DEVICES = 2048


def driverless_gpus(node: Node) -> tuple[Gpu, ...]:
    """NVIDIA's and AMD's display and 3D controllers without their own driver, unusable, with what took them instead."""
    found: list[Gpu] = []
    for name in node.names(DEVICES)[:_MOST_DEVICES]:
        base = f"{DEVICES}/{name}"
        if not (node.read_line(f"{base}/class") or "").startswith(_CLASSES):
            continue
        known = _VENDORS.get(node.read_line(f"{base}/vendor") or "")
        driver = posixpath.basename(node.link(f"{base}/driver") or "")
        if known is None or driver in known[2]:
            continue
        vendor, shown, own = known
        model = f"{shown} device {node.read_line(f'{base}/device') or ''}".strip()
        at = len([each for each in found if each.vendor == vendor])
        reason = _reason(driver, own[0])
        found.append(Gpu(vendor, at, name=model, pci_id=pci_address(name), state="unusable", reason=reason))
    return tuple(found)


def _reason(driver: str, own: str) -> str:
    if driver == "vfio-pci":
        return "it is set apart for a virtual machine (vfio-pci); the site must give it back to the host"
    if driver:
        return f"the driver {driver} has it, with which nothing computes; the site must install and load {own}"
    return f"no driver has it; the site must load it (modprobe {own}), or look in the kernel's log why that fails"
