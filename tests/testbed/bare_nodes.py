"""Nodes without any service, of several ages: a tree, and programs that run in it one at a time as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.testbed import trees
from tests.testbed.namespaces import NEW_HOST

INIT = Path(__file__).with_name("bare_node_init.py")
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
TIMEOUT_SECONDS = 300.0
BUSYBOX = "/bin/busybox"


def debian(number: int, suite: str) -> trees.TreeRecipe:
    """A release of Debian with the Python it had, and nothing that a pilot uses."""
    return replace(
        trees.NODE,
        name=f"tree-debian{number}",
        suite=suite,
        sources=(f"deb {trees.MIRROR} {suite} main",),
        preferences="",
        packages=("python3",),
    )


DEBIAN_11 = debian(11, "bullseye")
DEBIAN_12 = debian(12, "bookworm")
PASSWD = "root:x:0:0:root:/root:/bin/sh\npilot:x:{uid}:{uid}:of the pilots:/home/pilot:/bin/sh\n"


def busybox_tree(target: Path) -> Path:
    """Make a tree of one static program under all its names: no C library, no package manager, no Python."""
    for name in ("bin", "etc", "home/pilot"):
        (target / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, target / "bin/busybox")
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    for name in listed.stdout.split():
        if name != "busybox":
            (target / "bin" / name).symlink_to("busybox")
    (target / "etc/passwd").write_text(PASSWD.format(uid=trees.PILOT.uid))
    (target / "etc/group").write_text(f"root:x:0:\npilot:x:{trees.PILOT.uid}:\n")
    (target / "var/tmp").mkdir(parents=True)
    (target / "var/tmp").chmod(0o1777)
    return target


@dataclass(frozen=True)
class BareNode:
    """One node. `directory` is its disk: what programs leave there stays for the next. `emulator` is a program on it
    that runs those for aarch64."""

    tree: Path
    directory: Path
    binds: tuple[tuple[Path, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    emulator: str = ""

    def __post_init__(self) -> None:
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)

    def path(self, inside: str) -> Path:
        """Where the node's own copy of a file lies while nothing runs there; the directories above are made."""
        path = self.directory / "upper" / inside.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, inside: str, content: str | bytes, mode: int = 0o644) -> None:
        """Put a file there."""
        path = self.path(inside)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)

    def hide(self, patterns: Sequence[str]) -> None:
        """Take away what matches these patterns, relative to the tree."""
        for pattern in patterns:
            for victim in self.tree.glob(pattern):
                place = self.path(f"/{victim.relative_to(self.tree)}")
                if not place.exists():
                    os.mknod(place, stat.S_IFCHR, 0)  # overlayfs's sign for "deleted"

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        uid: int = trees.PILOT.uid,
        directory: str = "/tmp",
        devices: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a program (its absolute path) to its end, with no network but the loopback; `devices` are names in
        /dev that only have to be there."""
        disk = {name: str(self.directory / name) for name in ("upper", "work", "root")}
        given = {
            **disk,
            "lower": str(self.tree),
            "binds": [(str(outer), inside) for outer, inside in self.binds],
            "uid": uid,
            "directory": directory,
            "emulator": self.emulator,
            "devices": list(devices),
            "environment": {"PATH": SEARCH_PATH, **self.environment, **(environment or {})},
            "command": list(command),
        }
        words = [*NEW_HOST, sys.executable, "-I", "-S", str(INIT), json.dumps(given)]
        return subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, stdin=subprocess.DEVNULL)
