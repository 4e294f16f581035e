"""A checkout of cvmfsexec whose makedist downloads nothing: a stand-in with the documented command line, files and exit
codes of upstream's (makedist [-s] [-v X.Y.Z] [-m machinetype] {osg|egi|default|none}; 1: unsupported platform or failed
download, 2: usage or missing tool), which takes its packages from a directory.
"""

from __future__ import annotations

from pathlib import Path

from tests.cvmfs.distributions import write

MAKEDIST = r"""#!/bin/bash
HERE="$(cd "$(dirname "$0")" && pwd)"
DIST="$HERE/dist"
usage() { echo "Usage: makedist [-s] [-v X.Y.Z] [-m machinetype] {osg|egi|default|none}" >&2; exit 2; }
while getopts "sv:m:" option; do
    case $option in
        s) ;;
        v) VERSION=$OPTARG ;;
        m) MACHINE=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 1 ] || usage
case $1 in osg|egi|default|none) ;; *) usage ;; esac
[ ! -e "$DIST" ] || { echo "$DIST already exists" >&2; exit 1; }
[ ! -e "$HERE/no-rpm2cpio" ] || { echo "Missing command rpm2cpio" >&2; exit 2; }
[ -d "$HERE/packages/$MACHINE" ] || { echo "Unsupported machine type $MACHINE" >&2; exit 1; }
mkdir -p "$DIST/etc/cvmfs"
[ ! -e "$HERE/packages/$MACHINE/slow" ] || sleep 600
if [ -e "$HERE/packages/$MACHINE/broken" ]; then
    echo "curl: (22) The requested URL returned error: 404" >&2
    exit 1
fi
cp -a "$HERE/packages/$MACHINE/." "$DIST"
[ "$1" = none ] || mkdir -p "$DIST/etc/cvmfs/default.d"
[ "$1" = none ] || echo "CVMFS_CONFIG_REPOSITORY=config-$1.example.org" > "$DIST/etc/cvmfs/default.d/60-$1.conf"
[ -z "$VERSION" ] || echo "$VERSION" > "$DIST/asked-version"
mkdir -p "$DIST/var/run/cvmfs" "$DIST/var/lib/cvmfs" "$DIST/cvmfs"
printf 'disttype: standard\nmachtype: %s\n' "$MACHINE" > "$DIST/.cvmfsexecdist"
"""


def checkout(directory: Path) -> Path:
    """The checkout; packages of a machine type are put into it with ``package``."""
    write(directory / "makedist", MAKEDIST, mode=0o755)
    write(directory / "cvmfsexec", '#!/bin/sh\n[ "$1" = -v ] && echo "cvmfsexec version 4.51"\n', mode=0o755)
    for name in ("mountrepo", "umountrepo"):
        write(directory / name, "#!/bin/sh\n", mode=0o755)
    return directory


def package(directory: Path, machine_type: str, client: bytes, library: bytes, version: str = "2.12.0") -> Path:
    """Put a client's packages for a machine type into a checkout; where they are."""
    place = directory / "packages" / machine_type
    for name, content in (("bin/cvmfs2", client), (f"lib64/libcvmfs_fuse3.so.{version}", library)):
        path = place / "usr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    (place / "usr/lib64/libcvmfs_fuse3.so").symlink_to(f"libcvmfs_fuse3.so.{version}")
    return place
