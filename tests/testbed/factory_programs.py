"""PostgreSQL of Debian, and the Python packages of the factory that the node's tree has not, to be laid over it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.testbed import cache, trees
from tests.testbed.command import call

PACKAGES = (
    "postgresql-17",
    "postgresql-client-17",
    "python3-decorator",
    "python3-jinja2",
    "python3-jwt",
    "python3-prometheus-client",
)
LIBRARIES = ("libpq5", "libxml2", "libxslt1.1", "libicu76", "libllvm19", "libz3-4", "libnuma1", "libedit2")
"""What the server is linked with and the node's tree may not have."""
TAKEN = ("usr/lib/postgresql", "usr/share/postgresql", "usr/lib/python3/dist-packages")
EDITION = 1
PROGRAMS = "/usr/lib/postgresql/17/bin"


def ensure() -> Path:
    """A directory to be laid over the node's tree. Fetched unless the cache has it (half a minute).

    Raises CommandError when mmdebstrap fails.
    """
    recipe = {"packages": (*PACKAGES, *LIBRARIES), "suite": trees.NODE.suite, "edition": EDITION}
    return cache.build_once(cache.directory(), "factory-programs", recipe, _build)


def _build(target: Path) -> None:
    extracted = target / ".extracted"
    # The packages themselves depend on Perl and scripts that start a server of their own: they are fetched alone.
    fetch = f"apt-get -qq download {' '.join((*PACKAGES, *LIBRARIES))}"
    unpack = 'for each in ./*.deb; do dpkg-deb --extract "$each" own && rm "$each"; done'
    call(
        [
            "mmdebstrap", "--mode=root", "--variant=extract", "--format=directory", f"--keyring={trees.KEYRING}",
            "--aptopt=APT::Sandbox::User \"root\"", '--aptopt=Acquire::Check-Valid-Until "false"', "--include=netbase",
            f'--extract-hook=cd "$1" && mkdir own && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && {fetch} && {unpack}',
            trees.NODE.suite, str(extracted), f"deb {trees.MIRROR} {trees.NODE.suite} main",
        ],
        timeout_seconds=trees.BUILD_TIMEOUT_SECONDS,
    )  # fmt: skip
    taken = extracted / "own"
    libraries = [path.relative_to(taken) for path in taken.glob("usr/lib/*-linux-gnu/lib*.so.*")]
    for place in (*map(Path, TAKEN), *libraries):
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        (taken / place).rename(target / place)
    shutil.rmtree(extracted)
