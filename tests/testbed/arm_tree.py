"""A Debian tree for aarch64, and how its programs run on x86_64: through Debian's qemu-user."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.testbed import cache, trees
from tests.testbed.bare_nodes import BareNode
from tests.testbed.command import call

EMULATOR = "qemu-aarch64-static"
INSIDE = f"/usr/bin/{EMULATOR}"
PACKAGES = ("python3.13-minimal", "libpython3.13-stdlib")
PYTHON = "/usr/bin/python3.13"


def ensure() -> Path:
    """The tree, unpacked and not configured: for that its own programs would have to run."""
    recipe = {"packages": PACKAGES, "suite": "trixie", "edition": 2}
    return cache.build_once(cache.directory(), "tree-debian13-arm64", recipe, _build)


def _build(target: Path) -> None:
    words = ["mmdebstrap", "--mode=root", "--variant=extract", "--architectures=arm64", "--format=directory"]
    words += [f"--keyring={trees.KEYRING}", f"--include={','.join(PACKAGES)}", "trixie", str(target)]
    call([*words, f"deb {trees.MIRROR} trixie main"], timeout_seconds=trees.BUILD_TIMEOUT_SECONDS)
    _compile(target / "usr/lib/python3.13")
    # What the package base-files would have.
    for name in ("bin", "lib", "sbin"):
        (target / name).symlink_to(f"usr/{name}")
    for name in ("home/pilot", "var/tmp"):
        (target / name).mkdir(parents=True)
        (target / name).chmod(0o1777)


def _compile(library: Path) -> None:
    """Write the byte code that the package's own script would, by the same Python for this machine: compiled at each
    start, under the emulator, it would take half a minute."""
    own = trees.ensure()
    loader = [str(own / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", str(own / "usr/lib/x86_64-linux-gnu")]
    words = [*loader, str(own / "usr/bin/python3.13"), "-s", "-S", "-m", "compileall", "-q"]
    options = ["--invalidation-mode=unchecked-hash", str(library)]
    call(["env", f"PYTHONHOME={own}/usr", *words, *options], timeout_seconds=trees.BUILD_TIMEOUT_SECONDS)


def node(tree: Path, directory: Path, payload: Path) -> BareNode:
    """A node that runs programs for aarch64, with these payloads in /srv/payload. Raises FileNotFoundError where the
    emulator is not installed."""
    found = shutil.which(EMULATOR)
    if found is None:
        raise FileNotFoundError(f"{EMULATOR}: run apt-get install qemu-user-static")
    made = BareNode(tree, directory, ((payload, "/srv/payload"),), emulator=INSIDE)
    made.write(INSIDE, Path(found).read_bytes(), 0o755)
    return made
