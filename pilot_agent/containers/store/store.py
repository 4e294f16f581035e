"""The image store as its users see it: fetch, hold, list, evict.

Loaded by the hook of every job, so nothing large is imported while it loads: an image that is there costs no more than
a few calls to the kernel. What fetches a new one is in ``fetching`` and imported when it is needed.
"""

from __future__ import annotations

import os
import time

from pilot_agent.containers.store import entries, failures, leases, named
from pilot_agent.containers.store.directory import Directory
from pilot_agent.containers.store.entries import DIRECTORY, FILE, Entry
from pilot_agent.containers.store.errors import CONFIG, NETWORK, NODE, RecentFailureError, StoreError, of_the_system
from pilot_agent.containers.store.named import NAMED
from pilot_agent.light import sha256_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Self

    from pilot_agent.process import WakeUp

    Progress = Callable[[str, int, int | None, str], None]
    """Called with the phase (``waiting``, ``connecting``, ``fetching``, ``unpacking``, ``retrying``), the bytes that
    are there, the bytes in all (None: not known), and a sentence, often empty."""

SOURCES = ("docker://", "oras://", "https://")
FETCH_SECONDS = 900.0
STALL_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 0.5
_HEX = frozenset("0123456789abcdef")
_DIGEST_LENGTH = len("sha256:") + 64


class StoredImage:
    """An image that can be used. ``form`` is ``file`` or ``directory``; ``digest`` is ``sha256:...`` where it is known
    (of the file, or the one that pins a registry's manifest), else empty; ``shared`` tells that it was there already or
    that another process fetched it; ``size`` is in bytes; ``proven``: see ``Store.mark_proven``."""

    __slots__ = ("digest", "form", "key", "path", "proven", "reference", "seconds", "shared", "size")

    def __init__(self, entry: Entry, path: str, *, shared: bool, seconds: float) -> None:
        self.key = entry.key
        self.path = path
        self.form = entry.form
        self.digest = entry.digest
        self.reference = entry.reference
        self.shared = shared
        self.seconds = seconds
        self.size = entry.size
        self.proven = entry.proven

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


class Listed:
    """An image in a listing: its entry, its path, and whether somebody uses it now."""

    __slots__ = ("entry", "in_use", "path")

    def __init__(self, entry: Entry, path: str, in_use: bool) -> None:
        self.entry = entry
        self.path = path
        self.in_use = in_use


