"""What the outer machine must have for the testbed, found out by trying and not by guessing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.trees import KEYRING

SKIP_VARIABLE = "PILOT_TEST_SKIP"
TRIAL_TIMEOUT_SECONDS = 60.0

PROGRAMS = {
    "mmdebstrap": ("mmdebstrap", "builds the Debian trees and images"),
    "ip": ("iproute2", "joins the hosts by a bridge"),
    "unshare": ("util-linux", "makes the hosts' namespaces"),
    "nsenter": ("util-linux", "enters the hosts"),
    "setpriv": ("util-linux", "ends the hosts with their starter"),
    "mount": ("mount", "mounts the hosts' file systems"),
    "useradd": ("passwd", "makes the trees' accounts"),
}

OVERLAY_TRIAL = (
    "set -e; mount -t tmpfs trial /mnt; cd /mnt; mkdir lower upper work root; "
    "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root"
)


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that the outer machine lacks. `name` is what `PILOT_TEST_SKIP` may list."""

    name: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}; {self.remedy}"


class PrerequisiteError(RuntimeError):
    """The outer machine cannot hold the testbed."""

    def __init__(self, missing: Sequence[Missing]) -> None:
        lines = "\n".join(f"  {item}" for item in missing)
        super().__init__(f"the testbed cannot run on this machine, {len(missing)} missing:\n{lines}")
        self.missing = tuple(missing)


def skipped(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return the names of prerequisites without which the caller wants tests skipped and not failed."""
    return frozenset(name.strip() for name in environment.get(SKIP_VARIABLE, "").split(",") if name.strip())


def missing() -> list[Missing]:
    """Return everything that is missing, in the order in which one would put it right."""
    if os.geteuid() != 0:
        return [Missing("root", "hosts are made of namespaces and mounts", "run as root")]
    found = [
        Missing(name, f"it {purpose}", f"run apt-get install {package}")
        for name, (package, purpose) in PROGRAMS.items()
        if shutil.which(name) is None
    ]
    if not Path(KEYRING).exists():
        remedy = "run apt-get install debian-archive-keyring"
        found.append(Missing("debian-archive-keyring", f"packages are checked with {KEYRING}", remedy))
    return found or _missing_in_kernel()


def require() -> None:
    """Raise PrerequisiteError, naming all that is missing, unless nothing is."""
    found = missing()
    if found:
        raise PrerequisiteError(found)


def _missing_in_kernel() -> list[Missing]:
    spaces = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net"]
    trials = (
        ("namespaces", [*spaces, "true"], "a host has its own", "run where root may make namespaces"),
        ("overlayfs", ["unshare", "--mount", "sh", "-c", OVERLAY_TRIAL], "hosts share one tree", "modprobe overlay"),
        ("veth", _link("type", "veth"), "hosts are joined by them", "modprobe veth"),
        ("bridge", _link("type", "bridge"), "hosts are joined by one", "modprobe bridge"),
        (
            "user-namespaces",
            _ordinary("--user", "--map-root-user"),
            "Apptainer runs in one",
            "raise user.max_user_namespaces",
        ),
    )
    found = [Missing(name, why, remedy) for name, argv, why, remedy in trials if not _works(argv)]
    if not any(line.split()[-1] == "fuse" for line in Path("/proc/filesystems").read_text().splitlines()):
        found.append(Missing("fuse", "Apptainer mounts SIF images with it", "modprobe fuse"))
    return found


def _link(*words: str) -> list[str]:
    return ["unshare", "--net", "ip", "link", "add", "trial", *words]


def _ordinary(*words: str) -> list[str]:
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", *words, "true"]


def _works(argv: Sequence[str]) -> bool:
    try:
        done = subprocess.run(list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_TIMEOUT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
