"""``python -m tests.uml``: run the tests of this package in a User-Mode Linux (Debian's package user-mode-linux).

It runs on the machine's own files, as root, with everything that ``make payload testbed`` built. The exit status is
that of the tests.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.testbed import cache

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 3000
PERIOD_SECONDS = 0.5
ENDED = re.compile(r"^uml: exit (\d+)\s*$", re.MULTILINE)


def command(kernel: Path, payloads: Path, memory_mib: int, tests: str, output: Path) -> list[str]:
    """How the kernel is started; what it does not know itself it gives to its first process as variables."""
    given = {
        "PYTHON": Path(sys.executable),
        "REPOSITORY": REPOSITORY,
        "MODULES": kernel.resolve().parents[1] / "lib" / "uml" / "modules",
        "CACHE": cache.directory(),
        "PAYLOADS": payloads.resolve(),
        "TESTS": tests,
        "OUTPUT": output,
    }
    disk = ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", f"init={REPOSITORY / 'tests/uml/init.sh'}"]
    words = ["timeout", "--kill-after=5", str(DEADLINE_SECONDS), str(kernel), f"mem={memory_mib}M", *disk]
    return [*words, "con=null", "con0=null", *(f"{name}={value}" for name, value in given.items())]


def follow(kernel: subprocess.Popen[bytes], output: Path) -> str:
    """Show what comes into the file as it comes, until the kernel has ended; all of it."""
    said = ""
    with output.open(encoding="utf-8", errors="replace") as file:
        ended = False
        while not ended:
            ended = kernel.poll() is not None
            text = file.read()
            said += text
            print(text, end="", flush=True)
            time.sleep(PERIOD_SECONDS)
    return said


def main() -> int:
    """Start the kernel, show what it says, and give the tests' exit status back; 70 when it did not come so far."""
    parser = argparse.ArgumentParser(prog="python -m tests.uml", description=__doc__)
    parser.add_argument("--kernel", default=shutil.which("linux.uml"), help="the kernel, otherwise linux.uml of PATH")
    parser.add_argument("--payloads", default=os.environ.get("PILOT_TEST_PAYLOADS", REPOSITORY / "build"), type=Path)
    parser.add_argument("--memory-mib", default=4096, type=int, help="memory of the kernel, MiB (4096)")
    parser.add_argument("--tests", default="tests/uml/job_cgroups.py", help="the tests to run")
    asked = parser.parse_args()
    if asked.kernel is None:
        parser.error("there is no linux.uml in PATH: run apt-get install user-mode-linux, or name one with --kernel")
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "output"
        output.touch()
        words = command(Path(asked.kernel), asked.payloads, asked.memory_mib, asked.tests, output)
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as kernel:
            ended = ENDED.findall(follow(kernel, output))
    return int(ended[-1]) if ended else 70


if __name__ == "__main__":
    sys.exit(main())
