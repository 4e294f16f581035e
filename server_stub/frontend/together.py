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
    change nothing here any more. While one of them goes on, nothing else of its name is started: who answers without
    end gets one thread and not one more each time."""

    def __init__(self, tasks: Mapping[str, Callable[[], T]], wake: Wake) -> None:
        self._wake = wake
        self._names = tuple(tasks)
        self._done: dict[str, T | Exception] = {}
        self._threads: dict[str, threading.Thread] = {}
        left = {thread.name for thread in threading.enumerate()}
        for name, task in tasks.items():
            # Of this service: others in the same process ask on their own.
            label = f"to {name} for {id(wake):x}"
            if label in left:
                self._done[name] = TimeoutError("what was asked before has not ended yet")
                continue
            thread = threading.Thread(target=self._run, args=(name, task), name=label, daemon=True)
            self._threads[name] = thread
            thread.start()

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
        for name in done.keys() & self._threads.keys():
            self._threads[name].join()
        late = TimeoutError(f"no end within {seconds:.0f} s")
        return {name: done.get(name, late) for name in self._names}
