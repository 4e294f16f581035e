"""mpiexec of Debian's MPICH, without the rest of that package's 300 MB: the launcher, its proxy and their libraries."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.testbed import cache
from tests.testbed.command import call
from tests.testbed.hosts import Host
from tests.testbed.trees import BUILD_TIMEOUT_SECONDS, KEYRING, MIRROR

INSTALLED = "/opt/mpi"
SUITE = "trixie"
PROGRAMS = ("mpiexec.hydra", "hydra_pmi_proxy")
LIBRARIES = ("libhwloc15", "libslurm42t64")
"""Packages with what the programs are linked with beyond the C library."""


def install(host: Host) -> str:
    """Put it on a host; the path of mpiexec there."""
    files = _ensure()
    target = host.path(INSTALLED)
    target.mkdir()
    for name in PROGRAMS:
        shutil.copy2(files / "usr" / "bin" / name, target / name)
    shutil.copytree(files / "usr" / "lib" / "x86_64-linux-gnu", target / "lib", symlinks=True)
    return f"{INSTALLED}/{PROGRAMS[0]}"


def remove(host: Host) -> None:
    """Take it from the host again."""
    shutil.rmtree(host.path(INSTALLED))


def environment() -> dict[str, str]:
    """What mpiexec needs to find its libraries."""
    return {"LD_LIBRARY_PATH": f"{INSTALLED}/lib:{INSTALLED}/lib/slurm-wlm"}


def _ensure() -> Path:
    """The unpacked files, fetched (12 MB, most of it the list of packages) unless the cache has them. Raises
    CommandError."""
    recipe = {"suite": SUITE, "programs": PROGRAMS, "libraries": LIBRARIES, "edition": 2}
    return cache.build_once(cache.directory(), "mpich", recipe, _build)


def _build(target: Path) -> None:
    # mpich itself depends on compilers: it is fetched alone, and so are its libraries.
    fetch = f"apt-get -qq download mpich {' '.join(LIBRARIES)}"
    unpack = 'for each in ./*.deb; do dpkg-deb --extract "$each" . && rm "$each"; done'
    call(
        [
            "mmdebstrap", "--mode=root", "--variant=extract", "--format=directory", f"--keyring={KEYRING}",
            "--aptopt=APT::Sandbox::User \"root\"", "--include=netbase",
            f'--extract-hook=cd "$1" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && {fetch} && {unpack}',
            SUITE, str(target), f"deb {MIRROR} {SUITE} main",
        ],
        timeout_seconds=BUILD_TIMEOUT_SECONDS,
    )  # fmt: skip
