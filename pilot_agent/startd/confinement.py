"""The starter without the pilot's secrets: HTCondor's program for one job runs where the pool's token is not there.

HTCondor's starter works for a job with the pilot's uid: it reads files that the job named or linked to, and starts the
container runtime with the job's variables. It needs the token only when it begins, to tell the pool's broker (CCB)
where it is. So it runs in a user and mount namespace of its own, in which of the private directory only HTCondor's part
is there, read-only, and a copy of the token lies in memory, which the guard deletes before it looks at the job. No
process there can look through /proc at one outside: the kernel asks for rights in the other's namespace.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from pilot_agent.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.process import WakeUp

STARTER = "pilot_starter"
"""The program's name in LIBEXEC."""

RUNTIME = "pilot_runtime"
"""The name in LIBEXEC of what starts the container runtime."""

DEADLINE_SECONDS = 10.0

COPY = "starter-tokens"
"""Where the starter looks for its token, in the private directory: only in the starter's own namespace."""

SEEN = "condor"
"""What a starter sees of the private directory: HTCondor's configuration and programs."""

# Its arguments: the file that the token came from, the private directory, the program. Of that directory only
# HTCondor's part stays in sight, read-only: neither tokens nor journal, nor state, nor the channel to the ads, a FIFO
# that could be written to on a read-only mount. The capabilities of the new namespace end before the program begins.
_COVER = f"""
umask 077
token=$(cat "$2"/tokens/*) && mount -t tmpfs -o size=1m,mode=700 none "$2/tokens" &&
mkdir "$2/tokens/{SEEN}" "$2/tokens/{COPY}" && echo "$token" > "$2/tokens/{COPY}/pool" &&
mount --bind "$2/{SEEN}" "$2/tokens/{SEEN}" && mount -o remount,bind,ro "$2/tokens/{SEEN}" &&
mount --move "$2/tokens" "$2" && {{ [ ! -e "$1" ] || mount --bind /dev/null "$1"; }} || exit 1
unset token
# sshd gives a login's terminal to the group tty, which has no number in this namespace, and to the user's where the
# node has no such group.
if grep -v '^tty:' /etc/group > "$2/.group"; then mount --bind "$2/.group" /etc/group; fi 2> /dev/null
shift 2
exec setpriv --ambient-caps -all --inh-caps -all -- "$@"
"""
_NAMESPACE = ("unshare", "--user", "--map-current-user", "--mount", "--keep-caps", "--", "/bin/sh", "-c", _COVER, "sh")

# A job's PATH would choose the helpers that the runtime starts outside of the container.
_RUNTIME_TEXT = """\
#!/bin/sh
# Starts the container runtime with the node's own helpers, whatever a job's PATH says; made by the pilot.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
exec {runtime} "$@"
"""


def starter_text(starter: str, *, source: str, private: str) -> str:
    """The program that HTCondor takes for its starter.

    ``private`` is the private directory, ``source`` the file that the pool's token came from.
    """
    words = shlex.join((*_NAMESPACE, source, private, starter))
    return f'#!/bin/sh\n# Starts HTCondor\'s starter where the tokens are not; made by the pilot.\nexec {words} "$@"\n'


def runtime_text(runtime: str) -> str:
    """The program that HTCondor takes for the container runtime."""
    return _RUNTIME_TEXT.format(runtime=shlex.quote(runtime))


def can_confine(environment: Mapping[str, str], *, source: str, private: str, wake: WakeUp | None = None) -> bool:
    """Whether this node lets the pilot do it: False without user namespaces or with an old util-linux.

    Raises ``Interrupted`` when ``wake`` becomes readable.
    """
    look = f'[ ! -s "$1" ] && [ "$(echo "$2"/*)" = "$2/{SEEN} $2/{COPY}" ] && [ -s "$2/{COPY}/pool" ]'
    look += f' && [ ! -w "$2/{SEEN}" ] && [ "$(stat -c %i "$2/{SEEN}")" = "$3" ]'
    try:
        seen = str(os.stat(os.path.join(private, SEEN)).st_ino)
    except OSError:
        return False
    command = [*_NAMESPACE, source, private, "/bin/sh", "-c", look, "sh", source, private, seen]
    return run(command, deadline_seconds=DEADLINE_SECONDS, environment=environment, wake=wake).ok
