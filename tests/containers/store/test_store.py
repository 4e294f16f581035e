"""The store itself: sharing, waiting, leases, eviction, and what happens when a fetch is killed or the disk is full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilot_agent.containers.store import leases
from pilot_agent.containers.store.directory import Directory
from pilot_agent.containers.store.errors import StoreError
from pilot_agent.containers.store.store import Store, StoredImage
from pilot_agent.lifecycle.identity import Identity, boot_id, identify, own_pid_namespace
from tests.containers.store.setting import ENVIRONMENT, ROOT, SIF, Runtime, Server, left, make_store

PATIENCE_SECONDS = 60.0
HUGE_LEASE = (
    b'{"holder": {"pid": 1, "start_ticks": 1, "boot_id": "", "pid_namespace": 1}, "node": "n", "time": 1%s}'
    % (b"0" * 400)
)
FETCH = (sys.executable, "-m", "pilot_agent.containers.store.job")


def start_fetch(store: Store, reference: str, *more: str) -> subprocess.Popen[str]:
    """Another process that fetches into the same store."""
    words = [*FETCH, "--store", store.directory, "--reference", reference, "--runtime", store.runtime, *more]
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def wait_until(true: Callable[[], object]) -> None:
    """Return when it is true; fail after a long time."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that plays a job's starter."""
    with subprocess.Popen(["sleep", "300"]) as process:
        try:
            yield process
        finally:
            process.kill()


def fetched(store: Store, server: Server, *names: str, **options: object) -> list[StoredImage]:
    """These images, used in this order."""
    found = []
    for age, name in enumerate(names):
        found.append(store.fetch(server.url(f"good.{name}"), **options))  # type: ignore[arg-type]
        about = Path(found[-1].path).with_name("about.json")
        os.utime(about, (1e9 + age, 1e9 + age))
    return found


