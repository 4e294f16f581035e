"""What a processor's instruction set is called, from the names that the kernel lists in ``/proc/cpuinfo``."""

from __future__ import annotations

from collections.abc import Collection

# The levels of the x86-64 psABI (section "Micro-Architecture Levels") in the names of /proc/cpuinfo.
_LEVELS = (
    ("x86-64-v1", "cmov cx8 fpu fxsr mmx sse sse2 syscall"),
    ("x86-64-v2", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"),
    ("x86-64-v3", "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"),
    ("x86-64-v4", "avx512bw avx512cd avx512dq avx512f avx512vl"),
)
# What each version of the architecture made mandatory (Arm Architecture Reference Manual, chapter A2), as far as the
# kernel tells of it (Documentation/arch/arm64/elf_hwcaps.rst). Pointer authentication and branch targets are left out:
# a kernel may be built without them on a processor that has them.
_ARM_VERSIONS = (
    ("armv8-a", "asimd fp"),
    ("armv8.1-a", "asimdrdm atomics crc32"),
    ("armv8.2-a", "dcpop"),
    ("armv8.3-a", "fcma jscvt lrcpc"),
    ("armv8.4-a", "asimddp dit flagm ilrcpc uscat"),
    ("armv8.5-a", "dcpodp flagm2 frint sb"),
    ("armv8.6-a", "bf16 i8mm"),
)
_ARM_NINE_BASE = "armv8.5-a"


def microarchitecture(flags: Collection[str]) -> str | None:
    """The highest x86-64 level of a processor with these flags; None when it is no x86-64 processor."""
    return _highest(_LEVELS, flags) if "lm" in flags else None


def arm_version(features: Collection[str]) -> str | None:
    """The highest version of the 64-bit Arm architecture that a processor with these features implements in full, such
    as ``armv8.2-a``; None when it is no such processor. Armv9 is Armv8.5 with SVE2."""
    reached = _highest(_ARM_VERSIONS, features)
    if reached is not None and reached >= _ARM_NINE_BASE and "sve2" in features:
        return "armv9-a"
    return reached


def _highest(levels: Collection[tuple[str, str]], present: Collection[str]) -> str | None:
    """The last level of which, as of all before it, everything is present."""
    reached = None
    for level, needed in levels:
        if not set(needed.split()) <= set(present):
            break
        reached = level
    return reached
