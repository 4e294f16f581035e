"""The starter without the pilot's secrets: HTCondor's program for one job runs where the pool's token is not there.

HTCondor's starter works for a job with the pilot's uid: it reads files that the job named or linked to, and starts the
container runtime with the job's variables. It needs the token only when it begins, to tell the pool's broker (CCB)
where it is. So it runs in a user and mount namespace of its own, in which the tokens are covered, the private directory
is read-only and a copy of the token lies in memory, which the guard deletes before anything of the job is looked at.
No process there can look through /proc at one outside: the kernel asks for rights in the other's namespace.
"""

from __future__ import annotations

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
"""Where the starter looks for its token, in the private directory: empty but in the starter's own namespace."""

# Its arguments: the directory of the tokens, the file that the token came from, the private directory, the program.
# The capabilities of the new namespace end before the program begins.
_COVER = f"""
umask 077
token=$(cat "$1"/*) && mount --bind "$3" "$3" && mount -o remount,bind,ro "$3" &&
mount -t tmpfs -o size=64k,mode=700 none "$3/{COPY}" && echo "$token" > "$3/{COPY}/pool" &&
mount -t tmpfs -o size=4k,mode=0 none "$1" && {{ [ ! -e "$2" ] || mount --bind /dev/null "$2"; }} || exit 1
unset token
shift 3
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


def starter_text(starter: str, *, tokens: str, source: str, private: str) -> str:
    """The program that HTCondor takes for its starter.

    ``tokens`` is the directory with the pool's token, ``source`` the file that the token came from.
    """
    words = shlex.join((*_NAMESPACE, tokens, source, private, starter))
    return f'#!/bin/sh\n# Starts HTCondor\'s starter where the tokens are not; made by the pilot.\nexec {words} "$@"\n'


def runtime_text(runtime: str) -> str:
    """The program that HTCondor takes for the container runtime."""
    return _RUNTIME_TEXT.format(runtime=shlex.quote(runtime))


def can_confine(
    environment: Mapping[str, str], *, tokens: str, source: str, private: str, wake: WakeUp | None = None
) -> bool:
    """Whether this node lets the pilot do it: False without user namespaces or with an old util-linux.

    Raises ``Interrupted`` when ``wake`` becomes readable.
    """
    look = '[ ! -r "$1" ] && [ ! -s "$2" ] && [ ! -w "$3" ]'
    command = [*_NAMESPACE, tokens, source, private, "/bin/sh", "-c", look, "sh", tokens, source, private]
    return run(command, deadline_seconds=DEADLINE_SECONDS, environment=environment, wake=wake).ok
