"""Builds a tarball of HTCondor for worker nodes that have none: `python packaging/build_condor.py --output DIR`.

Without --root, HTCondor's packages and all they need are fetched from Debian into a tree that is removed afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from condor_tarball.archive import complete, pack, tree_digest
from condor_tarball.contents import distribution_of, installed, version_of
from condor_tarball.libraries import architecture_of, glibc_of, relocated, with_libraries
from condor_tarball.listing import INDEX, Manifest, add_to_index, manifest_bytes, write
from payload.console import BuildError, run, step
from payload.debs import KEYRING, MIRROR

PROJECT = Path(__file__).resolve().parent.parent
SUITE = "trixie"
PACKAGES = ("condor", "base-files")
MMDEBSTRAP = "Fetching needs Debian's mmdebstrap and debian-archive-keyring, and the mirror; or give --root a tree."


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the tarball, its manifest and the index; 0, or 1 with a message when that was not possible."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, help="tree of a distribution with HTCondor installed (default: fetched)")
    parser.add_argument("--suite", default=SUITE, help="Debian's suite to fetch from, without --root (%(default)s)")
    parser.add_argument(
        "--os", metavar="NAME:VERSION", help="the distribution (default: as the tree's os-release says)"
    )
    parser.add_argument("--output", type=Path, default=PROJECT / "build/condor", help="directory for the files")
    parser.add_argument("--cache", type=Path, default=PROJECT / "build/cache", help="downloads of Python packages")
    options = parser.parse_args(arguments)
    try:
        with _tree(options.root, options.suite) as tree:
            build(tree, options.output, options.cache, distribution(options.os, tree))
    except (BuildError, OSError) as error:
        print(f"condor: {error}", file=sys.stderr)
        return 1
    return 0


def build(tree: Path, output: Path, cache: Path, system: tuple[str, str]) -> Manifest:
    """Write the tarball of the tree's HTCondor, its manifest and the index, and print their digests. BuildError."""
    with step("collect HTCondor and its libraries"):
        members = with_libraries(installed(tree), tree)
        version, architecture = version_of(members), architecture_of(members)
        members = relocated(members, cache)
    with step(f"pack HTCondor {version}"):
        data = pack(members)
    name = f"condor-{version}-{system[0]}{system[1]}-{architecture}"
    manifest = Manifest(
        version=version,
        os=system[0],
        os_version=system[1],
        architecture=architecture,
        glibc=glibc_of(members),
        file=f"{name}.tar.gz",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        unpacked_bytes=sum(len(member.content or b"") for member in members),
        members=len(complete(members)),
        tree_sha256=tree_digest(members),
    )
    write(output / manifest.file, data)
    write(output / f"{name}.json", manifest_bytes(manifest))
    index = add_to_index(output, manifest)
    print(f"{output / manifest.file}  {len(data) / 1e6:.2f} MB  sha256 {manifest.sha256}  glibc {manifest.glibc}")
    print(f"{output / INDEX}  sha256 {hashlib.sha256(index).hexdigest()}")
    return manifest


def distribution(named: str | None, tree: Path) -> tuple[str, str]:
    """Name and version of the distribution: as ``named`` (NAME:VERSION), else as the tree says. BuildError."""
    if named is None:
        return distribution_of(tree)
    name, _, version = named.partition(":")
    if not name.isalnum() or not version.replace(".", "").isalnum():
        raise BuildError(f"--os {named} is not of the form NAME:VERSION, for example debian:13")
    return name, version


@contextmanager
def _tree(root: Path | None, suite: str) -> Iterator[Path]:
    """The tree to take HTCondor from; one that is fetched lasts as long as the context."""
    if root is not None:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="condor-tarball-") as directory:
        tree = Path(directory) / "tree"
        command = ["mmdebstrap", "--variant=extract", "--format=directory", f"--keyring={KEYRING}"]
        # The list of a suite may be past its date on a mirror that stands still; its signature is checked all the same.
        command += ['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Check-Valid-Until "false"']
        command += [f"--include={','.join(PACKAGES)}", suite, str(tree), f"deb {MIRROR} {suite} main"]
        with step(f"fetch HTCondor from Debian {suite}"):
            run(command, MMDEBSTRAP)
        yield tree


if __name__ == "__main__":
    sys.exit(main())
