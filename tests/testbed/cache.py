"""Keep what is slow to build on disk, named by a digest of the recipe that made it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.testbed.progress import step

ROOT_VARIABLE = "PILOT_TESTBED_CACHE"
DIGEST_LENGTH = 16


def directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the cache directory: `PILOT_TESTBED_CACHE`, or `build/testbed` of this checkout."""
    named = environment.get(ROOT_VARIABLE)
    if named:
        return Path(named).absolute()
    return Path(__file__).resolve().parents[2] / "build" / "testbed"


def digest(recipe: object) -> str:
    """Return a short digest of a recipe that JSON can hold."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel gives it back even when the holder is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        with step(f"waiting for another builder of {path.stem}"):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock on `path`."""
    if not path.exists():
        return False
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def build_once(root: Path, name: str, recipe: object, builder: Callable[[Path], None]) -> Path:
    """Return the directory that `builder` filled for this recipe, building it only when it is absent.

    The builder fills a temporary directory, which is renamed when it is complete: whoever sees the final
    name sees all of it. What a killed builder left is removed by the next one.
    """
    final = root / f"{name}-{digest(recipe)}"
    if final.is_dir():
        return final
    with locked(root / f"{name}.lock"):
        if final.is_dir():
            return final
        for stale in root.glob(f"{name}.partial-*"):
            shutil.rmtree(stale)
        partial = root / f"{name}.partial-{os.getpid()}"
        partial.mkdir(parents=True)
        with step(f"building {name}"):
            builder(partial)
        partial.rename(final)
    return final
