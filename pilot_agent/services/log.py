"""What a service says: kept in ``log.log``, and what was said before in ``log.1.log``, both together below a limit."""

from __future__ import annotations

import errno
import os
import stat

NAME = "log.log"
OLDER_NAME = "log.1.log"
CHUNK_BYTES = 1 << 20
SAID_BYTES = 4096
LONGEST_LOOK_SECONDS = 1.0
SHORTEST_LOOK_SECONDS = 0.02
LOOKS_TO_LIMIT = 4
"""So many looks at least while a file grows to its limit as fast as it did before."""
NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EINVAL)
"""What opening a link, a pipe without a reader, and anything else that is no plain file ends with."""


class Log:
    """The two files of one service, in its directory. The service appends to the first, which is emptied in place.

    The service can put something else there, and one in an image knows the node's paths: what is a link, a pipe or no
    plain file is neither read nor written, and goes at the next start."""

    __slots__ = ("_limit", "_searched", "_size", "_tail", "directory", "pause")

    def __init__(self, directory: str, limit_mib: int) -> None:
        self.directory = directory
        self._limit = (limit_mib << 20) // 2
        self._size = 0
        self._searched = 0
        self._tail = b""
        self.pause = LONGEST_LOOK_SECONDS
        """Seconds until the next look: the sooner the faster it grew."""

    @property
    def path(self) -> str:
        """The file that the service writes."""
        return os.path.join(self.directory, NAME)

    def begin(self) -> int:
        """A start begins: what was said before is not searched. A descriptor to append to, for the service and to be
        closed. Raises ``OSError``."""
        try:
            descriptor = _opened(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            if error.errno not in NO_FILE:
                raise
            os.unlink(self.path)
            descriptor = _opened(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        os.set_blocking(descriptor, True)
        self._searched, self._tail = os.fstat(descriptor).st_size, b""
        return descriptor

    def begun(self) -> int:
        """Where the search for words is: the size at ``begin``, unless some was searched since."""
        return self._searched

    def go_on(self, begun: int) -> None:
        """Search from there: another process began."""
        self._searched = begun

    def look(self, seconds: float) -> bool:
        """Whether it was rotated; ``seconds`` passed since the last look. Raises nothing for a file that is gone, or
        no plain one."""
        size = self._length()
        grown = max(0, size - self._size)
        self._size = size
        if grown:
            wanted = self._limit / LOOKS_TO_LIMIT * seconds / grown
            self.pause = min(LONGEST_LOOK_SECONDS, max(SHORTEST_LOOK_SECONDS, wanted))
        else:
            self.pause = LONGEST_LOOK_SECONDS
        if size <= self._limit:
            return False
        try:
            source = _opened(self.path, os.O_RDWR)
        except OSError:
            return False
        try:
            self._keep_older(source, size)
        except OSError:  # no room for the older one: it is the newer one that must not grow
            pass
        finally:
            os.ftruncate(source, 0)
            os.close(source)
        self._size = self._searched = 0
        return True

    def _keep_older(self, source: int, size: int) -> None:
        target = _opened(os.path.join(self.directory, OLDER_NAME), os.O_WRONLY | os.O_CREAT)
        try:
            os.ftruncate(target, 0)
            place = max(0, size - self._limit)
            while place < size and (chunk := os.pread(source, min(CHUNK_BYTES, size - place), place)):
                os.write(target, chunk)
                place += len(chunk)
        finally:
            os.close(target)

    def says(self, text: str) -> bool:
        """Whether ``text`` appeared since ``begin``; each byte is searched once."""
        wanted = text.encode()
        try:
            descriptor = _opened(self.path, os.O_RDONLY)
            try:
                chunk = os.pread(descriptor, CHUNK_BYTES, self._searched)
            finally:
                os.close(descriptor)
        except OSError:
            return False
        self._searched += len(chunk)
        seen = self._tail + chunk
        self._tail = seen[-(len(wanted) - 1) :] if len(wanted) > 1 else b""
        return wanted in seen

    def last_words(self) -> str:
        """The last line it said, to be added to a reason."""
        try:
            descriptor = _opened(self.path, os.O_RDONLY)
            try:
                place = max(0, os.fstat(descriptor).st_size - SAID_BYTES)
                lines = os.pread(descriptor, SAID_BYTES, place).decode("utf-8", "replace").strip().splitlines()
            finally:
                os.close(descriptor)
        except OSError:
            return ""
        return f"; it said last: {lines[-1][:300]}" if lines else "; it said nothing"

    def _length(self) -> int:
        try:
            status = os.lstat(self.path)
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _opened(path: str, flags: int) -> int:
    """A descriptor of a plain file with one name. Raises ``OSError`` for anything else, and waits for nobody."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no plain file", path)
    return descriptor
