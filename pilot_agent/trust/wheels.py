"""A signed wheel becomes a directory of plugins: modules, packages and their ``dist-info``, nothing else, and bounded.

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

from pilot_agent.model import Failure, FailureKind, PilotError

MOST_MEMBERS = 5_000
MOST_BYTES = 256 << 20
CHUNK_BYTES = 1 << 20
LONGEST_NAME = 300
_NAME = re.compile(r"[A-Za-z0-9_.+\-/ ]+")
_DATA = re.compile(r"[^/]+\.data/")
"""What an installer would put elsewhere (scripts, headers): nothing that a plugin has."""


def unpack_wheel(path: str, directory: str) -> None:
    """Unpack the wheel at ``path`` to ``directory``, which must not exist and has its name once all is there.

    Raises ``PilotError``: artifact.content (corruption) for what is no wheel of plugins, disk.full (node).
    """
    making = f"{directory}.{os.urandom(4).hex()}"
    try:
        os.mkdir(making, 0o700)
        with zipfile.ZipFile(path) as archive:
            _unpack(archive, making)
        os.rename(making, directory)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _content(path, f"it cannot be read to its end ({error})") from error
    except _RefusedError as error:
        raise _content(path, str(error)) from error
    except OSError as error:
        raise _of_the_system(path, error) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


class _RefusedError(Exception):
    """Something in the archive that no wheel of plugins has."""


def _unpack(archive: zipfile.ZipFile, directory: str) -> None:
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise _RefusedError(f"it holds {len(members)} files, and {MOST_MEMBERS} are the most")
    if not any(member.filename.endswith(".dist-info/entry_points.txt") for member in members):
        raise _RefusedError("it has no entry_points.txt, and so no plugin")
    left = MOST_BYTES
    for member in members:
        _admit(member)
        target = os.path.join(directory, member.filename)
        if member.is_dir():
            os.makedirs(target, mode=0o755, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        left -= _write(archive, member, target, left)


def _admit(member: zipfile.ZipInfo) -> None:
    name = member.filename
    kind = stat.S_IFMT(member.external_attr >> 16)
    parts = name.rstrip("/").split("/")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _RefusedError(f"{name[:100]!r} in it is neither a file nor a directory")
    if not _NAME.fullmatch(name) or any(part in ("", ".", "..") for part in parts) or len(name) > LONGEST_NAME:
        raise _RefusedError(f"{name[:100]!r} in it is no name of a file of a plugin")
    if _DATA.match(name):
        raise _RefusedError(f"{name[:100]!r} in it would have to be installed elsewhere; a plugin has modules only")


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: str, most_bytes: int) -> int:
    """The bytes that were written: those that came, whatever the archive announces."""
    written = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    runs = bool(member.external_attr >> 16 & 0o100)
    with archive.open(member) as source, open(os.open(target, flags, 0o755 if runs else 0o644), "wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            written += len(chunk)
            if written > most_bytes:
                raise _RefusedError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
            file.write(chunk)
        os.fchmod(file.fileno(), 0o755 if runs else 0o644)
    return written


def _content(path: str, why: str) -> PilotError:
    message = f"{os.path.basename(path)} is refused: {why}"
    hint = "whoever signs the plugin builds it anew as a wheel, with an entry point of the group pilot_agent"
    return PilotError(Failure(FailureKind.CORRUPTION, "artifact.content", message, hint))


def _of_the_system(path: str, error: OSError) -> PilotError:
    message = f"{os.path.basename(path)} cannot be unpacked: {error.strerror}"
    if isinstance(error, FileExistsError):
        return _content(path, f"{os.path.basename(error.filename)} is in it twice")
    code = "disk.full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "artifact.unreadable"
    hint = "the site gives the pilot a scratch directory with space left"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, code, message, hint, retry=True))
