"""The tarball: the same bits from the same files, and a digest of what it unpacks to.

The tree's digest is that of one line for each member, sorted by name: ``d NAME`` for a directory, and for a file
``x SHA256 NAME`` when it may be run, else ``f SHA256 NAME``. The pilot computes the same of what it unpacked
(``pilot_agent.tarballs.unpacking``).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import PurePosixPath

from condor_tarball.contents import Member

DATE = 315532800  # 1980-01-01, as in the payload
LEVEL = 6


def pack(members: Sequence[Member]) -> bytes:
    """A tar file compressed with gzip, which every Python reads; names sorted, owners, modes and times fixed."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in complete(members):
            entry = tarfile.TarInfo(member.name)
            entry.mtime = DATE
            entry.mode = 0o755 if member.executable else 0o644
            if member.content is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            else:
                entry.size = len(member.content)
                archive.addfile(entry, io.BytesIO(member.content))
    return gzip.compress(output.getvalue(), LEVEL, mtime=0)


def complete(members: Sequence[Member]) -> list[Member]:
    """The members with all directories above them, sorted by name."""
    found = {member.name: member for member in members}
    for member in members:
        for parent in PurePosixPath(member.name).parents:
            if str(parent) != ".":
                found.setdefault(str(parent), Member(str(parent), None, executable=True))
    return [found[name] for name in sorted(found)]


def tree_digest(members: Sequence[Member]) -> str:
    """The digest, 64 hexadecimal digits, of what the tarball unpacks to."""
    lines = []
    for member in complete(members):
        if member.content is None:
            lines.append(f"d {member.name}\n")
        else:
            kind = "x" if member.executable else "f"
            lines.append(f"{kind} {hashlib.sha256(member.content).hexdigest()} {member.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
