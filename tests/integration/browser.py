"""Chromium without a window: renders a page, measures it, and tells what it tried to fetch and complained of."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("chromium-headless-shell", "chromium")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--run-all-compositor-stages-before-draw",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
)
"""Root in a container has no sandbox of its own kind; frames from files may be measured by the file that holds them."""
DEADLINE_SECONDS = 180


@dataclass(frozen=True)
class Rendered:
    """What came of one page: what was printed, the addresses asked for, and the console's lines."""

    output: str
    addresses: frozenset[str]
    console: tuple[str, ...]


class Browser:
    """The program and a profile that is thrown away."""

    def __init__(self, directory: Path) -> None:
        found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
        if found is None:
            pytest.fail(f"none of {', '.join(PROGRAMS)} is installed: run packaging/setup.sh")
        self._program, self._directory = found, directory

    def open(self, page: Path | str, *arguments: str) -> Rendered:
        """The page, a file or an address, opened once, with these arguments (``--dump-dom``, ``--screenshot=``,
        ``--print-to-pdf=``)."""
        log = self._directory / "network.json"
        command = [self._program, *OPTIONS, f"--user-data-dir={self._directory / 'profile'}", f"--log-net-log={log}"]
        done = subprocess.run(
            [*command, *arguments, page.as_uri() if isinstance(page, Path) else page],
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            stdin=subprocess.DEVNULL,
            cwd=self._directory,
        )
        assert done.returncode == 0, done.stderr
        console = tuple(line for line in done.stderr.splitlines() if ":CONSOLE:" in line or ":CONSOLE(" in line)
        return Rendered(done.stdout, _addresses(log), console)

    def widths(self, page: Path, width: int) -> tuple[int, int]:
        """How wide the page is and how wide its window, in pixels, in a window of this width."""
        outer = self._directory / "measure.html"
        outer.write_text(MEASURE.format(address=page.as_uri(), width=width), encoding="utf-8")
        output = self.open(outer, "--dump-dom", "--virtual-time-budget=5000").output
        found = re.search(r"<title>(\d+) (\d+)</title>", output)
        assert found, output[:2000]
        return int(found[1]), int(found[2])


def _addresses(log: Path) -> frozenset[str]:
    """The addresses of all requests in a network log, but for those of pages and data in files."""
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    found = {event.get("params", {}).get("url") for event in events}
    return frozenset(url for url in found if url and not url.startswith(("file:", "data:")))


MEASURE = """<!DOCTYPE html><title>not measured</title><body style="margin:0">
<iframe id="page" src="{address}" style="width:{width}px;height:1000px;border:0"></iframe><script>
addEventListener("load", () => {{
  const root = document.getElementById("page").contentDocument.documentElement;
  document.title = root.scrollWidth + " " + root.clientWidth;
}});
</script>
"""
