"""Makes and updates the CVMFS clients that pilots fetch: `python packaging/cvmfs_distributions.py --cvmfsexec DIR`.

Drives upstream's makedist for each source and platform, which downloads packages: this machine needs the internet,
curl, rpm2cpio and cpio. A platform that fails does not keep the others from being published.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from condor_tarball.archive import complete, pack, tree_digest
from condor_tarball.libraries import architecture_of, glibc_of
from condor_tarball.listing import INDEX, write
from cvmfs_distribution.contents import client_version, members_of, needed_of_the_node
from cvmfs_distribution.making import PLATFORMS, SOURCES, Platform, cvmfsexec_version, made, platform, require_checkout
from cvmfs_distribution.publishing import Distribution, add, alone, prune, require_taken
from payload.console import BuildError, step

PROJECT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the distributions and the index; 0, or 1 with a message for each that could not be made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cvmfsexec", type=Path, required=True, help="a checkout of cvmfsexec, with makedist")
    parser.add_argument("--output", type=Path, default=PROJECT / "build/cvmfs", help="the directory that is published")
    parser.add_argument(
        "--source", action="append", choices=SOURCES, help="whose configuration (default: osg, egi, default)"
    )
    parser.add_argument("--machine", action="append", metavar="TYPE", help="such as rhel9-x86_64 (default: all known)")
    parser.add_argument("--cvmfs-version", metavar="X.Y.Z", help="version of the client (default: the newest)")
    parser.add_argument("--keep", type=_positive, default=2, help="how many of one platform to list (%(default)s)")
    parser.add_argument(
        "--prune-days", type=float, metavar="DAYS", help="remove what only indexes list that were replaced so long ago"
    )
    parser.add_argument("--deadline-seconds", type=float, default=1800, help="for one makedist (%(default)s)")
    options = parser.parse_args(arguments)
    failed = 0
    try:
        require_checkout(options.cvmfsexec)
        for wanted in _wanted(options.source or ["osg", "egi", "default"], options.machine):
            try:
                publish(options, wanted)
            except (BuildError, OSError) as error:
                failed += 1
                print(f"cvmfs: {wanted.source} {wanted.machine_type}: {error}", file=sys.stderr)
        if options.prune_days is not None:
            with alone(options.output):
                for name in prune(options.output, options.prune_days):
                    print(f"removed {options.output / name}")
    except (BuildError, OSError) as error:
        print(f"cvmfs: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


def publish(options: argparse.Namespace, wanted: Platform) -> Distribution:
    """Make one distribution, put it beside the others and list it; its digests are printed. BuildError."""
    with (
        step(f"make {wanted.source} {wanted.machine_type}"),
        made(options.cvmfsexec, wanted, options.cvmfs_version, options.deadline_seconds) as directory,
    ):
        members, cvmfsexec = members_of(directory), cvmfsexec_version(directory)
    found = architecture_of(members)
    if found != wanted.architecture:
        raise BuildError(f"makedist was asked for {wanted.architecture}, and its programs are for {found}")
    version = options.cvmfs_version or client_version(members)
    data = pack(members)
    digest = hashlib.sha256(data).hexdigest()
    distribution = Distribution(
        version=version,
        os=wanted.os,
        os_version=wanted.os_version,
        architecture=wanted.architecture,
        glibc=glibc_of(members),
        file=f"cvmfs-{version}-{wanted.source}-{wanted.machine_type}-{digest[:12]}.tar.gz",
        size_bytes=len(data),
        sha256=digest,
        unpacked_bytes=sum(len(member.content or b"") for member in members),
        members=len(complete(members)),
        tree_sha256=tree_digest(members),
        source=wanted.source,
        machine_type=wanted.machine_type,
        cvmfsexec=cvmfsexec,
        needs=needed_of_the_node(members),
        made=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    require_taken(distribution)
    with alone(options.output):
        write(options.output / distribution.file, data)
        name, index_digest = add(options.output, distribution, options.keep)
    print(
        f"{options.output / distribution.file}  {len(data) / 1e6:.2f} MB  sha256 {digest}  glibc {distribution.glibc}"
    )
    print(f"{options.output / name} (and {INDEX})  sha256 {index_digest}")
    return distribution


def _wanted(sources: Sequence[str], machines: Sequence[str] | None) -> list[Platform]:
    return [platform(source, machine) for source in sources for machine in machines or PLATFORMS[source]]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
