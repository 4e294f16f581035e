"""What ends a wait of the code under test, as the pilot's alarm does."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

_IN_VAIN = b"-"


class WakePipe:
    """A wake-up source; a context manager that closes it."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Readable once it was rung."""
        return self._reader

    def must_end(self) -> bool:
        """Whether it was rung, and not in vain; then it is not readable any more."""
        try:
            return os.read(self._reader, 1) != _IN_VAIN
        except BlockingIOError:
            return False

    def ring(self) -> None:
        """End the wait."""
        os.write(self._writer, b"!")

    def ring_in_vain(self) -> None:
        """Wake the wait as a timer's signal does, which does not end it."""
        os.write(self._writer, _IN_VAIN)
