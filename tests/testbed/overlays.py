"""Programs of Debian to be laid over a node's tree: what some packages add, without what else these want installed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import cache, trees
from tests.testbed.command import call


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is fetched, and of that what is taken: paths, the packages' libraries with them, and files under another
    name (from, to). ``libraries`` are the packages of those that the programs are linked with and the node's tree may
    not have."""

    name: str
    packages: tuple[str, ...]
    libraries: tuple[str, ...]
    taken: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()
    edition: int = 1

    def ensure(self) -> Path:
        """The directory to be laid over the tree. Fetched unless the cache has it (half a minute).

        Raises CommandError when mmdebstrap fails.
        """
        recipe = {"packages": (*self.packages, *self.libraries), "suite": trees.NODE.suite, "edition": self.edition}
        return cache.build_once(cache.directory(), self.name, recipe, self._build)

    def _build(self, target: Path) -> None:
        extracted = target / ".extracted"
        # The packages depend on Perl, cron, and scripts that start a server of their own: they are fetched alone.
        fetch = f"apt-get -qq download {' '.join((*self.packages, *self.libraries))}"
        unpack = 'for each in ./*.deb; do dpkg-deb --extract "$each" own && rm "$each"; done'
        hook = f'cd "$1" && mkdir own && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && {fetch} && {unpack}'
        call(
            [
                "mmdebstrap", "--mode=root", "--variant=extract", "--format=directory", f"--keyring={trees.KEYRING}",
                "--aptopt=APT::Sandbox::User \"root\"", '--aptopt=Acquire::Check-Valid-Until "false"',
                "--include=netbase", f"--extract-hook={hook}",
                trees.NODE.suite, str(extracted), f"deb {trees.MIRROR} {trees.NODE.suite} main",
            ],
            timeout_seconds=trees.BUILD_TIMEOUT_SECONDS,
        )  # fmt: skip
        own = extracted / "own"
        libraries = [str(path.relative_to(own)) for path in own.glob("usr/lib/*-linux-gnu/lib*.so.*")]
        for source, place in (*((one, one) for one in (*self.taken, *libraries)), *self.renamed):
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            (own / source).rename(target / place)
        shutil.rmtree(extracted)


SERVICES = Overlay(
    "service-programs",
    packages=("squid", "squid-common", "squid-langpack", "prometheus-node-exporter"),
    libraries=("libecap3", "libltdl7", "libtdb1"),
    taken=("usr/bin/prometheus-node-exporter", "usr/lib/squid", "usr/share/squid", "usr/share/squid-langpack"),
    renamed=(("usr/sbin/squid-gnutls", "usr/sbin/squid"),),  # the package's script makes this an alternative
)
"""squid and Prometheus' node exporter, for nodes that run services."""

FACTORY = Overlay(
    "factory-programs",
    packages=(
        "postgresql-17",
        "postgresql-client-17",
        "python3-decorator",
        "python3-jinja2",
        "python3-jwt",
        "python3-prometheus-client",
    ),
    libraries=("libpq5", "libxml2", "libxslt1.1", "libicu76", "libllvm19", "libz3-4", "libnuma1", "libedit2"),
    taken=("usr/lib/postgresql", "usr/share/postgresql", "usr/lib/python3/dist-packages"),
)
"""PostgreSQL, and the Python packages of the factory that the node's tree has not."""
POSTGRESQL = "/usr/lib/postgresql/17/bin"
