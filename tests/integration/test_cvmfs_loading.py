"""Whether a client's programs load is asked of the loader, with those of the testbed's trees and their libraries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.cvmfs.loading import CLIENT, LOADERS, load_problem
from tests.cvmfs.test_loading import ENVIRONMENT, lay
from tests.testbed import images


@pytest.mark.parametrize(
    ("made_of", "node", "problem"),
    [
        ("debian12", "debian12", ""),
        ("debian13", "debian13", ""),
        ("debian12", "debian13", ""),
        ("debian13", "debian12", "cvmfs2 needs GLIBC_2.38, which this node does not have"),
    ],
)
def test_what_was_made_on_a_newer_distribution_loads_there_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_of: str, node: str, problem: str
) -> None:
    """The programs are those of the testbed's trees, and so are the node's loader and libraries."""
    trees, below = images.ensure(), f"usr/lib/{os.uname().machine}-linux-gnu"
    lay(tmp_path, CLIENT, (trees / made_of / "usr/bin/ls").read_bytes())
    lay(tmp_path, "dist/usr/lib/libcvmfs_fuse3.so", (trees / made_of / below / "libselinux.so.1").read_bytes())
    (tmp_path / "dist/lib").symlink_to(trees / node / below)
    loader = (trees / node / below / os.path.basename(LOADERS[os.uname().machine])).resolve()
    monkeypatch.setitem(LOADERS, os.uname().machine, str(loader))
    assert load_problem(str(tmp_path), ENVIRONMENT) == problem
