from __future__ import annotations

import pytest

from pilot_agent.probes.kernel.fuse_kernels import mounts_for_all


@pytest.mark.parametrize(
    ("kernel", "able"),
    [
        ("4.18.0-553.el8_10.x86_64", True),
        ("6.8.0-60-generic", True),
        ("4.17.19", False),
        ("3.10.0-1127.el7.x86_64", True),
        ("3.10.0-1160.119.1.el7.x86_64", True),
        ("3.10.0-957.el7.x86_64", False),
        ("", None),
        ("none", None),
    ],
)
def test_the_rule_of_kernel_versions(kernel: str, able: bool | None) -> None:
    assert mounts_for_all(kernel) is able
