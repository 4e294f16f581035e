"""The client's settings put into a distribution, and the cache that they name taken for this pilot."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import stat
from collections.abc import Mapping

from pilot_agent.cvmfs.client_settings import SURPLUS, ClientSettings, Places, client_settings
from pilot_agent.cvmfs.distribution import Distribution, place_problem
from pilot_agent.cvmfs.node_caches import NodeCache
from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.lifecycle.lock import take
from pilot_agent.model import Fact, Failure, FailureKind, Json, PilotError
from pilot_agent.trust.local import replaceable_by_others, writable_by_others

MOST_CACHES = 64
"""In one directory; more pilots on a node than that have been seen nowhere (cvmfs issue 3674)."""
LIMIT_BYTES = 64 << 10
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""What the node says of a lock file that another account made, or made something else than a file."""
_PUBLIC, _PRIVATE = b"PUBLIC KEY-----", b"PRIVATE KEY"
_KEY_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def install(
    distribution: Distribution,
    config: Mapping[str, Json],
    facts: Mapping[str, Fact],
    *,
    workspace_cache: str,
    node_caches: tuple[NodeCache, ...] = (),
) -> ClientSettings:
    """Configure the client of a private distribution: its ``default.local`` keeps what it has and goes on with the
    pilot's lines; files that may hold a password are this account's alone. ``workspace_cache`` is where the cache lies
    without ``cvmfs.cache_directory``; a directory of the site gives each pilot one of its own, and keeps it.
    ``node_caches`` are the proxies that will run on the node.

    Whoever calls it holds the cache: it must be the pipeline itself. Raises
    ``PilotError`` as ``client_settings`` does; cvmfs.keys (config), cvmfs.cache (node).
    """
    wanted = config["cvmfs"]
    named = str(wanted["cache_directory"] or "")
    private = wanted["cache"].lower() == "private"
    cache = _own_cache(named) if named and private else _made(workspace_cache)
    used = _made(named) if named and not private else cache
    if wanted["cache"].lower() == "shared":
        _require_own(used)
    free = free_mib(used)
    limit = facts.get("disk.workspace_free_mib")
    if free is not None and not named and limit is not None and limit.known:
        free = min(free, int(limit.value))  # a quota, or the batch system, may allow less than the disk has
    settings = client_settings(config, facts, Places(distribution.root, cache, free, node_caches))
    etc = os.path.dirname(distribution.local_settings)
    try:
        _copy_keys(settings, os.path.join(etc, "keys"))
        content = _before(distribution.local_settings) + settings.text.encode()
        write_atomically(distribution.local_settings, content, mode=0o600)
        for repository in settings.repositories:
            path = os.path.join(etc, "config.d", f"{repository}.local")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_atomically(path, _before(path) + settings.text_of(repository).encode(), mode=0o600)
    except OSError as error:
        raise _unusable(f"{etc} cannot be written: {error.strerror}") from error
    return settings


def room_in(workspace: str, settings: ClientSettings) -> int:
    """How much of the file system that ``workspace`` is on the cache may take, MiB: jobs do not have it. 0 where the
    cache lies elsewhere, and where no quota holds."""
    quota, cache = settings.value("CVMFS_QUOTA_LIMIT"), settings.value("CVMFS_CACHE_BASE")
    if quota is None or cache is None or int(quota) <= 0:
        return 0
    try:
        same = os.stat(cache).st_dev == os.stat(workspace).st_dev
    except OSError:
        return 0
    return math.ceil(int(quota) * SURPLUS) if same else 0


