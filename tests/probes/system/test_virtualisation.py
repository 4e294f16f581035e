from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.model import FactStatus
from pilot_agent.probes.node import Node
from pilot_agent.probes.system.virtualisation import find_virtualisation
from tests.probes.trees import write_tree

DMI = "/sys/class/dmi/id"
CLOCKS = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
X86 = ("lm", "sse2")
GUEST = (*X86, "hypervisor")


@pytest.mark.parametrize(
    ("files", "flags", "kind", "source"),
    [
        ({f"{DMI}/sys_vendor": "Dell Inc.\n", f"{DMI}/product_name": "PowerEdge R6525\n"}, X86, "none", "flags"),
        ({f"{DMI}/sys_vendor": "Red Hat\n", f"{DMI}/product_name": "KVM\n"}, GUEST, "kvm", "product_name"),
        ({f"{DMI}/sys_vendor": "QEMU\n", CLOCKS: "kvm-clock tsc acpi_pm\n"}, GUEST, "kvm", "clocksource"),
        ({f"{DMI}/sys_vendor": "QEMU\n", CLOCKS: "tsc hpet acpi_pm\n"}, GUEST, "qemu", "sys_vendor"),
        ({f"{DMI}/product_name": "VMware7,1\n"}, GUEST, "vmware", "product_name"),
        ({f"{DMI}/product_name": "VirtualBox\n"}, GUEST, "oracle", "product_name"),
        (
            {f"{DMI}/sys_vendor": "Microsoft Corporation\n", f"{DMI}/product_name": "Virtual Machine\n"},
            GUEST,
            "microsoft",
            "product_name",
        ),
        (
            {f"{DMI}/sys_vendor": "Microsoft Corporation\n", f"{DMI}/product_name": "Surface Laptop\n"},
            X86,
            "none",
            "flags",
        ),
        ({f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "c5.large\n"}, GUEST, "amazon", "sys_vendor"),
        ({f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "c5.metal\n"}, X86, "none", "product_name"),
        ({f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "c7g.metal\n"}, (), "none", "product_name"),
        ({f"{DMI}/product_name": "OpenStack Nova\n"}, GUEST, "kvm", "product_name"),
        ({CLOCKS: "kvm-clock tsc\n"}, GUEST, "kvm", "clocksource"),
        ({CLOCKS: "hyperv_clocksource_tsc_page acpi_pm\n"}, GUEST, "microsoft", "clocksource"),
        ({"/sys/hypervisor/type": "xen\n"}, X86, "xen", "/sys/hypervisor/type"),
        ({"/sys/hypervisor/type": "xen\n", "/proc/xen/capabilities": "control_d\n"}, X86, "none", "capabilities"),
        ({"/proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, (), "kvm", "compatible"),
        ({"/proc/device-tree/hypervisor/compatible": "xen,xen-4.16\0xen,xen\0"}, (), "xen", "compatible"),
        ({"/proc/device-tree/hypervisor/compatible": "acme,hv\0"}, (), "other", "compatible"),
        ({"/proc/device-tree/ibm,partition-name": "lpar3\0"}, (), "powervm", "partition-name"),
        (
            {
                "/proc/device-tree/ibm,partition-name": "x\0",
                "/proc/device-tree/model": "IBM pSeries (emulated by qemu)",
            },
            (),
            "kvm",
            "partition-name",
        ),
        ({"/proc/device-tree/model": "PowerNV 8335-GTX\0"}, (), "none", "device tree"),
        ({f"{DMI}/sys_vendor": "Ampere(R)\n"}, ("fp", "asimd"), "none", DMI),
        ({}, GUEST, "other", "flags"),
    ],
)
def test_what_the_kernel_runs_under_is_named(
    tmp_path: Path, files: dict[str, str], flags: tuple[str, ...], kind: str, source: str
) -> None:
    fact = find_virtualisation(Node(write_tree(tmp_path, files).root), flags)
    assert fact.value == kind
    assert source in fact.source


def test_a_node_that_shows_nothing_is_not_taken_for_bare_metal(tmp_path: Path) -> None:
    assert find_virtualisation(Node(str(tmp_path)), ()).status is FactStatus.UNKNOWN
