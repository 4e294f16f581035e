"""One directory tried as a place for a workspace: looked at, a file really written to disk there, and really run.

This only tells what happened; what follows from it is decided elsewhere, so that a recorded trial can be judged again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from pilot_agent.probes.disk.nameless import make_nameless
from pilot_agent.probes.disk.quota import Quota, has_quota, read_quotas
from pilot_agent.probes.kernel.namespaces import errno_name
from pilot_agent.probes.mountinfo import Mount, mount_of
from pilot_agent.process import run
from pilot_agent.trust.local import replaceable_by_others

PROGRAM_SECONDS = 3.0
_BLOCK = b"\0" * 65536
# A program and no shell: the file itself must be executed, and this interpreter only ends.
_PROGRAM = b"#!/bin/true\n"


@dataclass(frozen=True, slots=True)
class DirectoryTrial:
    """What happened. Problems are errno names, empty when it worked.

    ``real`` is the directory with its links resolved. ``look`` why it could not be looked at, ``make`` why no file
    could be made there, ``write`` why nothing could be written to it, ``execute`` why it could not be run (``noexec``
    for a mount that forbids it). ``replaceable`` says who could put something else in its place. Inodes are None where
    the file system makes them as needed.
    """

    real: str = ""
    look: str = ""
    directory: bool = False
    free_bytes: int | None = None
    total_bytes: int | None = None
    free_inodes: int | None = None
    make: str = ""
    write: str = ""
    execute: str = ""
    replaceable: str = ""
    quotas: tuple[Quota, ...] = ()


def try_directory(directory: str, mounts: Sequence[Mount], *, run_program: bool = True) -> DirectoryTrial:
    """Try a directory; ``mounts`` are the node's. With ``run_program`` the file is executed, without, the kernel is
    only asked whether it would be. Nothing stays behind, even if this process is killed.
    """
    try:
        real = os.path.realpath(directory)
        is_directory = stat.S_ISDIR(os.stat(real).st_mode)
        status = os.statvfs(real)
    except OSError as error:
        return DirectoryTrial(look=errno_name(error.errno))
    if not is_directory:
        return DirectoryTrial(real)
    make, write, execute = _try_file(real, run_program)
    return DirectoryTrial(
        real,
        directory=True,
        free_bytes=status.f_bavail * status.f_frsize,
        total_bytes=status.f_blocks * status.f_frsize,
        free_inodes=status.f_favail if status.f_files else None,
        make=make,
        write=write,
        execute=execute,
        replaceable=replaceable_by_others(directory),
        quotas=_quotas(real, mounts),
    )


def _try_file(directory: str, run_program: bool) -> tuple[str, str, str]:
    """Why no file could be made, written to disk, and executed in ``directory``; each empty when it worked."""
    try:
        descriptor = make_nameless(directory, 0o700)
    except OSError as error:
        return errno_name(error.errno), "", ""
    try:
        os.fchmod(descriptor, 0o700)
        _write_all(descriptor, _PROGRAM + _BLOCK)
        os.fsync(descriptor)
    except OSError as error:
        os.close(descriptor)
        return "", errno_name(error.errno), ""
    return "", "", _execute(descriptor, run_program)


def _execute(descriptor: int, run_program: bool) -> str:
    """Why the file could not be run; closes ``descriptor``. The kernel runs no file that is open for writing."""
    try:
        program = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return errno_name(error.errno)
    finally:
        os.close(descriptor)
    try:
        return _run(program, run_program)
    finally:
        os.close(program)


def _run(program: int, really: bool) -> str:
    # Its own /proc/self is the only one that a process which has changed its account may look into.
    path = f"/proc/self/fd/{program}"
    # For a file with the execute bit the kernel refuses this only on a file system mounted noexec.
    if not os.access(path, os.X_OK):
        return "noexec"
    if not really:
        return ""
    result = run([path], deadline_seconds=PROGRAM_SECONDS, environment={}, output_limit_bytes=4096, keep=(program,))
    return result.error if result.error in ("EACCES", "EPERM") else ""


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _quotas(real: str, mounts: Sequence[Mount]) -> tuple[Quota, ...]:
    mount = mount_of(mounts, real)
    if mount is None or not has_quota(mount.options):
        return ()
    try:
        return read_quotas(real, mount.source, mount.options)
    except OSError:
        return ()
