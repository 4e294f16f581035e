"""squid and Prometheus' node exporter of Debian, for nodes that run services: what their packages, without what else
these want to be installed, add to a node's tree."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.testbed import cache, trees
from tests.testbed.command import call

PACKAGES = ("squid", "squid-common", "squid-langpack", "prometheus-node-exporter")
LIBRARIES = ("libecap3", "libltdl7", "libtdb1")
"""What the programs are linked with and the node's tree has not."""
TAKEN = ("usr/bin/prometheus-node-exporter", "usr/lib/squid", "usr/share/squid", "usr/share/squid-langpack")
EDITION = 1


def ensure() -> Path:
    """A directory to be laid over the node's tree. Fetched unless the cache has it (half a minute).

    Raises CommandError when mmdebstrap fails.
    """
    recipe = {"packages": (*PACKAGES, *LIBRARIES), "suite": trees.NODE.suite, "edition": EDITION}
    return cache.build_once(cache.directory(), "service-programs", recipe, _build)


def _build(target: Path) -> None:
    extracted = target / ".extracted"
    # The packages themselves depend on Perl and cron: they are fetched alone.
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
    # The package's script makes this an alternative.
    (target / "usr/sbin").mkdir()
    (taken / "usr/sbin/squid-gnutls").rename(target / "usr/sbin/squid")
    shutil.rmtree(extracted)
