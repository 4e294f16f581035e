"""Who runs a service for all pilots of a node: one holder at a time, whatever became of the last, and no belief in
files that others could have made."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.lifecycle import node_list
from pilot_agent.services.node_endpoint import HELD, NOWHERE, TAKEN, NodeEndpoint, key_of

HOLDER = """
import sys
from pilot_agent.lifecycle import node_list
node_list.PLACE = sys.argv[1]
from pilot_agent.services.node_endpoint import NodeEndpoint
one = NodeEndpoint("cache", "k")
taken = one.take()
one.publish("ready", {"http": 3128})
sys.stdout.write(taken + "\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The account's list is this test's own."""
    monkeypatch.setattr(node_list, "PLACE", str(tmp_path))
    return Path(node_list.path())


@pytest.fixture
def holder(place: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the service; it is gone after the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place.parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == HELD
    yield process
    process.kill()
    process.communicate()


def test_one_holds_it_and_the_others_read_where_it_is(holder: subprocess.Popen[str]) -> None:
    mine = NodeEndpoint("cache", "k")
    assert mine.take() == TAKEN
    found = mine.read(("http",))
    assert found is not None
    assert (found.pid, found.status, found.ports) == (holder.pid, "ready", {"http": 3128})


def test_one_that_was_killed_holds_nothing_and_its_file_is_written_anew(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    mine = NodeEndpoint("cache", "k")
    assert mine.take() == HELD
    mine.publish("starting", {"http": 1})
    found = mine.read(("http",))
    assert found is not None
    assert (found.pid, found.status) == (os.getpid(), "starting")
    mine.release()


def test_a_holder_that_ends_leaves_nothing_and_the_next_one_can_begin(place: Path) -> None:
    first, second = NodeEndpoint("cache", "k"), NodeEndpoint("cache", "k")
    assert (first.take(), first.take(), second.take()) == (HELD, HELD, TAKEN)
    first.publish("ready", {})
    first.release()
    assert list(place.iterdir()) == []
    assert second.read(()) is None
    assert second.take() == HELD
    second.release()


def test_a_lock_whose_file_was_removed_meanwhile_is_no_lock(place: Path) -> None:
    first, second = NodeEndpoint("cache", "k"), NodeEndpoint("cache", "k")
    assert first.take() == HELD
    for path in place.iterdir():
        path.unlink()
    assert second.take() == HELD
    assert not NodeEndpoint("cache", "k").adopt(first.descriptor)
    first.release()
    assert NodeEndpoint("cache", "k").take() == TAKEN
    second.release()


def test_the_lock_is_kept_when_the_pilot_becomes_another_program() -> None:
    first, again = NodeEndpoint("cache", "k"), NodeEndpoint("cache", "k")
    first.take()
    os.set_inheritable(first.descriptor, True)
    assert again.adopt(first.descriptor)
    assert not os.get_inheritable(first.descriptor)
    assert NodeEndpoint("cache", "k").take() == TAKEN
    assert not NodeEndpoint("other", "k").adopt(first.descriptor)
    assert not NodeEndpoint("cache", "k").adopt(1000)
    again.release()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 5000,
        '{"pid": 1, "status": "ready", "ports": {"http": 0}}',
        '{"pid": 1, "status": "ready", "ports": {"http": true}}',
        '{"pid": 1, "status": "ready", "ports": {"http": 65536}}',
        '{"pid": 1, "status": "ready", "ports": {"other": 1}}',
        '{"pid": 1, "status": "ready", "ports": {"http": 1, "other": 1}}',
        '{"pid": "1", "status": "ready", "ports": {"http": 1}}',
        '{"pid": 1, "status": 3, "ports": {"http": 1}}',
    ],
)
def test_a_damaged_file_says_nothing(place: Path, content: str) -> None:
    mine = NodeEndpoint("cache", "k")
    assert mine.take() == HELD
    path = place / "service-cache-k.json"
    path.touch(mode=0o600)
    path.write_text(content)
    assert mine.read(("http",)) is None
    mine.release()


@pytest.mark.parametrize("how", ["readable", "link", "hard link", "foreign", "fifo"])
def test_a_planted_file_is_not_believed(place: Path, tmp_path: Path, how: str) -> None:
    mine = NodeEndpoint("cache", "k")
    assert mine.take() == HELD
    mine.publish("ready", {"http": 1})
    path = place / "service-cache-k.json"
    if how == "readable":
        path.chmod(0o644)
    elif how == "hard link":
        os.link(path, tmp_path / "other")
    elif how == "foreign":
        if os.geteuid() != 0:
            path.chmod(0o660)  # only root can give files away; the same is asked of the mode
        else:
            os.chown(path, 12345, 12345)
    else:
        path.rename(tmp_path / "other")
        os.mkfifo(path, 0o600) if how == "fifo" else path.symlink_to(tmp_path / "other")
    assert mine.read(("http",)) is None
    mine.release()


def test_a_lock_that_somebody_planted_is_not_taken(place: Path, tmp_path: Path) -> None:
    mine = NodeEndpoint("cache", "k")
    place.mkdir(mode=0o700)
    (tmp_path / "elsewhere").touch(0o600)
    (place / "service-cache-k.lock").symlink_to(tmp_path / "elsewhere")
    assert mine.take() == NOWHERE
    assert str(place) in mine.problem
    (place / "service-cache-k.lock").unlink()
    (place / "service-cache-k.lock").touch(0o666)
    (place / "service-cache-k.lock").chmod(0o666)
    assert mine.take() == NOWHERE
    assert "this account alone" in mine.problem


def test_a_directory_that_others_may_write_to_is_no_place(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    mine = NodeEndpoint("cache", "k")
    assert mine.take() == NOWHERE
    assert mine.problem == f"{place} is not a directory that this account alone may use"
    assert mine.read(()) is None


def test_a_full_disk_is_told_and_leaves_no_half_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = NodeEndpoint("cache", "k")
    assert mine.take() == HELD
    mine.publish("starting", {"http": 1})

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            mine.publish("ready", {"http": 1})
    found = mine.read(("http",))
    assert found is not None
    assert found.status == "starting"
    assert len(list(place.iterdir())) == 2
    mine.release()


def test_the_last_pilot_takes_away_what_a_killed_one_left_and_lets_a_live_one_be(
    place: Path, holder: subprocess.Popen[str]
) -> None:
    node_list.enter("/scratch/pilot-1", {})
    node_list.enter("/scratch/pilot-2", {})
    (place / "service-cache-k.json.1.new").touch()
    node_list.strike("/scratch/pilot-1")
    assert (place / "service-cache-k.json").exists()
    holder.kill()
    holder.wait()
    node_list.strike("/scratch/pilot-2")
    assert not place.exists()


def test_the_key_is_of_the_service_and_not_of_the_pilot() -> None:
    one = key_of(["/bin/squid", "/scratch/pilot-1/services/cache/conf"], "/scratch/pilot-1")
    assert one == key_of(["/bin/squid", "/scratch/pilot-2/services/cache/conf"], "/scratch/pilot-2")
    assert one != key_of(["/bin/squid", "-x", "/scratch/pilot-1/services/cache/conf"], "/scratch/pilot-1")
    assert one.isalnum()
