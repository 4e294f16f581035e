"""What the builder says while it works, and the error it ends with."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


class BuildError(Exception):
    """The build cannot go on; the message says what was found, what was needed and what to change."""


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what goes on before it goes on, and how long it took."""
    print(f"payload: {title} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    print(f"payload: {title}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def run(command: Sequence[str], hint: str, environment: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Standard output of a program. BuildError, with its last lines and the hint, when it fails or is missing."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be started ({error.strerror}). {hint}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise BuildError(f"{' '.join(command[:4])} ... ended with {done.returncode}:\n{tail}\n{hint}")
    return done.stdout
