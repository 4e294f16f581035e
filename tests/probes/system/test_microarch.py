from __future__ import annotations

import pytest

from pilot_agent.probes.system.microarch import arm_version, microarchitecture

V1 = "lm cmov cx8 fpu fxsr mmx sse sse2 syscall"
V2 = f"{V1} cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
V4 = f"{V2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave avx512bw avx512cd avx512dq avx512f avx512vl"
NEOVERSE_N1 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs"
NEOVERSE_V1 = f"{NEOVERSE_N1} jscvt fcma sha3 sm3 sm4 sha512 sve asimdfhm dit uscat ilrcpc flagm dcpodp i8mm bf16"
NEOVERSE_V2 = f"{NEOVERSE_V1} sb sve2 flagm2 frint svebitperm bti"


@pytest.mark.parametrize(
    ("flags", "level"),
    [(V1, "x86-64-v1"), (V2, "x86-64-v2"), (V4, "x86-64-v4"), (V4.replace(" movbe", ""), "x86-64-v2"), ("fpu", None)],
)
def test_a_level_needs_all_flags_of_those_below_it(flags: str, level: str | None) -> None:
    assert microarchitecture(flags.split()) == level


@pytest.mark.parametrize(
    ("features", "version"),
    [
        ("fp asimd evtstrm aes pmull sha1 sha2 crc32", "armv8-a"),
        (NEOVERSE_N1, "armv8.2-a"),
        (NEOVERSE_V1, "armv8.4-a"),
        (NEOVERSE_V2, "armv9-a"),
        (NEOVERSE_V2.replace(" sve2", ""), "armv8.6-a"),
        (f"{NEOVERSE_N1} sve2", "armv8.2-a"),
        ("swp half thumb fastmult vfp neon vfpv3", None),
        ("", None),
    ],
)
def test_arm_processors_have_the_version_of_which_they_lack_nothing(features: str, version: str | None) -> None:
    assert arm_version(features.split()) == version
