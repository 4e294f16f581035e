"""Upstream's makedist run for one platform, in a directory of its own: a half-made `dist` is never packed, and the one
that lies in the operator's checkout is neither used nor in the way (makedist refuses to start where one exists).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from payload.console import BuildError

MACHINE = re.compile(r"([a-z]+)(\d+)-([a-z0-9_]+)")
SOURCES = ("osg", "egi", "default", "none")
# What makedist of cvmfsexec 4.51 has packages for; it refuses the rest itself, so a newer one may be asked for more.
PLATFORMS: dict[str, tuple[str, ...]] = {
    "osg": ("rhel8-x86_64", "rhel9-x86_64", "rhel8-aarch64", "rhel9-aarch64", "rhel10-x86_64"),
    "egi": ("rhel9-x86_64", "suse15-x86_64"),
    "default": (
        *("rhel8-x86_64", "rhel9-x86_64", "rhel10-x86_64", "rhel8-aarch64", "rhel9-aarch64"),
        *("suse15-x86_64", "suse15-aarch64"),
    ),
    "none": ("rhel8-x86_64", "rhel9-x86_64"),
}
NEEDED = ("cvmfsexec", "mountrepo", "umountrepo")
LEFT = ("dist", "log", "mnt", ".git")
_VERSION = re.compile(r"\d+(\.\d+)+")
_CODES = {
    1: "it has no packages for this platform and source, or a download failed",
    2: "its command line is wrong, or it needs curl, rpm2cpio and cpio on this machine",
}


@dataclass(frozen=True, slots=True)
class Platform:
    """``source`` and ``machine_type`` as makedist names them; the others are parts of the latter."""

    source: str
    machine_type: str
    os: str
    os_version: str
    architecture: str


def platform(source: str, machine_type: str) -> Platform:
    """The platform of two words of the command line. BuildError for a machine type of another form."""
    match = MACHINE.fullmatch(machine_type)
    if match is None:
        raise BuildError(f"{machine_type} is no machine type of makedist, such as rhel9-x86_64")
    return Platform(source, machine_type, *match.groups())


def require_checkout(checkout: Path) -> None:
    """BuildError where the directory is no checkout of cvmfsexec."""
    missing = [name for name in (*NEEDED, "makedist") if not (checkout / name).is_file()]
    if missing:
        hint = "give --cvmfsexec a checkout of https://github.com/cvmfs/cvmfsexec"
        raise BuildError(f"{checkout} has no {', '.join(missing)}; {hint}")


@contextmanager
def made(checkout: Path, wanted: Platform, version: str | None, deadline_seconds: float) -> Iterator[Path]:
    """The directory with a fresh distribution, as long as the context lasts. BuildError with makedist's own words."""
    with TemporaryDirectory(prefix="cvmfs-distribution-") as directory:
        place = Path(directory) / "cvmfsexec"
        shutil.copytree(checkout, place, symlinks=True, ignore=_left)
        words = [str(place / "makedist"), "-m", wanted.machine_type]
        _run([*words, *(["-v", version] if version else []), wanted.source], place, deadline_seconds)
        _require_complete(place, wanted)
        yield place


def cvmfsexec_version(directory: Path) -> str:
    """What its cvmfsexec says of its version; empty where it says none."""
    command = [str(directory / "cvmfsexec"), "-v"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = _VERSION.search(done.stdout)
    return match[0] if match else ""


def _left(directory: str, names: list[str]) -> list[str]:
    """What a checkout's own runs left, which is at its top only."""
    return [name for name in names if name in LEFT and Path(directory, "makedist").exists()]


def _run(command: list[str], place: Path, deadline_seconds: float) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_seconds,
            check=False,
            cwd=place,
        )
    except OSError as error:
        raise BuildError(f"makedist cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        message = f"makedist did not end within {deadline_seconds:g} s; look at the way to its servers"
        raise BuildError(f"{message}, or give --deadline-seconds more") from error
    if done.returncode != 0:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        meaning = _CODES.get(done.returncode, "it broke off")
        raise BuildError(f"{' '.join(['makedist', *command[1:]])} ended with {done.returncode} ({meaning}):\n{said}")


def _require_complete(place: Path, wanted: Platform) -> None:
    """Refuse what makedist left half made, whatever it returned, and what it made of another kind."""
    dist = place / "dist"
    missing = [] if (dist / "usr/bin/cvmfs2").is_file() else ["usr/bin/cvmfs2"]
    if not any(dist.glob("usr/lib*/libcvmfs_fuse*.so")):
        missing.append("usr/lib64/libcvmfs_fuse*.so")
    if wanted.source != "none" and not any(dist.glob("etc/cvmfs/default.d/*.conf")):
        missing.append("etc/cvmfs/default.d/*.conf")
    if missing:
        raise BuildError(f"makedist returned 0 and left dist without {', '.join(missing)}: it was not all downloaded")
    try:
        told = (dist / ".cvmfsexecdist").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    if "disttype: sing" in told:
        raise BuildError("makedist made a distribution for singcvmfs, which cannot be mounted outside of a container")
    found = re.search(r"^machtype: (\S+)", told, re.MULTILINE)
    if found is not None and found[1] != wanted.machine_type:
        raise BuildError(f"makedist was asked for {wanted.machine_type} and made {found[1]}")
