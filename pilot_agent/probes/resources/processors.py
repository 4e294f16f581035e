"""What kind of processors a node has, as ``/proc/cpuinfo`` of x86, Arm and POWER tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Designers and parts by their numbers in MIDR_EL1 (the kernel's arch/arm64/include/asm/cputype.h): Arm processors do
# not name themselves.
_ARM_DESIGNERS = {
    0x41: "Arm",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x61: "Apple",
    0x6D: "Microsoft",
    0xC0: "Ampere",
}
_ARM_PARTS = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD8E): "Neoverse-N3",
    (0x42, 0x516): "ThunderX2",
    (0x43, 0x0A1): "ThunderX",
    (0x43, 0x0AF): "ThunderX2",
    (0x43, 0x0B8): "ThunderX3",
    (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "Kunpeng-920",
    (0x4E, 0x004): "Carmel",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1A",
}


@dataclass(frozen=True, slots=True)
class Processors:
    """What ``/proc/cpuinfo`` says: the number of its blocks, distinct cores and packages (None if it has no such
    fields), and model, vendor and flags of the first block. ``arm`` when the flags are those of an Arm processor."""

    logical: int
    physical: int | None
    model: str | None
    flags: tuple[str, ...]
    sockets: int | None = None
    vendor: str | None = None
    arm: bool = False


def parse_cpuinfo(text: str) -> Processors:
    """The processors in ``/proc/cpuinfo`` of x86, Arm or POWER; fields that are missing are empty."""
    blocks = [fields for fields in map(_fields, text.split("\n\n")) if "processor" in fields]
    packages = {fields["physical id"] for fields in blocks if "physical id" in fields}
    cores = {
        (fields["physical id"], fields["core id"])
        for fields in blocks
        if "physical id" in fields and "core id" in fields
    }
    first = blocks[0] if blocks else {}
    return Processors(
        logical=len(blocks),
        physical=len(cores) or None,
        model=_model(first),
        flags=tuple((first.get("flags") or first.get("Features") or "").split()),
        sockets=len(packages) or None,
        vendor=_vendor(first),
        arm="CPU implementer" in first,
    )


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _model(fields: Mapping[str, str]) -> str | None:
    named = fields.get("model name") or fields.get("cpu") or fields.get("Processor")
    if named:
        return named
    if "CPU implementer" not in fields:
        return None
    numbers = f"implementer {fields['CPU implementer']} part {fields.get('CPU part', 'unknown')}"
    key = (_number(fields["CPU implementer"]), _number(fields.get("CPU part", "")))
    return f"{_ARM_PARTS[key]} ({numbers})" if key in _ARM_PARTS else f"Arm {numbers}"


def _vendor(fields: Mapping[str, str]) -> str | None:
    if fields.get("vendor_id"):
        return fields["vendor_id"]
    if "CPU implementer" in fields:
        return _ARM_DESIGNERS.get(_number(fields["CPU implementer"]), f"implementer {fields['CPU implementer']}")
    return "IBM" if fields.get("cpu", "").startswith("POWER") else None


def _number(text: str) -> int:
    """A number in the form 0x41; -1 for anything else."""
    digits = text.removeprefix("0x")
    return int(digits, 16) if 0 < len(digits) <= 4 and all(each in "0123456789abcdefABCDEF" for each in digits) else -1
