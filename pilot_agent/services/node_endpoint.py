"""One service for all pilots of an account on a node: who runs it holds a lock, and says in a file where it is.

Both files lie in the account's private list of workspaces (``lifecycle.node_list``). The kernel gives the lock back
when its holder dies, however it does; the file is then stale, and whoever takes the lock next writes it anew. What a
file says is believed only if it is this account's alone, and is used as numbers of ports of this machine and no more.
"""

from __future__ import annotations

import fcntl
import os
import stat

from pilot_agent.files import read_bounded
from pilot_agent.lifecycle import node_list
from pilot_agent.lifecycle.lock import take
from pilot_agent.light import dumps, loads, sha256_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

LIMIT_BYTES = 16384
LARGEST_PORT = 65535
KEY_LENGTH = 16
HELD, TAKEN, NOWHERE = "held", "taken", "nowhere"
"""This process has the lock; another has it; there is no place for one."""


def key_of(words: Iterable[str], root: str) -> str:
    """The same for two pilots whose services are the same: ``words`` say all of it, ``root`` is the pilot's workspace,
    which stands in them. Not in two boots, and not in two network namespaces, which do not see each other's ports."""
    try:
        network = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        network = 0
    said = [word.replace(root, "{pilot}") for word in words]
    return sha256_hex(dumps([said, network]).encode())[:KEY_LENGTH]


class Endpoint:
    """What the holder says: its ``pid``, the service's ``status`` and ``ports``."""

    __slots__ = ("pid", "ports", "status")

    def __init__(self, pid: int, status: str, ports: Mapping[str, int]) -> None:
        self.pid = pid
        self.status = status
        self.ports = dict(ports)


class NodeEndpoint:
    """The lock and the file of one service. ``problem`` says why there is no place for them."""

    __slots__ = ("_name", "descriptor", "problem")

    def __init__(self, name: str, key: str) -> None:
        self._name = f"{node_list.SERVICE_PREFIX}{name}-{key}"
        self.descriptor = -1
        """Of the lock, while it is held."""
        self.problem = ""

    def take(self) -> str:
        """Take the lock without waiting: HELD, TAKEN or NOWHERE."""
        if self.descriptor >= 0:
            return HELD
        directory = node_list.open_directory(make=True)
        if directory is None:
            self.problem = f"{node_list.path()} is not a directory that this account alone may use"
            return NOWHERE
        try:
            return self._take(directory)
        except OSError as error:
            self.problem = f"{node_list.path()}: {error.strerror}"
            return NOWHERE
        finally:
            os.close(directory)

    def _take(self, directory: int) -> str:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._lock, flags, 0o600, dir_fd=directory)
        try:
            if not _is_own(os.fstat(descriptor)):
                self.problem = f"{node_list.path()}/{self._lock} is not a file that this account alone may use"
            elif not take(descriptor, fcntl.LOCK_EX):
                self.problem = f"{node_list.path()} is on a file system without locks"
            elif not _is_there(descriptor, self._lock, directory):
                return TAKEN  # its last holder removed it just now: the next look makes another
            else:
                self.descriptor, descriptor = descriptor, -1
                return HELD
        except BlockingIOError:
            return TAKEN
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return NOWHERE

    def adopt(self, descriptor: int) -> bool:
        """Go on with the lock that this process took before it became another program; False when it is not this."""
        directory = node_list.open_directory(make=False)
        if directory is None:
            return False
        try:
            if not _is_there(descriptor, self._lock, directory):
                return False
            os.set_inheritable(descriptor, False)
        except OSError:
            return False
        finally:
            os.close(directory)
        self.descriptor = descriptor
        return True

    def publish(self, status: str, ports: Mapping[str, int]) -> None:
        """Say where the service is, in one step; for the holder. Raises ``OSError``: then nobody else knows."""
        directory = node_list.open_directory(make=False)
        if directory is None:
            raise FileNotFoundError(2, "the directory is gone", node_list.path())
        new = f"{self._file}.{os.getpid()}.new"
        try:
            content = dumps({"pid": os.getpid(), "status": status, "ports": dict(ports)}).encode()
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(new, flags, 0o600, dir_fd=directory)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)
            if os.stat(new, dir_fd=directory).st_size != len(content):
                raise OSError(28, "No space left on device", new)
            os.rename(new, self._file, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            _remove(directory, new)
            raise
        finally:
            os.close(directory)

    def read(self, names: Iterable[str]) -> Endpoint | None:
        """What the holder says of a service with ports of these names; None for what cannot be believed."""
        path = os.path.join(node_list.path(), self._file)
        directory = node_list.open_directory(make=False)
        if directory is None:
            return None
        os.close(directory)
        try:
            if not _is_own(os.lstat(path)):
                return None
            return _endpoint(loads(read_bounded(path, limit_bytes=LIMIT_BYTES)), names)
        except (OSError, ValueError, RecursionError):
            return None

    def release(self) -> None:
        """Give the lock back, with everything that lies there of it."""
        if self.descriptor < 0:
            return
        directory = node_list.open_directory(make=False)
        if directory is not None:
            if _is_there(self.descriptor, self._lock, directory):
                _remove(directory, self._file)
                _remove(directory, self._lock)
            os.close(directory)
        os.close(self.descriptor)
        self.descriptor = -1

    @property
    def _lock(self) -> str:
        return f"{self._name}{node_list.LOCK_SUFFIX}"

    @property
    def _file(self) -> str:
        return f"{self._name}.json"


def _endpoint(data: Any, names: Iterable[str]) -> Endpoint | None:
    if not isinstance(data, dict) or not isinstance(data.get("ports"), dict):
        return None
    pid, status, ports = data.get("pid"), data.get("status"), data["ports"]
    numbers = all(type(number) is int and 0 < number <= LARGEST_PORT for number in ports.values())
    if type(pid) is not int or not isinstance(status, str) or not numbers or set(ports) != set(names):
        return None
    return Endpoint(pid, status, {name: ports[name] for name in names})


def _is_own(status: os.stat_result) -> bool:
    """Whether it is a file that this account alone can have made and can change."""
    private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077
    return private and status.st_uid == os.geteuid() and status.st_nlink == 1


def _is_there(descriptor: int, name: str, directory: int) -> bool:
    """Whether the open file still has its name."""
    mine = os.fstat(descriptor)
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return
