"""A job in another PID namespace holds its image as long as its starter holds a lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.containers.store import leases
from pilot_agent.containers.store.directory import Directory
from pilot_agent.lifecycle import identity

KEY = "a" * 64
LOCK = "starter.pilot-x.4711"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    """A store in which another PID namespace's process has lent the image."""
    with Directory.open(str(tmp_path / "store")) as store:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(identity, "own_pid_namespace", lambda: 1)
            leases.lend(store, KEY, os.getpid(), LOCK)
        yield store


def test_an_image_is_in_use_while_the_lock_is_held(directory: Directory) -> None:
    held = directory.lock(LOCK, shared=False)
    assert held is not None
    assert leases.in_use(directory, KEY)
    assert leases.leased(directory) == {KEY}
    os.close(held)
    assert not leases.in_use(directory, KEY)
    assert leases.leased(directory) == set()
    assert os.listdir(directory.locks) == []


def test_a_lock_that_is_gone_is_held_by_nobody(directory: Directory) -> None:
    assert not leases.in_use(directory, KEY)


def test_locks_that_nobody_holds_are_removed_when_they_are_not_new(directory: Directory) -> None:
    kept = -1
    for name, age in (("starter.old.1", 3600), ("starter.new.2", 0), ("starter.held.3", 3600), (KEY, 3600)):
        descriptor = directory.lock(name, shared=False)
        assert descriptor is not None
        made = os.fstat(descriptor).st_mtime - age
        os.utime(name, (made, made), dir_fd=directory.locks)
        if name == "starter.held.3":
            kept = descriptor
        else:
            os.close(descriptor)
    leases.leased(directory)
    os.close(kept)
    assert sorted(os.listdir(directory.locks)) == [KEY, "starter.held.3", "starter.new.2"]
