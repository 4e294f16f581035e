"""A person at a terminal sees what is waited for, and nothing else changes by it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

SLOW = """
import time
from pilot_agent.hookspecs import Probe, hookimpl
from pilot_agent.model import Fact

def look(context):
    time.sleep(3)
    yield Fact("slow.seen", True)

@hookimpl
def pilot_probes(config):
    yield Probe(name="slow", run=f"{__name__}:look", gives=("slow.seen",))
"""


def on_a_terminal(directory: Path, *words: str) -> tuple[int, str]:
    """Run the command with standard error on a terminal; its exit code and what the terminal got."""
    (directory / "slow.py").write_text(SLOW)
    main, terminal = pty.openpty()
    options = ["--set", f'plugins.directories=["{directory}"]', "--set", 'plugins.load=["slow"]']
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "pilot_agent", *words, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env=environment,
    ) as process:
        os.close(terminal)
        said = b""
        # The end of a terminal that nobody has open is an error.
        while chunk := _read(main):
            said += chunk
    os.close(main)
    return process.returncode, said.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def test_what_takes_long_is_shown_and_goes_on_to_its_end(tmp_path: Path) -> None:
    code, said = on_a_terminal(tmp_path, "probe", "slow")
    assert "... probe" in said
    assert code == 0, said
