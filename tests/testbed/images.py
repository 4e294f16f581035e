"""Small job images, as a directory and as a SIF file each, of two Debian releases."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.testbed import cache, trees
from tests.testbed.command import CommandError, call
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.network import Network
from tests.testbed.trees import BUILD_TIMEOUT_SECONDS, KEYRING, MIRROR, NOT_UNPACKED

NOT_NEEDED = (
    *NOT_UNPACKED,
    "/usr/share/bash-completion/*",
    "/usr/share/common-licenses/*",
    "/usr/share/i18n/*",
    "/usr/share/lintian/*",
    "/usr/share/zoneinfo/*",
    "/usr/lib/*/gconv/*",
    "/usr/lib/*/perl-base/unicore/*",
)

# Apptainer and HTCondor bind these; without privileges they cannot be made in a read-only image.
MOUNT_POINTS = ("proc", "sys", "dev", "tmp", "var/tmp", "srv", "home", "root", "run", "mnt", "opt", "cvmfs")

# HTCondor starts every container job with a run of the image's own test; an unpacked image needs one to answer.
ACTION_TEST = ".singularity.d/actions/test"
ACTION_TEST_SCRIPT = "#!/bin/sh\nexit 0\n"


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """All that decides what is in an image."""

    name: str
    suite: str
    packages: tuple[str, ...]
    not_unpacked: tuple[str, ...]
    mount_points: tuple[str, ...]
    action_test: str
    edition: int


DEBIAN12 = ImageRecipe("debian12", "bookworm", (), NOT_NEEDED, MOUNT_POINTS, ACTION_TEST_SCRIPT, 1)
DEBIAN13 = ImageRecipe("debian13", "trixie", (), NOT_NEEDED, MOUNT_POINTS, ACTION_TEST_SCRIPT, 1)
ALL = (DEBIAN12, DEBIAN13)


def ensure(recipes: tuple[ImageRecipe, ...] = ALL, root: Path | None = None) -> Path:
    """Return a directory with `NAME` (unpacked) and `NAME.sif` for every recipe, building it when it is absent.

    Raises CommandError when mmdebstrap or Apptainer fails.
    """
    return cache.build_once(
        root if root is not None else cache.directory(),
        "images",
        [asdict(recipe) for recipe in recipes],
        lambda target: _build_all(recipes, target, trees.ensure(root=root)),
    )


def _build_all(recipes: tuple[ImageRecipe, ...], target: Path, tree: Path) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda recipe: build_directory(recipe, target / recipe.name), recipes))
    _build_sifs([recipe.name for recipe in recipes], target, tree)


def build_directory(recipe: ImageRecipe, target: Path) -> None:
    """Make an unpacked image. Raises CommandError."""
    words = ["mmdebstrap", "--mode=root", "--variant=essential", "--format=directory", f"--keyring={KEYRING}"]
    words += [f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.not_unpacked]
    if recipe.packages:
        words.append(f"--include={','.join(recipe.packages)}")
    call([*words, recipe.suite, str(target), MIRROR], timeout_seconds=BUILD_TIMEOUT_SECONDS)
    for inside in recipe.mount_points:
        (target / inside).mkdir(parents=True, exist_ok=True)
    for name in ("resolv.conf", "hosts", "localtime"):
        (target / "etc" / name).touch()
    test = target / ACTION_TEST
    test.parent.mkdir(parents=True)
    test.write_text(recipe.action_test, encoding="ascii")
    test.chmod(0o755)


def _build_sifs(names: list[str], target: Path, tree: Path) -> None:
    """Let the tree's own Apptainer pack the directories."""
    network = Network()
    with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as scratch:
        plan = HostPlan("builder", "10.77.0.99", tree, "build.test", binds=(Bind(target, "/images", read_only=False),))
        host = Host(plan, Path(scratch) / "host", network)
        try:
            network.start()
            host.start()
            for name in names:
                _build_sif(host, name)
        finally:
            host.remove()
            network.stop()


def _build_sif(host: Host, name: str) -> None:
    words = ["apptainer", "build", f"/images/{name}.sif", f"/images/{name}"]
    done = host.run(words, timeout_seconds=BUILD_TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(words)}: exit status {done.returncode}\n{done.stderr.strip()}")
    os.chmod(host.path(f"/images/{name}.sif"), 0o644)
