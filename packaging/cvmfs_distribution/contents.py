"""What of a distribution is packed: its commands and `dist` without what runs leave, as plain files and directories.

A link becomes a copy of what it leads to inside `dist`, where an absolute one begins; so nothing that is unpacked leads
anywhere. Owners, times, and the bits of setuid programs are lost with it (condor_tarball.archive).
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from condor_tarball.contents import Member, resolved
from condor_tarball.elf import MAGIC, read_elf
from condor_tarball.libraries import C_LIBRARY
from payload.console import BuildError

COMMANDS = ("cvmfsexec", "mountrepo", "umountrepo")
EMPTIED = ("dist/var/lib", "dist/var/run", "dist/cvmfs")
"""Cache, sockets and mount points: the directories that the client needs in them, and nothing else."""
WANTED = ("dist/var/lib/cvmfs", "dist/var/run/cvmfs", "dist/cvmfs")
MOST_MEMBERS = 20_000
DEEPEST = 40

_LIBRARY = re.compile(r"libcvmfs_fuse3?(?:_stub)?\.so\.(\d+(?:\.\d+)+)")


def members_of(directory: Path) -> list[Member]:
    """The members, sorted by name. BuildError for a file of another kind, and for a link in a circle."""
    found = {name: Member(name, (directory / name).read_bytes(), executable=True) for name in COMMANDS}
    found |= {name: Member(name, None, executable=True) for name in WANTED}
    for member in _below(directory / "dist", directory / "dist", "dist", 0):
        found.setdefault(member.name, member)
        if len(found) > MOST_MEMBERS:
            raise BuildError(f"{directory / 'dist'} holds more than {MOST_MEMBERS} files")
    return [found[name] for name in sorted(found)]


def client_version(members: Iterable[Member]) -> str:
    """The client's version, as its libraries are named. BuildError where none tells it."""
    found = {match[1] for member in members if (match := _LIBRARY.fullmatch(member.name.rpartition("/")[2]))}
    if len(found) != 1:
        told = ", ".join(sorted(found)) or "no library libcvmfs_fuse*.so.X.Y.Z"
        raise BuildError(f"one version of the client is needed, and there is {told}; give --cvmfs-version")
    return found.pop()


def needed_of_the_node(members: Iterable[Member]) -> tuple[str, ...]:
    """The libraries beside the C library that its programs load and that it does not bring along."""
    needed, brought = set(), set()
    for member in members:
        elf = read_elf(member.content, member.name) if member.content is not None else None
        if elf is not None:
            needed |= set(elf.needed)
            brought |= {elf.soname, member.name.rpartition("/")[2]}
    return tuple(sorted(name for name in needed - brought if not C_LIBRARY.fullmatch(name)))


def _below(dist: Path, directory: Path, name: str, depth: int) -> Iterator[Member]:
    if depth > DEEPEST:
        raise BuildError(f"{directory} lies deeper than {DEEPEST} directories: a link leads in a circle")
    yield Member(name, None, executable=True)
    if name in EMPTIED:
        return
    for inner in sorted(directory.iterdir()):
        inside = f"{name}/{inner.name}"
        path = resolved(dist, str(inner.relative_to(dist))) if inner.is_symlink() else inner
        if path is None:
            print(f"cvmfs: {inside} leads out of the distribution, and is left out")
            continue
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            yield from _below(dist, path, inside, depth + 1)
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
            library = content.startswith(MAGIC) and ".so" in inner.name
            yield Member(inside, content, executable=bool(status.st_mode & 0o111) and not library)
        else:
            raise BuildError(f"{inside} is neither a file, a directory nor a link")
