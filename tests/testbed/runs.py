"""Directories for running grids, which the next run clears when their owner was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testbed import cache

LOCK = "owner.lock"


@contextmanager
def run_directory(root: Path | None = None) -> Iterator[Path]:
    """Give a new directory for one grid and remove it at the end; first remove those that killed owners left."""
    runs = (root if root is not None else cache.directory()) / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    _sweep(runs)
    directory = Path(tempfile.mkdtemp(prefix="grid-", dir=runs))
    # The kernel gives the lock back with the owner's end, and no child inherits it.
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _sweep(runs: Path) -> None:
    for lock in runs.glob(f"*/{LOCK}"):
        if not cache.is_locked(lock):
            shutil.rmtree(lock.parent, ignore_errors=True)