class Hold:
    """Keeps an image from eviction until it is closed or the process ends; a context manager."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Let the image go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Store:
    """The store in ``directory``. ``runtime`` is the program that pulls from registries and unpacks; ``form`` is what
    it can use here: ``file`` where it can mount SIF, else ``directory``. ``limit_mib`` None: bounded by the disk.

    ``environment`` is that of the children, its proxies and OpenSSL variables are used for https:// too. All methods
    raise ``StoreError``.
    """

    __slots__ = ("directory", "environment", "form", "limit_mib", "runtime", "stall_seconds")

    def __init__(
        self,
        directory: str,
        *,
        runtime: str,
        environment: Mapping[str, str],
        form: str = FILE,
        limit_mib: int | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.directory = directory
        self.runtime = runtime
        self.environment = environment
        self.form = form
        self.limit_mib = limit_mib
        self.stall_seconds = stall_seconds

    def fetch(
        self,
        reference: str,
        *,
        digest: str = "",
        deadline_seconds: float = FETCH_SECONDS,
        lease_pid: int | None = None,
        lease_lock: str = "",
        heed_failures: bool = False,
        progress: Progress | None = None,
        wake: WakeUp | None = None,
    ) -> StoredImage:
        """The image of a reference (docker://, oras://, https://, or the absolute path of an image file to unpack),
        fetched now unless somebody did before. ``digest`` pins it.

        With ``lease_pid`` that process holds the image from now to its end, which ``lease_lock`` tells those who cannot
        see it (see ``leases.lend``); otherwise use ``hold``. With
        ``heed_failures`` nothing is fetched in the pause after a failure that ``note_failure`` was told of. Raises
        ``StoreError``, and ``Interrupted`` when ``wake`` becomes readable.
        """
        started = time.monotonic()
        key = key_of(reference, digest, self.form)
        with Directory.open(self.directory) as directory:
            lock, entry = _obtain(directory, key, started + deadline_seconds, progress or _silent, wake)
            try:
                shared = entry is not None
                if entry is None:
                    failed = failures.recent(directory, key) if heed_failures else None
                    if failed is not None:
                        raise failed
                    from pilot_agent.containers.store.fetching import fetch_new

                    entry = fetch_new(
                        self, directory, Entry(key, reference, self.form, digest, 0),
                        end=started + deadline_seconds, progress=progress or _silent, wake=wake,
                    )  # fmt: skip
                else:
                    entries.touch(directory, key)
                if lease_pid is not None:
                    leases.lend(directory, key, lease_pid, lease_lock)
            finally:
                os.close(lock)
            return StoredImage(entry, entry.path(directory), shared=shared, seconds=time.monotonic() - started)

    def hold(self, image: StoredImage) -> Hold:
        """Keep an image from eviction while this process wants it. Raises ``StoreError`` (store.gone)."""
        with Directory.open(self.directory) as directory:
            lock = directory.lock(image.key, shared=True)
            if lock is not None and entries.read(directory, image.key) is not None:
                return Hold(lock)
            if lock is not None:
                os.close(lock)
        hint = "fetch it again; a lease_pid given to fetch leaves no time in between"
        raise StoreError("store.gone", NODE, f"{image.reference} was evicted from the store", hint, temporary=True)

    def release(self, image: StoredImage, pid: int) -> None:
        """Drop the lease of ``pid`` before that process ends."""
        with Directory.open(self.directory) as directory:
            leases.give_back(directory, image.key, pid)

    def note_failure(self, reference: str, digest: str, error: StoreError) -> int:
        """Remember that an image cannot be had or used here now, for all who share the store; for how many seconds
        nobody should try again."""
        with Directory.open(self.directory) as directory:
            return failures.note(directory, key_of(reference, digest, self.form), error)

    def recent_failure(self, image: StoredImage) -> RecentFailureError | None:
        """What ``note_failure`` was told of an image that is there, while the pause after it lasts."""
        with Directory.open(self.directory) as directory:
            return failures.recent(directory, image.key)

    def mark_proven(self, image: StoredImage, runtime: str) -> None:
        """Note for all who share the image that a program ran in it with this runtime (a text of the caller's, such
        as path and version)."""
        with Directory.open(self.directory) as directory:
            failures.forget(directory, image.key)
            entry = entries.read(directory, image.key)
            if entry is None or runtime in entry.proven:
                return
            entry.proven = (*entry.proven, runtime)
            try:
                entries.write_about(directory.images, image.key, entry)
            except OSError as error:
                raise of_the_system(error, "a proof cannot be noted in the store") from error

    def ran_lately(self, path: str, runtime: str) -> bool:
        """Whether ``note_ran`` was told of this path a while ago. Raises ``RecentFailureError`` while the pause after a
        failure lasts, which ``note_failure`` was told of by a store of this form."""
        with Directory.open(self.directory) as directory:
            key = key_of(path, "", NAMED)
            failed = failures.recent(directory, key)
            if failed is not None:
                raise failed
            return named.ran_lately(directory, key, runtime)

    def note_ran(self, path: str, runtime: str) -> None:
        """Note for all who share the store that a program ran in an image of the node with this runtime."""
        with Directory.open(self.directory) as directory:
            key = key_of(path, "", NAMED)
            failures.forget(directory, key)
            named.note(directory, key, runtime)

    def list(self) -> list[Listed]:
        """The images that are there, the longest unused first."""
        with Directory.open(self.directory) as directory:
            used = leases.leased(directory)
            return [
                Listed(entry, entry.path(directory), entry.key in used or _locked(directory, entry.key))
                for entry in entries.everything(directory)
            ]

    def evict(self, *, limit_mib: int = 0) -> tuple[Entry, ...]:
        """Remove images that nobody uses, the longest unused first, until at most ``limit_mib`` are left; what was
        removed. Also sweeps what killed fetches left."""
        removed = []
        with Directory.open(self.directory) as directory:
            entries.sweep(directory, "")
            present = entries.everything(directory)
            total = sum(entry.size for entry in present)
            for entry in present:
                if total > limit_mib * entries.MIB and entries.evict_one(directory, entry.key):
                    total -= entry.size
                    removed.append(entry)
        return tuple(removed)


def key_of(reference: str, digest: str, form: str) -> str:
    """The name of an image in the store; for a file of the node it also depends on what the file is now.

    Raises ``StoreError`` for a reference or a digest that is none.
    """
    if not reference.isprintable() or len(reference) > 2048:
        message = f"{reference[:100]!r} has characters that no reference has, or is too long"
        raise _wrong("image.path", message, "the VO or the job's owner corrects it")
    if digest and not (digest.startswith("sha256:") and len(digest) == _DIGEST_LENGTH and set(digest[7:]) <= _HEX):
        raise _wrong("image.digest_form", f"{digest[:100]!r} is no digest", "sha256: and 64 hexadecimal digits")
    parts = [reference, digest, form]
    if form == NAMED:
        return sha256_hex("\0".join(parts).encode("utf-8", "surrogateescape"))
    if reference.startswith("/"):
        parts.append(_identity_of_file(reference, form))
    elif not reference.startswith(SOURCES):
        hint = f"the VO uses one of {', '.join(SOURCES)}"
        raise _wrong("image.source", f"{reference}: images are not fetched from such a place", hint)
    return sha256_hex("\0".join(parts).encode("utf-8", "surrogateescape"))


def _identity_of_file(path: str, form: str) -> str:
    if form != DIRECTORY:
        raise _wrong("image.source", f"{path} is a file of the node and can be used as it is", "nobody: a defect")
    try:
        status = os.stat(path)
    except OSError as error:
        hint = "the VO corrects the path in images, or the site provides it"
        raise StoreError("image.missing", NODE, f"{path}: {error.strerror}", hint, temporary=True) from error
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _wrong(code: str, message: str, hint: str) -> StoreError:
    return StoreError(code, CONFIG, message, hint, temporary=False)


def _obtain(
    directory: Directory, key: str, end: float, progress: Progress, wake: WakeUp | None
) -> tuple[int, Entry | None]:
    """The lock of an image, shared with the image when it is there, else exclusive: then the caller has to fetch it."""
    pause, told = 0.02, -1
    while True:
        lock = directory.lock(key, shared=True)
        if lock is not None:
            entry = entries.read(directory, key)
            if entry is not None:
                return lock, entry
            os.close(lock)
        lock = directory.lock(key, shared=False)
        if lock is not None:
            if entries.read(directory, key) is None:
                return lock, None
            os.close(lock)
            continue
        holder = directory.holder(key)
        if holder != told:
            told = holder
            progress("waiting", 0, None, f"waiting for process {holder}, which fetches it")
        left = end - time.monotonic()
        if left <= 0:
            message = f"process {holder} still fetches it, and the time for that is used up"
            hint = "the job runs elsewhere or later; the VO makes the image smaller or moves it nearer"
            raise StoreError("image.wait", NETWORK, message, hint, temporary=True)
        _sleep(min(pause, left), wake)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _sleep(seconds: float, wake: WakeUp | None) -> None:
    if wake is None:
        time.sleep(seconds)
        return
    import select

    if select.select([wake], [], [], seconds)[0] and wake.must_end():
        from pilot_agent.process import Interrupted

        raise Interrupted


def _locked(directory: Directory, key: str) -> bool:
    lock = directory.lock(key, shared=False)
    if lock is not None:
        os.close(lock)
    return lock is None


def _silent(phase: str, done: int, total: int | None, message: str) -> None:
    """Nobody listens."""
