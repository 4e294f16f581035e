"""HTCondor's LIBEXEC for a pilot that contains its jobs: links to the node's own, with the scripts for logins
replaced and the hooks added.

HTCondor's own script for condor_ssh_to_job enters the container only for an interactive session with a terminal.
``condor_ssh_to_job JOB COMMAND`` runs the command on the node, with the pilot's uid, where the pool's token can be
read (seen with HTCondor 23.9.6). Those in ``logins`` enter the job's container always, or refuse.

HTCondor's file transfer plugin for curl offers ``file:`` URLs, which are files of the node: what is in its place here
offers the others only. And Debian's package lacks the SIF file with which HTCondor finds out whether jobs may have
one.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from pilot_agent.containers.tiny_image import ARCHITECTURE, sif
from pilot_agent.startd.logins import login_programs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SIF_TEST = "exit_37.sif"
"""HTCondor runs ``/exit_37`` in it and wants it to end with 37."""

_PLUGIN = r"""#!/bin/sh
# Transfers files for a job, but none of the node's own; made by the pilot.
set -f
if [ "$1" = -classad ]; then
    ad=$(@PLUGIN@ -classad) || exit 1
    IFS='
'
    for line in $ad; do
        case $line in
            SupportedMethods*)
                IFS='=", '
                set -- $line
                shift
                methods=
                for method do
                    case $method in '' | [Ff][Ii][Ll][Ee]) ;; *) methods=$methods,$method ;; esac
                done
                line="SupportedMethods = \"${methods#,}\"" ;;
        esac
        echo "$line"
    done
    exit 0
fi
before=
for word do
    if [ "$before" = -infile ]; then
        while read -r line || [ "$line" ]; do
            case $line in *\"[Ff][Ii][Ll][Ee]:*) echo 'file: URLs are files of the node' >&2; exit 1 ;; esac
        done < "$word" || exit 1
    fi
    before=$word
done
exec @PLUGIN@ "$@"
"""


def plugin_programs(plugins: Iterable[str]) -> dict[str, str]:
    """The programs that take the place of the node's file transfer plugins, by their names in LIBEXEC."""
    return {os.path.basename(plugin): _PLUGIN.replace("@PLUGIN@", shlex.quote(plugin)) for plugin in plugins}


def sif_test(node_libexec: str) -> dict[str, bytes]:
    """The SIF file that HTCondor tests the runtime with, where the node has none and one can be made for it."""
    if os.path.lexists(os.path.join(node_libexec, SIF_TEST)) or os.uname().machine != ARCHITECTURE:
        return {}
    return {SIF_TEST: sif()}


def make_libexec(node_libexec: str, directory: str, programs: Mapping[str, str | bytes]) -> None:
    """Make ``directory`` with a link to everything in ``node_libexec`` but the scripts, which are written anew, and
    with ``programs``, a name and a content each. What is written can be read and run, and written to by nobody.
    ``directory`` lies in HTCondor's part of the private directory, in which logins are prepared.

    Raises ``OSError``.
    """
    private = os.path.dirname(os.path.dirname(os.path.abspath(directory)))
    written: dict[str, str | bytes] = {**login_programs(private), **programs}
    os.mkdir(directory, 0o700)
    for name in os.listdir(node_libexec):
        if name not in written:
            os.symlink(os.path.join(node_libexec, name), os.path.join(directory, name))
    for name, content in written.items():
        _write(os.path.join(directory, name), content)


def _write(path: str, content: str | bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o500)
    try:
        os.fchmod(descriptor, 0o500)
        os.write(descriptor, content.encode() if isinstance(content, str) else content)
    finally:
        os.close(descriptor)
