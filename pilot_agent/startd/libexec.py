"""HTCondor's LIBEXEC for a pilot that contains its jobs: links to the node's own, with one script replaced and the
hooks added.

HTCondor's set-up script for condor_ssh_to_job enters the container only for an interactive session with a terminal.
``condor_ssh_to_job JOB COMMAND`` runs the command on the node, with the pilot's uid, where the pool's token can be
read (seen with HTCondor 23.9.6). The script below enters the job's container always, or refuses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SHELL_SETUP = "condor_ssh_to_job_shell_setup"

# Its argument is the environment file of HTCondor's sshd set-up. That file lies where the job can write: it is
# searched for a number and never sourced.
SHELL_SETUP_TEXT = """\
#!/bin/bash
# Enters the container of a job for condor_ssh_to_job; made by the pilot.

children() {
    cat "/proc/$1/task/$1/children"
}

# The child that lives in another PID namespace. A SIF's file system is served by a child of the same parent, which
# does not.
contained_child() {
    local child own
    own=$(readlink /proc/self/ns/pid)
    for child in $(children "$1"); do
        if [ "$(readlink "/proc/$child/ns/pid")" != "$own" ]; then
            echo "$child"
            return
        fi
    done
}

# The runtime's process on the node, its first process in the container, the job.
runtime=$(sed -n "s/^export _CONDOR_JOB_PIDS=['\\"]\\{0,1\\}\\([0-9][0-9]*\\).*/\\1/p" "$1")
first=$(contained_child "${runtime:-0}" 2> /dev/null)
job=$(contained_child "${first:-0}" 2> /dev/null)
if [ -z "$job" ]; then
    echo "condor_ssh_to_job: the job runs in no container that can be entered, or has not started or just ended." >&2
    exit 1
fi

mapfile -d '' -t environment < "/proc/$job/environ"
enter=(env -i "${environment[@]}" "TERM=${TERM:-dumb}" nsenter --target "$job" --user --preserve-credentials
    --mount --ipc --pid --root --wd --)
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then
    exec "${enter[@]}" /bin/sh -c "$SSH_ORIGINAL_COMMAND"
fi
exec "${enter[@]}" /bin/sh
"""


def make_libexec(node_libexec: str, directory: str, programs: Mapping[str, str]) -> None:
    """Make ``directory`` with a link to everything in ``node_libexec`` but the script, which is written anew, and with
    ``programs``, a name and a text each. What is written can be read and run, and written to by nobody.

    Raises ``OSError``.
    """
    written = {SHELL_SETUP: SHELL_SETUP_TEXT, **programs}
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
