"""Which hypervisor the node's kernel runs under, from files that every account may read.

The names are those of systemd-detect-virt(1) where it has one. What decides comes first: Xen tells its kernels
themselves; then the firmware's table (SMBIOS, in /sys/class/dmi/id) and the device tree; then the clocks that only
guests have. The flag ``hypervisor`` in /proc/cpuinfo (CPUID leaf 1, ECX bit 31) tells that there is one, and no more.
"""

from __future__ import annotations

from collections.abc import Collection

from pilot_agent.model import Fact
from pilot_agent.probes.node import Node

NAME = "os.virtualisation"
NONE = "none"

_DMI = "/sys/class/dmi/id"
_CLOCKS = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
_DEVICE_TREES = ("/proc/device-tree", "/sys/firmware/devicetree/base")
# The product says more than its vendor: Microsoft and Google sell both, machines and places on machines.
_PRODUCTS = (
    ("VMware", "vmware"),
    ("VirtualBox", "oracle"),
    ("Virtual Machine", "microsoft"),
    ("KVM", "kvm"),
    ("RHEV Hypervisor", "kvm"),
    ("oVirt", "kvm"),
    ("OpenStack", "kvm"),
    ("AHV", "kvm"),
    ("Alibaba Cloud ECS", "kvm"),
    ("HVM domU", "xen"),
    ("Google Compute Engine", "google"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Bochs", "bochs"),
)
_VENDORS = (
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "oracle"),
    ("Amazon EC2", "amazon"),
    ("OpenStack", "kvm"),
    ("Xen", "xen"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Bochs", "bochs"),
    ("QEMU", "qemu"),
)
# Clock sources that the kernel registers only as a guest of that hypervisor (arch/x86 and drivers/clocksource).
_GUEST_CLOCKS = (("kvm-clock", "kvm"), ("hyperv_clocksource", "microsoft"), ("xen", "xen"))


def find_virtualisation(node: Node, flags: Collection[str]) -> Fact:
    """``os.virtualisation``: the hypervisor's name, ``none`` on bare metal, ``other`` for one that nothing names.

    ``flags`` are the first processor's in /proc/cpuinfo; only x86 tells of a hypervisor there.
    """
    fact = _xen(node) or _firmware(node, flags) or _device_tree(node) or _clock(node)
    if fact is not None:
        return fact
    if "hypervisor" in flags:
        return Fact(NAME, "other", source="/proc/cpuinfo flags", detail="there is a hypervisor, but nothing names it")
    if "lm" in flags:
        return Fact(NAME, NONE, source="/proc/cpuinfo flags")
    if node.read_line(f"{_DMI}/sys_vendor"):
        return Fact(NAME, NONE, source=_DMI)
    if any(node.exists(directory) for directory in _DEVICE_TREES):
        return Fact(NAME, NONE, source="device tree")
    return Fact.unknown(NAME, f"neither {_DMI}, a device tree nor the flags of an x86-64 processor could be read")


def _xen(node: Node) -> Fact | None:
    # Domain 0 is the machine's own system, with the whole hardware.
    if "control_d" in (node.read("/proc/xen/capabilities", limit_bytes=4096) or ""):
        return Fact(NAME, NONE, source="/proc/xen/capabilities", detail="Xen's domain 0, the machine's own system")
    kind = node.read_line("/sys/hypervisor/type")
    return Fact(NAME, kind.lower()[:40], source="/sys/hypervisor/type") if kind else None


def _firmware(node: Node, flags: Collection[str]) -> Fact | None:
    product, vendor = (node.read_line(f"{_DMI}/{name}") or "" for name in ("product_name", "sys_vendor"))
    if vendor.startswith("Amazon EC2") and (".metal" in product or ("lm" in flags and "hypervisor" not in flags)):
        return Fact(NAME, NONE, source=f"{_DMI}/product_name", detail=f"{product[:80]}: a whole machine of Amazon EC2")
    kind = _named(_PRODUCTS, product)
    if kind == "microsoft" and not vendor.startswith("Microsoft"):
        kind = None
    if kind:
        return Fact(NAME, kind, source=f"{_DMI}/product_name", detail=_described(product, vendor))
    for name in ("sys_vendor", "board_vendor", "bios_vendor"):
        found = vendor if name == "sys_vendor" else node.read_line(f"{_DMI}/{name}") or ""
        kind = _named(_VENDORS, found)
        if kind:
            # The same table is shown by QEMU alone and by QEMU with the processor's help.
            clock = _clock(node) if kind == "qemu" else None
            return clock or Fact(NAME, kind, source=f"{_DMI}/{name}", detail=_described(product, vendor))
    return None


def _device_tree(node: Node) -> Fact | None:
    for directory in _DEVICE_TREES:
        path = f"{directory}/hypervisor/compatible"
        compatible = (node.read(path, limit_bytes=4096) or "").replace("\0", " ").strip()
        if compatible:
            for word, kind in (("linux,kvm", "kvm"), ("xen", "xen"), ("vmware", "vmware")):
                if word in compatible:
                    return Fact(NAME, kind, source=path)
            return Fact(NAME, "other", source=path, detail=compatible[:80])
        # A logical partition of POWER's own hypervisor; QEMU shows the same tree and says who it is.
        partition = f"{directory}/ibm,partition-name"
        if node.exists(partition):
            model = node.read(f"{directory}/model", limit_bytes=4096) or ""
            return Fact(NAME, "kvm" if "qemu" in model.lower() else "powervm", source=partition)
    return None


def _clock(node: Node) -> Fact | None:
    clocks = (node.read(_CLOCKS, limit_bytes=4096) or "").split()
    kind = next((kind for begin, kind in _GUEST_CLOCKS if any(clock.startswith(begin) for clock in clocks)), None)
    return Fact(NAME, kind, source=_CLOCKS) if kind else None


def _named(table: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((kind for begin, kind in table if text.startswith(begin)), None)


def _described(product: str, vendor: str) -> str:
    return ", ".join(dict.fromkeys(part[:80] for part in (product, vendor) if part))
