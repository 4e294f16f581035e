"""HTCondor's LIBEXEC for a pilot that contains its jobs: links to the node's own, with the scripts for logins
replaced and the hooks added.

HTCondor's own script for condor_ssh_to_job enters the container only for an interactive session with a terminal.
``condor_ssh_to_job JOB COMMAND`` runs the command on the node, with the pilot's uid, where the pool's token can be
read (seen with HTCondor 23.9.6). Those in ``logins`` enter the job's container always, or refuse.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pilot_agent.startd.logins import login_programs

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_libexec(node_libexec: str, directory: str, programs: Mapping[str, str]) -> None:
    """Make ``directory`` with a link to everything in ``node_libexec`` but the scripts, which are written anew, and
    with ``programs``, a name and a text each. What is written can be read and run, and written to by nobody.
    ``directory`` lies in HTCondor's part of the private directory, in which logins are prepared.

    Raises ``OSError``.
    """
    private = os.path.dirname(os.path.dirname(os.path.abspath(directory)))
    written = {**login_programs(private), **programs}
    os.mkdir(directory, 0o700)
    for name in os.listdir(node_libexec):
        if name not in written:
            os.symlink(os.path.join(node_libexec, name), os.path.join(directory, name))
    for name, text in written.items():
        _write(os.path.join(directory, name), text)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o500)
    try:
        os.fchmod(descriptor, 0o500)
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
