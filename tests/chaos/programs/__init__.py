"""Small C programs with which the suite breaks things: compiled once in a run, put on the nodes."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PASS, NO_SPACE, IO_ERROR, READ_ONLY, SILENT = b"-", b"n", b"i", b"r", b"h"
"""What the faulty file system is told by the first byte of its control file."""
CONTROL_BYTES = 16
COUNTER_AT = 8
BUILT = {
    "faulty_fs": ("-static", "-D_FILE_OFFSET_BITS=64", "-I/usr/include/fuse3", "-lfuse3", "-lpthread", "-ldl", "-lrt"),
    "shifted_clock": ("-shared", "-fPIC"),
}


class ProgramError(RuntimeError):
    """A program of the suite could not be built on this machine."""


class ProgramFiles:
    """The compiled programs."""

    def install(self, directory: Path) -> None:
        """Write them into a directory, executable by everybody."""
        for name in BUILT:
            (directory / name).write_bytes(compiled(name))
            (directory / name).chmod(0o755)


@functools.cache
def compiled(name: str) -> bytes:
    """One program. Raises ProgramError that says what to install."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/fuse3/fuse.h").exists():
        raise ProgramError("a C compiler and libfuse's headers are needed: install gcc, libc6-dev and libfuse3-dev")
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / name
        first, *rest = BUILT[name]
        words = [compiler, first, "-O2", "-o", str(target), str(HERE / f"{name}.c"), *rest]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise ProgramError(f"{' '.join(words)}: {done.stderr}")
        return target.read_bytes()
