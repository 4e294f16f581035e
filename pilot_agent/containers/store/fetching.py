"""Fetch one image into the store: a private directory, children with a deadline, a rename when everything is on disk.

The caller has the image's lock. Whatever kills this process leaves a directory that the next fetch sweeps.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pilot_agent.containers.store import entries
from pilot_agent.containers.store.entries import DIRECTORY, FILE, NAMES, Entry
from pilot_agent.containers.store.errors import NETWORK, NODE, StoreError, of_the_system
from pilot_agent.containers.store.magic import checked_file
from pilot_agent.containers.store.registry import pull_command, read_failure, unpack_command
from pilot_agent.light import dumps, loads
from pilot_agent.process import Interrupted, Result, Runner, WakeUp

if TYPE_CHECKING:
    from pilot_agent.containers.store.directory import Directory
    from pilot_agent.containers.store.store import Progress, Store

TICK_SECONDS = 2.0
_MOST_FILES_COUNTED = 20000
_TEMPORARY = "temporary"
_OUTPUT_LIMIT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Work:
    """One fetch. ``place`` is its private directory, ``target`` what the image is to become there."""

    store: Store
    directory: Directory
    entry: Entry
    place: str
    end: float
    progress: Progress
    wake: WakeUp | None

    @property
    def target(self) -> str:
        return f"{self.place}/entry/{NAMES[self.entry.form]}"

    @property
    def temporary(self) -> str:
        return f"{self.place}/{_TEMPORARY}"

    @property
    def channel(self) -> str:
        return f"{self.place}/progress"


def fetch_new(
    store: Store, directory: Directory, entry: Entry, *, end: float, progress: Progress, wake: WakeUp | None
) -> Entry:
    """Fetch and install the image that ``entry`` names, before ``end`` of the monotonic clock; the entry as it is in
    the store, with its size and digest. Raises ``StoreError`` and ``Interrupted``; nothing is left then."""
    entries.sweep(directory, entry.key)
    name = f"{entry.key}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        # Before anything is fetched: a disk that is full already costs no transfer.
        entries.make_room(directory, 0, store.limit_mib, keep=entry.key)
        for path in (name, f"{name}/entry", f"{name}/{_TEMPORARY}"):
            os.mkdir(path, 0o700, dir_fd=directory.partial)
        work = Work(store, directory, entry, f"{directory.path}/partial/{name}", end, progress, wake)
        _fetch(work)
        _settle(work)
        entries.make_room(directory, entry.size, store.limit_mib, keep=entry.key, there=entry.size)
        entries.install(directory, name, entry)
    except OSError as error:
        raise of_the_system(error, f"{entry.reference} cannot be put into the store") from error
    finally:
        entries.remove_tree(directory.partial, name)
    return entry


def _fetch(work: Work) -> None:
    reference, form = work.entry.reference, work.entry.form
    if reference.startswith("https://"):
        fetched = work.target if form == FILE else f"{work.temporary}/image.sif"
        _download(work, fetched)
        if form == DIRECTORY:
            _run_runtime(work, "unpacking", unpack_command(work.store.runtime, fetched, work.target))
            os.unlink(fetched)
    elif reference.startswith("/"):
        _run_runtime(work, "unpacking", unpack_command(work.store.runtime, reference, work.target))
    else:
        command = pull_command(work.store.runtime, reference, work.entry.digest, work.target, form)
        _run_runtime(work, "fetching", command)


def _download(work: Work, path: str) -> None:
    from pilot_agent.containers.store.download import Download

    store, entry = work.store, work.entry
    download = Download(
        url=entry.reference,
        path=path,
        digest=entry.digest,
        environment=store.environment,
        end=work.end,
        stall_seconds=store.stall_seconds,
    )

    def admit(size: int, there: int) -> None:
        from pilot_agent.containers.store.directory import Directory

        with Directory.open(store.directory) as directory:
            entries.make_room(directory, size, store.limit_mib, keep=entry.key, there=there)

    answer = _in_child(work, "fetching", lambda tell: download.run(admit, tell))
    entry.digest = answer["digest"]


def _settle(work: Work) -> None:
    """Look at what came, count it, and wait until it is on the disk."""

    def settle(_: Tell) -> dict[str, object]:
        if work.entry.form == FILE:
            return {"size": checked_file(work.target, work.entry.reference)}
        size = sum(_sizes(work.target))
        descriptor = os.open(work.target, os.O_RDONLY | os.O_DIRECTORY)
        import ctypes

        # One call for all files of the tree, where fsync would be one for each.
        ctypes.CDLL(None).syncfs(descriptor)
        return {"size": size}

    work.entry.size = int(_in_child(work, "storing", settle)["size"])


Tell = Callable[[str, int, int | None, str], None]


def _in_child(work: Work, phase: str, function: Callable[[Tell], dict[str, object]]) -> Mapping[str, str]:
    """What the function returns, run in a forked child. Raises the ``StoreError`` that it raises."""

    def call() -> bytes:
        _end_with_parent(parent)
        try:
            with _writer(work.channel) as tell:
                return dumps({"value": function(tell)}).encode()
        except StoreError as error:
            return dumps({"error": error.to_json()}).encode()
        except OSError as error:
            return dumps({"error": of_the_system(error, work.entry.reference).to_json()}).encode()

    parent = os.getpid()
    result = _watched(work, phase, call, tick=False)
    try:
        answer = loads(result.answer)
    except ValueError:
        raise _died(work, result) from None
    if "error" in answer:
        raise StoreError.from_json(answer["error"])
    value: Mapping[str, str] = answer["value"]
    return value


def _run_runtime(work: Work, phase: str, argv: list[str]) -> None:
    """Run the container runtime; it ends with this process. Raises ``StoreError`` for its failure."""
    from pilot_agent.containers.command import runtime_environment

    environment = runtime_environment(work.store.environment, work.temporary)
    # Nothing of the runtime may go to the account's home, whoever's environment it was given.
    environment |= {"HOME": work.temporary, "TMPDIR": work.temporary}
    parent = os.getpid()

    def become() -> bytes:
        _end_with_parent(parent)
        os.chdir(work.temporary)
        try:
            os.execve(argv[0], argv, environment)
        except OSError as error:
            return dumps({"error": f"{argv[0]} could not be started ({error.strerror})"}).encode()

    result = _watched(work, phase, become, tick=True)
    if result.answer:
        hint = "the site repairs its container runtime, or names another in containers.runtime"
        raise StoreError("container.not_started", NODE, loads(result.answer)["error"], hint, temporary=True)
    if result.timed_out or result.abandoned is not None:
        raise _died(work, result)
    if result.code != 0 or not os.path.lexists(work.target):
        raise read_failure(result, work.entry.reference)


def _watched(work: Work, phase: str, function: Callable[[], bytes], *, tick: bool) -> Result:
    """Run the function in a child to its end, and pass on what is told of its progress."""
    left = max(0.1, work.end - time.monotonic())
    work.progress(phase, 0, None, "")
    with _Channel(work.channel, work.wake) as channel, Runner(channel) as runner:
        handle = runner.start_call(
            function, name=work.store.runtime if tick else work.entry.reference, deadline_seconds=left,
            output_limit_bytes=_OUTPUT_LIMIT_BYTES,
        )  # fmt: skip
        if tick:
            ticker = functools.partial(_tick, work.place, work.channel, phase, os.getpid())
            runner.start_call(ticker, name="progress", deadline_seconds=left + 60)
        while True:
            try:
                ended, result = runner.wait_any()
            except Interrupted:
                if channel.interrupted(work.progress):
                    raise
                continue
            if ended == handle:
                channel.interrupted(work.progress)
                return result


def _died(work: Work, result: Result) -> StoreError:
    reference = work.entry.reference
    if result.timed_out or result.abandoned is not None:
        message = f"{reference} was not there after {result.seconds:.0f} s, when the time for it was used up"
        hint = "the job runs elsewhere or later; the VO makes the image smaller or moves it nearer"
        return StoreError("image.deadline", NETWORK, message, hint, temporary=True)
    message = f"the process that fetched {reference} broke off: {result.explain()}"
    return StoreError("image.fetch_died", NODE, message, "the site looks for lack of memory", temporary=True)


class _Channel:
    """Wakes the runner for a line of progress or for the caller's own reason. A FIFO: a forked child keeps no
    descriptor of its parent."""

    def __init__(self, path: str, wake: WakeUp | None) -> None:
        self._epoll = select.epoll()
        self._wake = wake
        self._fifo: int | None = None
        # Some network file systems have no FIFOs: then there is no progress to see.
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            # Also open for writing, so that it never counts as closed.
            self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            self._epoll.register(self._fifo, select.EPOLLIN)
        if wake is not None:
            self._epoll.register(wake.fileno(), select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()
        if self._fifo is not None:
            os.close(self._fifo)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def must_end(self) -> bool:
        """Always: the runner's caller reads what came and waits again."""
        return True

    def interrupted(self, progress: Progress) -> bool:
        """Pass on what is there to read; whether the caller's own wake-up is ready."""
        if self._fifo is not None:
            content = b""
            with contextlib.suppress(BlockingIOError):
                content = os.read(self._fifo, 65536)
            for line in content.splitlines():
                with contextlib.suppress(ValueError):
                    phase, done, total, message = loads(line)
                    progress(phase, done, total, message)
        return self._wake is not None and bool(select.select([self._wake], [], [], 0)[0]) and self._wake.must_end()