def free_mib(directory: str) -> int | None:
    """What an ordinary account may still write there, MiB; None when nobody can tell."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize >> 20


def _own_cache(directory: str) -> str:
    """The first cache there that no other pilot has: one that was used before is warm. Raises ``PilotError``.

    Two clients in one private cache block each other for ever and without a word (observed with CVMFS 2.12). The lock
    is held until this process and all that it becomes and starts have ended. Where other accounts may make files too,
    what is theirs is passed by: a link would lead the client to any directory of this account.
    """
    _made(directory)
    if problem := replaceable_by_others(directory):
        raise _unusable(f"no cache is safe in {directory}: {problem}")
    for number in range(MOST_CACHES):
        path = os.path.join(directory, f"pilot-cache-{number}")
        try:
            descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if error.errno in _NOT_OURS:
                continue
            raise _unusable(f"{path}.lock cannot be made: {error.strerror}") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or not _is_own(path):
            os.close(descriptor)
            continue
        try:
            locked = take(descriptor, fcntl.LOCK_EX)
        except BlockingIOError:
            os.close(descriptor)
            continue
        if not locked:
            os.close(descriptor)
            raise _unusable(f"{directory} is on a file system without locks, so that pilots cannot keep apart there")
        try:
            made = _made(path)
            if not _is_own(path):  # a link that came only now
                raise _unusable(f"{path} was exchanged while it was made")
            _require_own(made)
        except PilotError:
            os.close(descriptor)
            raise
        os.set_inheritable(descriptor, True)
        return made
    raise _unusable(f"all {MOST_CACHES} caches in {directory} are in use, or not this account's")


def _is_own(path: str) -> bool:
    """Whether there is nothing at ``path``, or something of this account that is no link."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    return status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode)


def _require_own(cache: str) -> None:
    """Raises ``PilotError`` where others could put something into a cache, or in the place of its manager."""
    if problem := writable_by_others(cache):
        raise _unusable(f"a cache that others may fill is not used: {problem}")


def _made(directory: str) -> str:
    """A directory that is there now, as upstream's scripts can use it. Raises ``PilotError``."""
    problem = place_problem(directory)
    if problem:
        raise _unusable(problem)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unusable(f"{directory} cannot be made: {error.strerror}") from error
    real = os.path.realpath(directory)
    if not os.access(real, os.W_OK | os.X_OK):
        raise _unusable(f"{directory} may not be written by this account")
    return real


def public_keys(settings: ClientSettings) -> dict[str, bytes]:
    """The configured public keys as the client is to find them, by the names of their files. Raises ``PilotError``
    (cvmfs.keys)."""
    taken: dict[str, str] = {}
    keys: dict[str, bytes] = {}
    for source in settings.keys:
        name = os.path.basename(source)
        if not name or not _KEY_LETTERS.issuperset(name) or name.startswith("."):
            raise _no_key(f"{name!r} cannot be a key's name: letters, digits and . _ - only", "rename it")
        if name in taken:
            raise _no_key(f"{source} and {taken[name]} have the same name", "rename one of them")
        taken[name] = source
        try:
            content = read_bounded(source, limit_bytes=LIMIT_BYTES)
        except OSError as error:
            raise _no_key(f"{source} cannot be read: {error.strerror}", "correct its path") from error
        if problem := writable_by_others(source):
            raise _no_key(problem, f"make it root's or this account's and `chmod go-w {source}`")
        if _PRIVATE in content or _PUBLIC not in content:
            kind = "a private key" if _PRIVATE in content else "no public key in PEM form"
            raise _no_key(f"{source} is {kind}", "name the public key of the repository (....pub)")
        keys[name] = content
    return keys


def _copy_keys(settings: ClientSettings, directory: str) -> None:
    """Put the configured public keys where the client looks. Raises ``PilotError`` (cvmfs.keys) and ``OSError``."""
    for name, content in public_keys(settings).items():
        os.makedirs(directory, exist_ok=True)
        write_atomically(os.path.join(directory, name), content, mode=0o644)


def _before(path: str) -> bytes:
    """What the file has, with an end to its last line."""
    try:
        content = read_bounded(path, limit_bytes=LIMIT_BYTES)
    except FileNotFoundError:
        return b""
    return content if content.endswith(b"\n") or not content else content + b"\n"


def _no_key(message: str, change: str) -> PilotError:
    hint = f"whoever set cvmfs.keys: {change}"
    return PilotError(Failure(FailureKind.CONFIG, "cvmfs.keys", message, hint))


def _unusable(message: str) -> PilotError:
    hint = "the site gives pilots another directory (cvmfs.cache_directory, site.scratch)"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "cvmfs.cache", message, hint, retry=True))
