"""The contributed DB12 beside the PyPI package of that name, turn by turn in the same interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Figure, Samples
from benchmarks.node import REPOSITORY, MeasurementError

PACKAGE = "DB12==1.0.4"
SETUPTOOLS = "setuptools<81"
"""The package imports pkg_resources, which later ones do not have."""
OURS = "from pilot_db12.measure import measure; print(measure(1).norm)"
SECONDS = 300.0


def measure(directory: Path, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Norms of both, on one core. ``directory`` gets a virtual environment with the package."""
    environment = directory / "db12-venv"
    python = environment / "bin" / "python"
    if not (environment / "bin" / "db12").exists():
        venv.create(environment, with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", SETUPTOOLS, PACKAGE])
    ours: list[float] = []
    peers: list[float] = []
    for number in range(rounds):
        for side in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
            if side == "ours":
                ours.append(_ours(python))
            else:
                peers.append(_peer(environment))
        say(f"db12: round {number + 1} of {rounds}: {ours[-1]:.2f} beside {peers[-1]:.2f}")
    method = "norm of one counted iteration on one core, alternating, both under this Python " + sys.version.split()[0]
    return [
        Figure(
            "db12", "DB12", Samples("plugins_contrib/db12", tuple(ours)), Samples(PACKAGE, tuple(peers)), method=method
        )
    ]


def _ours(python: Path) -> float:
    source = f"import sys; sys.path.insert(0, {str(REPOSITORY / 'plugins_contrib/db12/src')!r}); {OURS}"
    return float(_run([str(python), "-c", source]))


def _peer(environment: Path) -> float:
    told = environment / "norm.json"
    command = [str(environment / "bin" / "db12"), "single", "--iterations", "1", "--no-correction", "--json", str(told)]
    _run(command)
    try:
        return float(json.loads(told.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise MeasurementError(f"{told} holds no norm: {error}") from error


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise MeasurementError(f"{argv[0]} exited {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
