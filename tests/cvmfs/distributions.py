"""Small distributions of cvmfsexec, whose commands are scripts that mount in the tests' own namespaces."""

from __future__ import annotations

import os
from pathlib import Path

CONFIGURATION = "config.example.org"
MOUNTS = """#!/bin/sh
# A repository is a tmpfs with a file; what the test says of one is in the file of its name in the directory "told".
here=$(cd "$(dirname "$0")" && pwd)
echo "$1" >> "$here/asked"
point=$here/dist/cvmfs/$1
mkdir -p "$point"
[ ! -e "$here/told/$1" ] || . "$here/told/$1"
mount -t tmpfs "$1" "$point" && echo "this is $1" > "$point/new_repository"
"""
UNMOUNTS = """#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
[ "$1" != -z ] || { lazy=-l; shift; }
umount $lazy "$here/dist/cvmfs/$1"
rmdir "$here/dist/cvmfs/$1"
"""


def write(path: Path, text: str = "", *, mode: int = 0o644) -> Path:
    """A file of this text, with the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def make(directory: Path, *, configuration: str = CONFIGURATION) -> Path:
    """A distribution in ``directory``, with a configuration repository unless that is empty."""
    write(directory / "mountrepo", MOUNTS, mode=0o755)
    write(directory / "umountrepo", UNMOUNTS, mode=0o755)
    write(directory / "dist/usr/bin/cvmfs2", "#!/bin/sh\n", mode=0o755)
    write(directory / "dist/usr/lib/libcvmfs_fuse3_stub.so.2.12.0", "code")
    os.symlink("libcvmfs_fuse3_stub.so.2.12.0", directory / "dist/usr/lib/libcvmfs_fuse3_stub.so")
    write(directory / "dist/.cvmfsexecdist", "disttype: standard\nmachtype: rhel9-x86_64\n")
    write(directory / "dist/etc/cvmfs/default.conf", "CVMFS_CACHE_BASE=/var/lib/cvmfs\n")
    if configuration:
        write(directory / "dist/etc/cvmfs/default.d/60-example.conf", f"CVMFS_CONFIG_REPOSITORY={configuration}\n")
    return directory


def tell(distribution: Path, repository: str, script: str) -> None:
    """Let its mountrepo run this before it mounts the repository."""
    write(distribution / "told" / repository, script)