@contextlib.contextmanager
def _writer(path: str) -> Iterator[Tell]:
    """A function that writes one line of progress; a full pipe loses it."""
    descriptor = -1
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def tell(phase: str, done: int, total: int | None, message: str) -> None:
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.write(descriptor, dumps([phase, done, total, message[:300]]).encode() + b"\n")

    try:
        yield tell
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _tick(place: str, channel: str, phase: str, parent: int) -> bytes:
    """Tell again and again how much is there already; never returns."""
    _end_with_parent(parent)
    with _writer(channel) as tell:
        while True:
            time.sleep(TICK_SECONDS)
            tell(phase, sum(_sizes(place, _MOST_FILES_COUNTED)), None, "")


def _sizes(path: str, most: int | None = None) -> Iterator[int]:
    """The bytes on disk of what is below, of at most so many files."""
    count = 0
    pending = [path]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as listing:
            for found in listing:
                with contextlib.suppress(OSError):
                    yield found.stat(follow_symlinks=False).st_blocks * 512
                    if found.is_dir(follow_symlinks=False):
                        pending.append(found.path)
                count += 1
                if most is not None and count >= most:
                    return


def _end_with_parent(parent: int) -> None:
    from pilot_agent.probes.kernel.namespaces import end_with_parent

    end_with_parent()
    if os.getppid() != parent:
        os._exit(1)
