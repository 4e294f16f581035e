"""A signed ZIP archive becomes a directory: files and directories below it, nothing else, and bounded.

That it was signed says who made it, not that it was made well: an archive that would leave its directory, or grow
beyond all bounds, is refused whoever signed it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilot_agent.model import Failure, FailureKind, PilotError

CHUNK_BYTES = 1 << 20
LONGEST_NAME = 300
_NAME = re.compile(r"[A-Za-z0-9_.+\-/ ]+")
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What every Python has. The others are not on each node, and give out far more at a time than was read."""


class RefusedError(Exception):
    """Something in an archive that its kind does not have."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One kind of archives: ``whole`` is what it holds, in words; ``hint`` says how to make it well. ``admit`` is given
    the members' names and raises ``RefusedError`` for what this kind does not have."""

    whole: str
    hint: str
    most_members: int
    most_bytes: int
    admit: Callable[[Sequence[str]], None]


def unpack_zip(path: str, directory: str, kind: Archive) -> None:
    """Unpack the archive at ``path`` to ``directory``, which must not exist and has its name once all is there.

    Raises ``PilotError``: artifact.content (corruption) for what is none of this kind, disk.full (node).
    """
    making = f"{directory}.{os.urandom(4).hex()}"
    try:
        os.mkdir(making, 0o700)
        with zipfile.ZipFile(path) as archive:
            _unpack(archive, making, kind)
        os.rename(making, directory)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _content(path, f"it cannot be read to its end ({error})", kind) from error
    except RefusedError as error:
        raise _content(path, str(error), kind) from error
    except OSError as error:
        raise _of_the_system(path, error, kind) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _unpack(archive: zipfile.ZipFile, directory: str, kind: Archive) -> None:
    members = archive.infolist()
    if len(members) > kind.most_members:
        raise RefusedError(f"it holds {len(members)} files, and {kind.most_members} are the most")
    kind.admit([member.filename for member in members])
    for member in members:
        _admit(member, kind)
    # Before a byte is written; of no member zipfile gives more than was announced.
    if sum(member.file_size for member in members) > kind.most_bytes:
        raise RefusedError(f"it unpacks to more than {kind.most_bytes >> 20} MiB")
    for member in members:
        target = os.path.join(directory, member.filename)
        if member.is_dir():
            os.makedirs(target, mode=0o755, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        _write(archive, member, target)


def _admit(member: zipfile.ZipInfo, kind: Archive) -> None:
    name = member.filename
    sort = stat.S_IFMT(member.external_attr >> 16)
    parts = name.rstrip("/").split("/")
    if sort not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusedError(f"{name[:100]!r} in it is neither a file nor a directory")
    if not _NAME.fullmatch(name) or any(part in ("", ".", "..") for part in parts) or len(name) > LONGEST_NAME:
        raise RefusedError(f"{name[:100]!r} in it is no name of a file of {kind.whole}")
    if member.compress_type not in _PACKED:
        raise RefusedError(f"{name[:100]!r} in it is neither stored nor deflated")


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    runs = bool(member.external_attr >> 16 & 0o100)
    with archive.open(member) as source, open(os.open(target, flags, 0o755 if runs else 0o644), "wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            file.write(chunk)
        os.fchmod(file.fileno(), 0o755 if runs else 0o644)


def _content(path: str, why: str, kind: Archive) -> PilotError:
    message = f"{os.path.basename(path)} is refused: {why}"
    return PilotError(Failure(FailureKind.CORRUPTION, "artifact.content", message, kind.hint))


def _of_the_system(path: str, error: OSError, kind: Archive) -> PilotError:
    message = f"{os.path.basename(path)} cannot be unpacked: {error.strerror}"
    if isinstance(error, FileExistsError):
        return _content(path, f"{os.path.basename(error.filename)} is in it twice", kind)
    code = "disk.full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "artifact.unreadable"
    hint = "the site gives the pilot a scratch directory with space left"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, code, message, hint, retry=True))
