"""Several slow things at once, each in a thread, while the main thread does something else or waits for a signal."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from pilot_agent.process import Interrupted
from server_stub.frontend.wake import Wake

T = TypeVar("T")


class Together(Generic[T]):
    """Starts what it is given. Threads that do not end in time are left to themselves: they end with the process, and
    change nothing here any more."""

    def __init__(self, tasks: Mapping[str, Callable[[], T]], wake: Wake) -> None:
        self._wake = wake
        self._names = tuple(tasks)
        self._done: dict[str, T | Exception] = {}
        for name, task in tasks.items():
            threading.Thread(target=self._run, args=(name, task), name=f"to {name}", daemon=True).start()

    def _run(self, name: str, task: Callable[[], T]) -> None:
        try:
            self._done[name] = task()
        except Exception as error:  # noqa: BLE001 - it is the result
            self._done[name] = error
        self._wake.nudge()

    def results(self, seconds: float) -> dict[str, T | Exception]:
        """Each result or error by name, within so many seconds. Raises ``Interrupted``."""
        end = time.monotonic() + seconds
        while len(self._done) < len(self._names) and (left := end - time.monotonic()) > 0:
            if self._wake.must_end():
                raise Interrupted
            if len(self._done) < len(self._names):
                select.select([self._wake], [], [], left)
        done = dict(self._done)
        late = TimeoutError(f"no end within {seconds:.0f} s")
        return {name: done.get(name, late) for name in self._names}
