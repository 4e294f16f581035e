from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.probes.disk.quota import has_quota, parse_limits, read_quotas
from pilot_agent.process import run
from tests.probes.doubles import quota_layout


def limits(
    hard: int = 0, soft: int = 0, used: int = 0, inodes: tuple[int, int, int] = (0, 0, 0), ends: int = 0
) -> bytes:
    return struct.pack("=8QI4x", hard, soft, used, *inodes, ends, 0, 63)


def test_limits_are_kibibytes_and_use_is_bytes() -> None:
    quota = parse_limits(limits(hard=100, soft=50, used=40 << 10, inodes=(10, 8, 3)), "user", 1001, 5.0)
    assert quota is not None
    assert (quota.hard_bytes, quota.soft_bytes, quota.used_bytes) == (100 << 10, 50 << 10, 40 << 10)
    assert (quota.free_bytes, quota.free_inodes, quota.limit_bytes) == (60 << 10, 7, 100 << 10)
    assert quota.source == "quota of user 1001"


def test_without_a_limit_there_is_no_quota() -> None:
    assert parse_limits(limits(used=7), "group", 1, 0.0) is None


@pytest.mark.parametrize(
    ("raw", "free"),
    [
        (limits(soft=50, used=10 << 10), 40 << 10),
        (limits(soft=50, hard=100, used=60 << 10, ends=10), 40 << 10),
        (limits(soft=50, hard=100, used=60 << 10, ends=4), 0),
        (limits(hard=100, used=200 << 10), 0),
        (limits(inodes=(5, 0, 1)), None),
    ],
)
def test_grace_decides_over_a_soft_limit(raw: bytes, free: int | None) -> None:
    quota = parse_limits(raw, "user", 1, 5.0)
    assert quota is not None
    assert quota.free_bytes == free


@given(st.binary(min_size=72, max_size=72))
def test_any_limits_are_taken(raw: bytes) -> None:
    quota = parse_limits(raw, "user", 1, 5.0)
    assert quota is None or (quota.free_bytes or 0) >= 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("rw", "usrquota"), True),
        (("rw", "usrjquota=aquota.user", "jqfmt=vfsv1"), True),
        (("rw", "gqnoenforce"), True),
        (("rw", "quota=on"), True),
        (("rw", "noquota"), False),
        (("rw", "prjquota"), False),
        (("rw", "quota=off"), False),
        ((), False),
    ],
)
def test_the_options_of_a_mount_tell_of_quotas(options: tuple[str, ...], expected: bool) -> None:
    assert has_quota(options) is expected


def test_a_file_system_without_quotas_has_none(tmp_path: Path) -> None:
    assert read_quotas(str(tmp_path), "/dev/none", ()) == ()
    assert read_quotas("/proc", "proc", ("grpid",)) == ()


def test_the_kernels_own_header_has_the_same_layout(tmp_path: Path) -> None:
    program = quota_layout(tmp_path)
    assert run([program], deadline_seconds=10, environment={}).text == "72 0 8 16 48 56 443 0x800007"
