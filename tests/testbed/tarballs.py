"""A tarball of the testbed's own HTCondor, made once by the documented command."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from tests.testbed import cache, trees
from tests.testbed.command import call

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGING = REPOSITORY / "packaging"
BUILD_TIMEOUT_SECONDS = 600.0


def ensure() -> Path:
    """The directory with the tarball, its manifest and the index; built when the cache does not hold it (seconds).

    Raises CommandError when the command fails.
    """
    tree = trees.ensure()
    sources = [PACKAGING / "build_condor.py", *sorted((PACKAGING / "condor_tarball").glob("*.py"))]
    recipe = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sources} | {"tree": tree.name}
    return cache.build_once(cache.directory(), "condor-tarball", recipe, lambda target: build(tree, target))


def unpack(directory: Path) -> Path:
    """Unpack the tarball in a directory; the directory of the HTCondor in it."""
    directory.mkdir(parents=True)
    (archive,) = ensure().glob("*.tar.gz")
    call(["tar", "-xf", str(archive), "-C", str(directory)])
    (master,) = directory.rglob("condor_master")
    return master.parents[1]


def build(tree: Path, output: Path) -> None:
    """Run the command. Raises CommandError."""
    words = [sys.executable, str(PACKAGING / "build_condor.py"), "--root", str(tree), "--output", str(output)]
    call([*words, "--cache", str(REPOSITORY / "build" / "cache")], timeout_seconds=BUILD_TIMEOUT_SECONDS)
