"""Lmod and Environment Modules beside each other: what their packages, which conflict, add to a node's tree."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.testbed import cache, trees
from tests.testbed.command import call

PACKAGES = ("lmod", "environment-modules")
EDITION = 1


def ensure() -> Path:
    """A directory to be laid over the node's tree: it holds only what that has not. Built when the cache does not hold
    it (about a minute).

    Raises CommandError when mmdebstrap fails.
    """
    node = trees.ensure()
    recipe = {"packages": PACKAGES, "node": node.name, "edition": EDITION}
    return cache.build_once(cache.directory(), "modules", recipe, lambda target: _build(node, target))


def _build(node: Path, target: Path) -> None:
    for package in PACKAGES:
        extracted = target / f".{package}"
        call(_mmdebstrap(package, extracted), timeout_seconds=trees.BUILD_TIMEOUT_SECONDS)
        for part in ("usr", "etc"):
            for name, directories, files in os.walk(extracted / part):
                directory = Path(name)
                links = [link for link in directories if (directory / link).is_symlink()]
                for entry in (*files, *links):
                    _take(directory / entry, extracted, node, target)
        shutil.rmtree(extracted)


def _take(path: Path, extracted: Path, node: Path, target: Path) -> None:
    place = path.relative_to(extracted)
    if os.path.lexists(node / place) or os.path.lexists(target / place):
        return
    (target / place).parent.mkdir(parents=True, exist_ok=True)
    path.rename(target / place)


def _mmdebstrap(package: str, target: Path) -> list[str]:
    return [
        "mmdebstrap",
        "--mode=root",
        # Unpacked and not installed: the node's own tree has been.
        "--variant=extract",
        "--format=directory",
        f"--keyring={trees.KEYRING}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in trees.NOT_UNPACKED),
        f"--include={package}",
        trees.NODE.suite,
        str(target),
        f"deb {trees.MIRROR} {trees.NODE.suite} main",
    ]
