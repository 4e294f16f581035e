"""Run one of the outer machine's programs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

LAST_LINES = 20


class CommandError(RuntimeError):
    """A program that the testbed needs did not succeed."""


def call(argv: Sequence[str], *, timeout_seconds: float = 60.0, stdin: str | None = None) -> str:
    """Run a program to its end and return its standard output.

    Raises CommandError with the last lines of its output when its exit status is not 0 or it takes too long.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(argv)}: no end after {timeout_seconds:.0f} s") from error
    if done.returncode != 0:
        tail = "\n".join((done.stderr + done.stdout).splitlines()[-LAST_LINES:])
        raise CommandError(f"{' '.join(argv)}: exit status {done.returncode}\n{tail}")
    return done.stdout
