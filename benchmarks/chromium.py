"""A Chromium without a window that is told by pipe what to open, and tells how long that took."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.node import MeasurementError

PROGRAMS = ("chromium-headless-shell", "chromium")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
ANSWER_SECONDS = 120.0
PLACED = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 5) for word in sys.argv[1:3]]
for number, end in enumerate(ends):
    os.dup2(end, 3 + number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads 3 and writes 4, whatever numbers the ends have here."""
TIMES = """(() => {
  document.documentElement.getBoundingClientRect();
  const all = performance.getEntriesByType("navigation")[0];
  const painted = performance.getEntriesByType("paint").map((one) => one.startTime);
  return JSON.stringify([all.responseStart, all.responseEnd, all.loadEventEnd, ...painted]);
})()"""


class Chromium:
    """Speaks the DevTools protocol: JSON between zero bytes, on descriptors 3 and 4 of the browser."""

    def __init__(self, process: subprocess.Popen[bytes], reader: int, writer: int) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._number = 0
        self._heard = b""
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session: str = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self._ask("Page.enable")
        self._ask("Network.enable")
        self._ask("Network.setCacheDisabled", {"cacheDisabled": True})

    def open_seconds(self, address: str) -> dict[str, float]:
        """From the start of the navigation until the page has loaded, is laid out and was painted, seconds; ``answer``
        is until its first byte was there, ``document`` until its last."""
        told = self._ask("Page.navigate", {"url": address})
        if "errorText" in told:
            raise MeasurementError(f"{address}: {told['errorText']}")
        self._until("Page.loadEventFired")
        times: list[float] = []
        end = time.monotonic() + ANSWER_SECONDS
        while len(times) < 4 and time.monotonic() < end:  # until something was painted
            found = self._ask("Runtime.evaluate", {"expression": TIMES})["result"]
            times = json.loads(found["value"])
        if len(times) < 4:
            raise MeasurementError(f"{address}: nothing was painted")
        answer, document, *shown = (milliseconds / 1000 for milliseconds in times)
        return {"answer": answer, "document": document, "open": max(shown)}

    def _ask(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if self._number > 2:
            asked["sessionId"] = self._session
        os.write(self._writer, json.dumps(asked).encode() + b"\0")
        while (told := self._hear()).get("id") != self._number:
            pass
        if "error" in told:
            raise MeasurementError(f"{method}: {told['error']}")
        result: dict[str, Any] = told["result"]
        return result

    def _until(self, event: str) -> None:
        while self._hear().get("method") != event:
            pass

    def _hear(self) -> dict[str, Any]:
        end = time.monotonic() + ANSWER_SECONDS
        while b"\0" not in self._heard:
            if not select.select([self._reader], [], [], max(0.0, end - time.monotonic()))[0]:
                raise MeasurementError(f"Chromium said nothing for {ANSWER_SECONDS:g} s")
            piece = os.read(self._reader, 1 << 20)
            if not piece:
                raise MeasurementError(f"Chromium ended with {self._process.wait()}")
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        return told


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """One that runs, with a profile that is thrown away by whoever made the directory."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        raise MeasurementError(f"none of {', '.join(PROGRAMS)} is installed; packaging/setup.sh installs the first")
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    words = [sys.executable, "-I", "-c", PLACED, str(theirs_in), str(theirs_out), program, *OPTIONS]
    process = subprocess.Popen(
        [*words, f"--user-data-dir={profile}"],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Chromium(process, ours_in, ours_out)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours_in)
        os.close(ours_out)
