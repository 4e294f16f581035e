"""What a service says: kept in ``log.log``, and what was said before in ``log.1.log``, both together below a limit."""

from __future__ import annotations

import os

NAME = "log.log"
OLDER_NAME = "log.1.log"
CHUNK_BYTES = 1 << 20
SAID_BYTES = 4096
LONGEST_LOOK_SECONDS = 1.0
SHORTEST_LOOK_SECONDS = 0.02
LOOKS_TO_LIMIT = 4
"""So many looks at least while a file grows to its limit as fast as it did before."""


class Log:
    """The two files of one service, in its directory. The service appends to the first, which is emptied in place."""

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

    def begin(self) -> None:
        """A start begins: what was said before is not searched."""
        self._searched, self._tail = self._length(), b""

    def look(self, seconds: float) -> bool:
        """Whether it was rotated; ``seconds`` passed since the last look. Raises nothing for a file that is gone."""
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
            self._rotate(size)
        except OSError:  # no room for the older one: it is the newer one that must not grow
            os.truncate(self.path, 0)
        self._size = self._searched = 0
        return True

    def _rotate(self, size: int) -> None:
        older = os.path.join(self.directory, OLDER_NAME)
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        source = os.open(self.path, os.O_RDWR | flags)
        try:
            target = os.open(older, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o600)
            try:
                place = max(0, size - self._limit)
                while place < size and (chunk := os.pread(source, min(CHUNK_BYTES, size - place), place)):
                    os.write(target, chunk)
                    place += len(chunk)
            finally:
                os.close(target)
        finally:
            os.ftruncate(source, 0)
            os.close(source)

    def says(self, text: str) -> bool:
        """Whether ``text`` appeared since ``begin``; each byte is searched once."""
        wanted = text.encode()
        try:
            with open(self.path, "rb") as file:
                file.seek(self._searched)
                chunk = file.read(CHUNK_BYTES)
        except OSError:
            return False
        self._searched += len(chunk)
        seen = self._tail + chunk
        self._tail = seen[-(len(wanted) - 1) :] if len(wanted) > 1 else b""
        return wanted in seen

    def last_words(self) -> str:
        """The last line it said, to be added to a reason."""
        try:
            with open(self.path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - SAID_BYTES))
                lines = file.read(SAID_BYTES).decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return f"; it said last: {lines[-1][:300]}" if lines else "; it said nothing"

    def _length(self) -> int:
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0
