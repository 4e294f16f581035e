"""What one pilot fetched the next ones find, whole and under its digest, whatever happened to the one that fetched."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from pilot_agent.startd.artifacts import CONDOR
from pilot_agent.tarballs.cache import TarballCache
from pilot_agent.tarballs.index import Tarball
from tests.startd.published import tarball


@pytest.fixture
def entry(tmp_path: Path) -> Tarball:
    return tarball(tmp_path / "server")


@pytest.fixture
def cache(tmp_path: Path) -> TarballCache:
    return TarballCache(str(tmp_path / "cache"), 1 << 20, CONDOR)


def fetching(tmp_path: Path, entry: Tarball, calls: list[str]) -> Callable[[str], None]:
    def fetch(path: str) -> None:
        calls.append(path)
        Path(path).write_bytes((tmp_path / "server" / entry.file).read_bytes())

    return fetch


def soon() -> float:
    return time.monotonic() + 60


def test_a_tarball_is_fetched_once(tmp_path: Path, cache: TarballCache, entry: Tarball) -> None:
    calls: list[str] = []
    first = cache.get(entry, fetching(tmp_path, entry, calls), soon())
    assert cache.get(entry, fetching(tmp_path, entry, calls), soon()) == first
    assert Path(first).name == f"{entry.sha256}.tar"
    assert len(calls) == 1
    assert os.stat(cache.directory).st_mode & 0o777 == 0o700


def test_one_that_was_damaged_since_is_fetched_again(tmp_path: Path, cache: TarballCache, entry: Tarball) -> None:
    calls: list[str] = []
    path = Path(cache.get(entry, fetching(tmp_path, entry, calls), soon()))
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    cache.get(entry, fetching(tmp_path, entry, calls), soon())
    path.write_bytes(b"cut")
    cache.get(entry, fetching(tmp_path, entry, calls), soon())
    assert len(calls) == 3
    assert path.read_bytes() == (tmp_path / "server" / entry.file).read_bytes()


def test_pilots_that_come_at_once_wait_for_the_one_that_fetches(
    tmp_path: Path, cache: TarballCache, entry: Tarball
) -> None:
    calls: list[str] = []
    fetched, go = threading.Event(), threading.Event()

    def slowly(path: str) -> None:
        fetched.set()
        assert go.wait(60)
        fetching(tmp_path, entry, calls)(path)

    first = threading.Thread(target=cache.get, args=(entry, slowly, soon()))
    first.start()
    assert fetched.wait(60)
    second = threading.Thread(target=cache.get, args=(entry, fetching(tmp_path, entry, calls), soon()))
    second.start()
    go.set()
    first.join(60)
    second.join(60)
    assert len(calls) == 1


def test_waiting_for_another_pilot_has_an_end(cache: TarballCache, entry: Tarball) -> None:
    os.mkdir(cache.directory, 0o700)
    with open(f"{cache.directory}/.lock-{entry.sha256}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PilotError, match="another pilot was still fetching") as caught:
            cache.get(entry, lambda _: None, time.monotonic())
    assert caught.value.failure.code == "artifact.deadline"


def test_what_killed_pilots_left_is_swept_and_what_others_fetch_is_not(
    tmp_path: Path, cache: TarballCache, entry: Tarball
) -> None:
    directory = Path(cache.directory)
    directory.mkdir(mode=0o700)
    dead, alive = "d" * 64, "a" * 64
    for digest in (entry.sha256, dead, alive):
        (directory / f".partial-{digest}.1.00").write_bytes(b"half")
    with (directory / f".lock-{alive}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cache.get(entry, fetching(tmp_path, entry, []), soon())
    assert [path.name for path in directory.glob(".partial-*")] == [f".partial-{alive}.1.00"]


def test_a_fetch_that_fails_leaves_nothing(cache: TarballCache, entry: Tarball) -> None:
    def breaks(path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(PilotError) as caught:
        cache.get(entry, breaks, soon())
    assert caught.value.failure.code == "disk.full"
    assert os.listdir(cache.directory) == []


def test_locks_go_and_still_one_pilot_fetches_at_a_time(tmp_path: Path, entry: Tarball) -> None:
    """Every fetch fails, so that each of them wants the lock that another one just removed."""
    at_once, most, calls = 0, 0, 0
    guard = threading.Lock()

    def fails(_: str) -> None:
        nonlocal at_once, most, calls
        with guard:
            at_once, calls = at_once + 1, calls + 1
            most = max(most, at_once)
        time.sleep(0.001)
        with guard:
            at_once -= 1
        raise OSError(5, "Input/output error")

    def pilot() -> None:
        cache = TarballCache(str(tmp_path / "cache"), 1 << 20, CONDOR)
        for _ in range(10):
            with pytest.raises(PilotError, match="Input/output"):
                cache.get(entry, fails, soon())

    pilots = [threading.Thread(target=pilot) for _ in range(4)]
    for thread in pilots:
        thread.start()
    for thread in pilots:
        thread.join(60)
    assert (most, calls) == (1, 40)
    assert os.listdir(tmp_path / "cache") == []


def test_locks_of_killed_pilots_are_swept_by_the_next(tmp_path: Path, cache: TarballCache, entry: Tarball) -> None:
    directory = Path(cache.directory)
    directory.mkdir(mode=0o700)
    for digest in ("d" * 64, entry.sha256):
        (directory / f".lock-{digest}").touch()
    cache.get(entry, fetching(tmp_path, entry, []), soon())
    assert os.listdir(directory) == [f"{entry.sha256}.tar"]


def test_the_tarball_that_was_used_least_recently_makes_room(
    tmp_path: Path, cache: TarballCache, entry: Tarball
) -> None:
    directory = Path(cache.directory)
    directory.mkdir(mode=0o700)
    now = time.time()
    old, older, just_now = "0" * 64, "1" * 64, "2" * 64
    for name, age in ((old, 7200), (older, 9000), (just_now, 5), ("somebody-elses", 9999)):
        (directory / f"{name}.tar").write_bytes(bytes(600_000))
        os.utime(directory / f"{name}.tar", (now - age, now - age))
    cache.get(entry, fetching(tmp_path, entry, []), soon())
    assert {path.name for path in directory.glob("*.tar")} == {
        f"{just_now}.tar",
        f"{entry.sha256}.tar",
        "somebody-elses.tar",
    }


@pytest.mark.parametrize("fault", ["link", "open to others", "a file"])
def test_a_directory_that_others_could_change_is_refused(
    tmp_path: Path, cache: TarballCache, entry: Tarball, fault: str
) -> None:
    directory = Path(cache.directory)
    if fault == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        directory.symlink_to(tmp_path / "elsewhere")
    elif fault == "a file":
        directory.write_bytes(b"")
    else:
        directory.mkdir()
        directory.chmod(0o777)
    with pytest.raises(PilotError) as caught:
        cache.get(entry, fetching(tmp_path, entry, []), soon())
    assert caught.value.failure.code == "condor.cache"
    assert cache.directory in caught.value.failure.message