def test_of_two_processes_one_fetches_and_the_other_shares(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with start_fetch(store, server.url("slow")) as one:
        wait_until(lambda: server.requests)
        told: list[str] = []

        def listen(phase: str, done: int, total: int | None, message: str) -> None:
            told.append(message)
            server.go()

        image = store.fetch(server.url("slow"), progress=listen)
        first = json.loads(one.communicate()[0])
    assert (first["shared"], image.shared, image.path) == (False, True, first["path"])
    assert told == [f"waiting for process {one.pid}, which fetches it"]
    assert len(server.requests) == 1
    assert Path(image.path).read_bytes() == SIF


def test_who_waits_too_long_goes_elsewhere(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with start_fetch(store, server.url("slow")) as one:
        wait_until(lambda: server.requests)
        with pytest.raises(StoreError) as caught:
            store.fetch(server.url("slow"), deadline_seconds=0.3)
        server.go()
    assert (caught.value.code, caught.value.temporary) == ("image.wait", True)
    assert str(one.pid) in caught.value.message


def test_another_image_does_not_wait(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with start_fetch(store, server.url("slow")):
        wait_until(lambda: server.requests)
        assert store.fetch(server.url("good.sif")).shared is False
        server.go()


def test_after_a_killed_fetch_the_next_one_works_and_sweeps(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with start_fetch(store, server.url("slow")) as one:
        wait_until(lambda: server.requests)
        assert len(left(store)) == 1
        one.send_signal(signal.SIGKILL)
    assert store.fetch(server.url("good.sif")).shared is False
    assert left(store) == []
    server.go()
    assert Path(store.fetch(server.url("slow")).path).read_bytes() == SIF


def test_the_children_of_a_killed_fetch_end_with_it(runtime: Runtime, tmp_path: Path) -> None:
    store = make_store(tmp_path, str(runtime.path))
    pid_file = Path(f"{runtime.log}.pid")
    with start_fetch(store, "docker://hanging") as one:
        wait_until(lambda: pid_file.exists() and pid_file.read_text().strip())
        one.send_signal(signal.SIGKILL)
    child = int(pid_file.read_text())
    wait_until(lambda: gone(child))
    end(Path(f"{runtime.log}.child"))


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def end(pid_file: Path) -> None:
    """End what the shell of a test left."""
    wait_until(lambda: pid_file.exists() and pid_file.read_text().strip())
    try:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    except ProcessLookupError:
        return


def test_an_image_that_lost_its_end_is_fetched_again(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    image = store.fetch(server.url("good.sif"))
    os.truncate(image.path, 1000)
    again = store.fetch(server.url("good.sif"))
    assert (again.shared, again.path, Path(again.path).read_bytes()) == (False, image.path, SIF)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"reference": 1}', b"\xff"])
def test_an_image_with_a_damaged_record_is_fetched_again(server: Server, tmp_path: Path, content: bytes) -> None:
    store = make_store(tmp_path)
    image = store.fetch(server.url("good.sif"))
    Path(image.path).with_name("about.json").write_bytes(content)
    assert store.list() == []
    assert store.fetch(server.url("good.sif")).shared is False


def test_the_longest_unused_goes_first(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path, limit_mib=1)
    fetched(store, server, "a", "b")
    store.fetch(server.url("good.a"))
    store.fetch(server.url("good.c"))
    assert [item.entry.reference[-1] for item in store.list()] == ["a", "c"]


def test_what_a_job_uses_is_not_evicted(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path, limit_mib=1)
    with sleeper() as job:
        fetched(store, server, "a", lease_pid=job.pid)
        fetched(store, server, "b")
        store.fetch(server.url("good.c"))
        assert [(item.entry.reference[-1], item.in_use) for item in store.list()] == [("a", True), ("c", False)]
        assert [entry.reference[-1] for entry in store.evict()] == ["c"]
    assert [entry.reference[-1] for entry in store.evict()] == ["a"]
    assert os.listdir(tmp_path / "images/leases") == []


def test_a_store_full_of_used_images_refuses_for_now(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path, limit_mib=1)
    with sleeper() as job:
        fetched(store, server, "a", "b", lease_pid=job.pid)
        with pytest.raises(StoreError) as caught:
            store.fetch(server.url("good.c"))
        assert (caught.value.code, caught.value.temporary) == ("store.full", True)
        assert len(store.list()) == 2
        assert left(store) == []


def test_a_held_image_stays_until_it_is_let_go(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    image = store.fetch(server.url("good.sif"))
    with store.hold(image):
        assert store.evict() == ()
        assert store.list()[0].in_use
    assert len(store.evict()) == 1
    with pytest.raises(StoreError, match="evicted") as caught:
        store.hold(image)
    assert caught.value.code == "store.gone"


def test_a_lease_can_be_given_back_before_its_process_ends(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    (image,) = fetched(store, server, "a", lease_pid=os.getpid())
    assert store.evict() == ()
    store.release(image, os.getpid())
    assert len(store.evict()) == 1


def test_a_process_that_is_gone_gets_no_lease(server: Server, tmp_path: Path) -> None:
    with sleeper() as job:
        pass
    with pytest.raises(StoreError) as caught:
        make_store(tmp_path).fetch(server.url("good.sif"), lease_pid=job.pid)
    assert (caught.value.code, caught.value.temporary) == ("store.no_holder", True)


def test_a_lease_counts_while_its_process_may_live() -> None:
    me, node, now = identify(os.getpid()), os.uname().nodename, time.time()
    assert me is not None
    namespace = own_pid_namespace()
    assert leases.lives(me, node, 0)
    assert not leases.lives(Identity(me.pid, me.start_ticks + 1, boot_id(), namespace), node, now), "a reused number"
    assert not leases.lives(Identity(me.pid, me.start_ticks, "earlier", namespace), node, now), "an earlier boot"
    assert leases.lives(Identity(me.pid, 1, "x", namespace), "another", now), "another node cannot be asked"
    assert leases.lives(Identity(me.pid, 1, boot_id(), namespace + 1), node, now), "nor another namespace"
    assert not leases.lives(Identity(me.pid, 1, "x", namespace), "another", now - leases.ELSEWHERE_SECONDS - 1)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"holder": 3}', b"\xff", HUGE_LEASE])
def test_a_damaged_lease_counts_for_nothing(server: Server, tmp_path: Path, content: bytes) -> None:
    store = make_store(tmp_path)
    (image,) = fetched(store, server, "a")
    (tmp_path / "images/leases" / f"{image.key}.1.1").write_bytes(content)
    assert len(store.evict()) == 1


def test_a_proof_is_known_to_all_who_share_the_image(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    image = store.fetch(server.url("good.sif"))
    assert image.proven == ()
    store.mark_proven(image, "/usr/bin/apptainer 1.4.5")
    store.mark_proven(image, "/usr/bin/apptainer 1.4.5")
    assert store.fetch(server.url("good.sif")).proven == ("/usr/bin/apptainer 1.4.5",)


def unsafe(path: Path) -> StoreError:
    """The error of a store at this path."""
    with pytest.raises(StoreError) as caught:
        Directory.open(str(path))
    assert (caught.value.code, caught.value.temporary) == ("store.unsafe", True)
    return caught.value


def test_a_link_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "images").symlink_to("real")
    assert "link" in unsafe(tmp_path / "images").message
    assert os.listdir(tmp_path / "real") == []


@pytest.mark.parametrize("part", ["images", "locks", "leases", "partial"])
def test_a_link_in_the_store_is_not_followed(tmp_path: Path, part: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "store" / part).symlink_to(tmp_path / "elsewhere")
    assert part in unsafe(tmp_path / "store").message


def test_a_link_in_place_of_a_lock_or_record_leads_nowhere(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    image = store.fetch(server.url("good.sif"))
    victim = tmp_path / "victim"
    victim.write_text("kept")
    about = Path(image.path).with_name("about.json")
    about.unlink()
    about.symlink_to(victim)
    assert store.fetch(server.url("good.sif")).shared is False
    lock = tmp_path / "images/locks" / image.key
    lock.unlink()
    lock.symlink_to(victim)
    with pytest.raises(StoreError):
        store.fetch(server.url("good.sif"))
    assert victim.read_text() == "kept"


def test_another_accounts_directory_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir(mode=0o700)
    if os.geteuid() != 0:
        assert "belongs" in unsafe(Path("/")).message
        return
    os.chown(tmp_path / "images", 12345, 12345)
    assert "12345" in unsafe(tmp_path / "images").message


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_may_write_is_no_store(tmp_path: Path, mode: int) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images").chmod(mode)
    assert "written" in unsafe(tmp_path / "images").message


def test_a_directory_that_others_could_replace_is_no_store(open_path: Path) -> None:
    (open_path / "scratch").mkdir()
    (open_path / "scratch").chmod(0o777)
    assert "sticky" in unsafe(open_path / "scratch" / "images").message


def test_a_directory_that_others_may_read_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir(mode=0o755)
    with Directory.open(str(tmp_path / "images")):
        assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700


def test_a_store_without_a_parent_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file") as caught:
        make_store(tmp_path / "nowhere").list()
    assert caught.value.code == "store.unusable"


FULL = r"""
import os, sys
from pathlib import Path
from pilot_agent.containers.store import entries
from pilot_agent.containers.store.errors import StoreError
from tests.containers.store.setting import left, make_store
place, first, second = Path(sys.argv[1]), *sys.argv[2:]
entries.RESERVE_BYTES = int(os.environ["RESERVE"])
store = make_store(place, os.environ["RUNTIME"])
image = store.fetch(first, lease_pid=os.getpid())
free = os.statvfs(place).f_bavail
try:
    store.fetch(second)
except StoreError as error:
    print(error.code, error.temporary, os.path.getsize(image.path) == image.size, left(store),
          free - os.statvfs(place).f_bavail < 8, len(store.list()))
"""


@pytest.mark.parametrize("case", ["known before", "while it comes", "while the runtime pulls"])
def test_a_full_disk_costs_only_the_image_that_does_not_fit(
    server: Server, runtime: Runtime, tmp_path: Path, case: str
) -> None:
    # Without a reserve the length is no obstacle only where it is not told: then the disk itself ends the fetch.
    second = {"known before": server.url("good.b"), "while it comes": server.url("chunked")}.get(case, "docker://b")
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    script = 'mount -t tmpfs -o size=900k,mode=700 none "$0" && exec "$@"'
    words = ["unshare", "-rm", "sh", "-c", script, str(place), sys.executable, "-c", FULL, str(place)]
    environment = {**os.environ, **ENVIRONMENT, "RESERVE": "0", "RUNTIME": str(runtime.path)}
    done = subprocess.run(
        [*words, server.url("good.a"), second], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["disk.full", "True", "True", "[]", "True", "1"], done.stderr
