"""The starter without the pilot's secrets: HTCondor's program for one job runs where only that job is.

HTCondor's starter works for a job with the pilot's uid: it reads files that the job named or linked to, and starts the
container runtime with the job's variables. It needs the token only when it begins, to tell the pool's broker (CCB)
where it is. So it runs in a user, mount and PID namespace of its own:

- of the private directory only HTCondor's part is there, read-only, and a copy of the token lies in memory, which the
  guard empties before it looks at the job;
- EXECUTE and the directory for temporary files are the starter's own: they are parts of ``dir_<its process>`` in the
  pilot's EXECUTE, which the startd removes when the starter has ended, however it did;
- the account's home, the start directory and the directory that holds workspaces are covered, but for what the
  starter, the runtime and the jobs' binds need;
- no process of the node is there to be seen or signalled, and all of this namespace end with the starter.

No process there can look through /proc at one outside: the kernel asks for rights in the other's namespace.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilot_agent.process import run
from pilot_agent.startd.covers import Cover
from pilot_agent.startd.own_images import OWN_IMAGE
from pilot_agent.startd.token import TOKEN_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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

TEMPORARY = "tmp"
"""What a starter sees as the workspace's directory of that name, in its own part of EXECUTE."""

GROUPS = "pilot_group"
"""The name in LIBEXEC of what a starter sees as /etc/group; see ``logins.groups_of_logins``."""

LOCK = "starter.lock"
"""The file in the starter's private directory with the name of the lock that is held as long as the starter lives."""

# Its arguments: the file that the token came from, the private directory, EXECUTE, the name of the starter's own
# directory there, the lock of the image store that it holds, then the program. Of the private directory only HTCondor's
# part stays in sight, read-only: neither tokens nor journal, nor state, nor the channel to the ads, a FIFO that could
# be written to on a read-only mount. The capabilities of the new namespace end before the program begins. Every job
# pays for each program here: one mounts everything, and makes the directories of the private one. HTCondor's part,
# which the first line covers, is found by its open descriptor: mount(8) looks up no path itself. It takes no pipe as a
# table. What runs up to here looks for no messages in the daemons' language: that is a dozen files for each program.
_COVER = """
umask 077
cd /
read -r token < "$2/tokens/@TOKEN@" && exec 4< "$2/@SEEN@" || exit 1
more=
@OPTIONAL@
mkdir -p "$3/$4/@TEMPORARY@" && printf '%s\n' "@TABLE@
$more" > "$3/$4/.table" && mount -c --all --fstab "$3/$4/.table" && exec 4<&- || exit 1
echo "$token" > "$2/@COPY@/pool" && echo "$5" > "$2/@LOCK@" || exit 1
unset token more
@COVERS@
# The starter keeps the session with its parent, and not the one with which all daemons of the pilot take orders.
set -f
inherited=
for word in $CONDOR_PRIVATE_INHERIT; do
    case $word in FamilySessionKey:*) ;; *) inherited="$inherited $word" ;; esac
done
[ -z "$inherited" ] || CONDOR_PRIVATE_INHERIT=$inherited
# With a shared port its parent's address has the broker in it, which it leaves out where both are on one host. Then it
# would not find the session that it has for that address, and take the other (seen with HTCondor 23.9.6).
parent=${CONDOR_INHERIT#* }
parent=${parent%% *}
case $parent in
    *[?]CCBID=*"&sock="*)
        direct=${parent#*CCBID=}
        CONDOR_INHERIT="${CONDOR_INHERIT%% *} ${parent%%CCBID=*}${direct#*&}${CONDOR_INHERIT#*"$parent"}" ;;
esac
lock=${5:+@LOCKS@/$5}
shift 5
LC_ALL=$pilot_locale
unset pilot_locale
exec setpriv --ambient-caps -all --inh-caps -all -- @BEGIN@ "$@"
"""

# HTCondor's starter may not be the first process of its PID namespace: it wants to find its parent among the
# processes, and takes a look at /proc without it for a failed one. So a shell is the first, which also reaps what has
# lost its parent. The parent that HTCondor names to the starter is outside; the starter ends when it finds none.
_FIRST = """
[ -z "$CONDOR_INHERIT" ] || CONDOR_INHERIT="1 ${CONDOR_INHERIT#* }"
"$@" 9>&-
code=$?
[ -z "$0" ] || rm -f "$0"
exit $code
"""
_NAMESPACE = ("unshare", "--user", "--map-current-user", "--mount", "--keep-caps")
_PROCESSES = ("--pid", "--fork", "--kill-child", "--mount-proc")

# A job's PATH would choose the helpers that the runtime starts outside of the container. And HTCondor asks for the home
# directory at the path that the scratch directory has on the node: below /tmp the container's own /tmp covers that, so
# it is put where the scratch directory is inside, the target of the first bind. The words up to "--" are HTCondor's and
# the pilot's; what follows are the image and the job's, of which there may be very many.
_RUNTIME_TEXT = r"""#!/bin/sh
# Starts the container runtime with the node's own helpers, whatever a job's PATH says, and with the job's directory as
# its home; made by the pilot.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
@ASKED@pilot_runtime=@RUNTIME@
pilot_number=0
pilot_before=
pilot_scratch=
pilot_options=
while [ $# -gt 0 ] && [ "$pilot_before" != -- ]; do
    pilot_word=$1
    shift
@DROPPED@    case $pilot_before in
        -B) pilot_scratch=${pilot_scratch:-$pilot_word} ;;
        --home) case $pilot_scratch in "$pilot_word":/*) pilot_word=$pilot_scratch ;; esac ;;
    esac
    pilot_before=$pilot_word
    pilot_number=$((pilot_number + 1))
    eval "pilot_word$pilot_number=\$pilot_word"
    pilot_options="$pilot_options \"\$pilot_word$pilot_number\""
done
@IMAGE@eval "exec \"\$pilot_runtime\"$pilot_options \"\$@\""
"""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What jobs' starters are kept from.

    ``source`` is the file that the pool's token came from, ``sources`` the directories that hold nothing else: a cover
    over them stays when the file is replaced. ``private`` is the private directory, ``temporary`` the workspace's
    directory for temporary files, ``execute`` EXECUTE. ``processes``: each starter has a PID namespace. ``locks`` is
    the directory in which a lock tells other starters that one lives, empty when nobody asks.
    """

    source: str
    private: str
    execute: str
    temporary: str
    covers: tuple[Cover, ...] = ()
    sources: tuple[str, ...] = ()
    processes: bool = True
    locks: str = ""


def starter_text(starter: str, confinement: Confinement) -> str:
    """The program that HTCondor takes for its starter. The startd knows it by the number of the first process, and
    removes ``dir_<number>`` in EXECUTE when that one has ended."""
    places = shlex.join((confinement.source, confinement.private, confinement.execute))
    lines = ["#!/bin/sh", "# Starts HTCondor's starter where only its own job is; made by the pilot."]
    lines += ["pilot_locale=$LC_ALL LC_ALL=C", "export pilot_locale LC_ALL", "lock="]
    if confinement.locks:
        name = f"starter.{os.path.basename(os.path.dirname(confinement.private))}.$$"
        lines[-1] = f'umask 077; lock="{name}"'
        lines.append(f'exec 9> {shlex.quote(confinement.locks)}/"$lock" && flock 9 || exit 1')
    lines.append(f'exec {_command(confinement)} {places} "dir_$$" "$lock" {shlex.quote(starter)} "$@"')
    return "\n".join(lines) + "\n"


def _command(confinement: Confinement) -> str:
    begin = shlex.join(("/bin/sh", "-c", _FIRST)) + ' "$lock"' if confinement.processes else ""
    words = {
        "TOKEN": TOKEN_FILE,
        "SEEN": SEEN,
        "COPY": COPY,
        "LOCK": LOCK,
        "TEMPORARY": TEMPORARY,
        "TABLE": "\n".join(_table(confinement)),
        "OPTIONAL": "\n".join(_optional(confinement)),
        "COVERS": "".join(_cover_lines(confinement)),
        "BEGIN": begin,
        "LOCKS": shlex.quote(confinement.locks),
    }
    cover = re.sub(r"@([A-Z]+)@", lambda found: words[found[1]], _COVER)
    processes = _PROCESSES if confinement.processes else ()
    return shlex.join((*_NAMESPACE, *processes, "--", "/bin/sh", "-c", cover, "sh"))


def _table(confinement: Confinement) -> Iterable[str]:
    """Lines of fstab(5) in double quotes of the shell. ``$4`` is the starter's own directory in EXECUTE, a name without
    blanks."""
    private, execute = _field(confinement.private), _field(confinement.execute)
    yield f"pilot-private {private} tmpfs size=1m,mode=700"
    yield f"/proc/self/fd/4 {private}/{SEEN} none bind,ro,X-mount.mkdir=700"
    yield f"pilot-copy {private}/{COPY} tmpfs size=64k,mode=700,X-mount.mkdir=700"
    yield f"{execute}/$4 {execute} none bind"
    if not any(confinement.temporary in cover.directories for cover in confinement.covers):
        yield f"{execute}/{TEMPORARY} {_field(confinement.temporary)} none bind"


def _optional(confinement: Confinement) -> Iterable[str]:
    """Shell lines that add to the table what is there when a starter begins."""
    groups = os.path.join(confinement.private, SEEN, "libexec", GROUPS)
    yield _added("-s", groups, f"{_field(groups)} /etc/group none bind")
    yield _added("-e", confinement.source, f"/dev/null {_field(confinement.source)} none bind")
    for directory in confinement.sources:
        yield _added("-d", directory, f"pilot-covered {_field(directory)} tmpfs ro,size=4k,mode=700")


def _added(test: str, path: str, line: str) -> str:
    return f"[ ! {test} {shlex.quote(path)} ] || more=$more{shlex.quote(line)}'\n'"


def _field(path: str) -> str:
    """A path as a field of fstab(5), in which the shell finds nothing to expand between double quotes."""
    return "".join(f"\\{ord(sign):03o}" if sign in ' \t\n\\$`"#' else sign for sign in path)


def _cover_lines(confinement: Confinement) -> Iterable[str]:
    """Shell lines that put an empty directory with what is needed over each one that is covered. What lay there is
    reached from the working directory, which stays below."""
    own = f"{confinement.execute}/{TEMPORARY}"
    for cover in confinement.covers:

        def below(path: str, directory: str = cover.directory) -> str:
            return shlex.quote(os.path.relpath(path, directory))

        directory = shlex.quote(cover.directory)
        steps = [f"cd {directory}", f"mount -t tmpfs -o size=1m,mode=700 none {directory}"]
        parents = sorted({*cover.directories, *map(os.path.dirname, cover.files)})
        if parents:
            steps.append("mkdir -p " + " ".join(map(shlex.quote, parents)))
        steps += [f": > {shlex.quote(path)}" for path in cover.files]
        for path in (*cover.directories, *cover.files):
            source = below(own if path == confinement.temporary else path)
            steps.append(f"mount -c --rbind {source} {shlex.quote(path)}")
        steps.append(f"mount -o remount,bind,ro {directory}")
        yield " &&\n".join(steps) + " || exit 1\n"
    yield "cd /\n"


def runtime_text(runtime: str, version: str = "", *, gpu_libraries: bool = True, opencl: bool = True) -> str:
    """The program that HTCondor takes for the container runtime.

    ``version`` is what the runtime itself says of its version, if the pilot knows: each job's starter asks. A runtime
    that is gone must answer nothing, or the starter would go on and the job would bear the node's failure.
    For jobs with GPUs HTCondor adds ``--nv`` and a bind of OpenCL's vendors: it leaves them out without
    ``gpu_libraries`` and without ``opencl``.
    """
    dropped = "" if gpu_libraries else '    [ "$pilot_word" != --nv ] || continue\n'
    # The pilot's own binds have a colon.
    dropped += "" if opencl else '    [ "$pilot_word $1" != "-B /etc/OpenCL/vendors" ] || { shift; continue; }\n'
    asked = (
        f'[ "$*" != --version ] || [ ! -x {shlex.quote(runtime)} ] || {{ echo {shlex.quote(version)}; exit 0; }}\n'
        if version
        else ""
    )
    words = {"ASKED": asked, "DROPPED": dropped, "RUNTIME": shlex.quote(runtime), "IMAGE": OWN_IMAGE}
    return re.sub(r"@([A-Z]+)@", lambda found: words[found[1]], _RUNTIME_TEXT)


def establish(wanted: Confinement, environment: Mapping[str, str], *, wake: WakeUp | None = None) -> Confinement | None:
    """What of it this node lets the pilot do: with a PID namespace for each starter, without one, or None without user
    namespaces or with an old util-linux. Each is tried, and what it covers is looked for.

    Raises ``Interrupted`` when ``wake`` becomes readable.
    """
    for confinement in dict.fromkeys((wanted, replace(wanted, processes=False, locks=""))):
        if _works(confinement, environment, wake):
            return confinement
    return None


def _works(confinement: Confinement, environment: Mapping[str, str], wake: WakeUp | None) -> bool:
    private, execute = confinement.private, confinement.execute
    look = f'for f in "$2"/*; do case $f in "$2/{SEEN}" | "$2/{COPY}" | "$2/{LOCK}") ;; *) exit 1 ;; esac; done; '
    look += f'for f in "$3"/*; do [ "$f" = "$3/{TEMPORARY}" ] || exit 1; done; '
    look += f'[ ! -s "$1" ] && [ -s "$2/{COPY}/pool" ] && [ -d "$3/{TEMPORARY}" ]'
    look += f' && [ ! -w "$2/{SEEN}" ] && [ "$2/{SEEN}" -ef /proc/self/fd/3 ]'
    for directory in (*confinement.sources, *(cover.directory for cover in confinement.covers)):
        look += f" && [ ! -w {shlex.quote(directory)} ]"
    if confinement.processes:
        look += ' && [ "$PPID" = 1 ] && read -r name < /proc/1/comm && [ "$name" = sh ]'
    own = f"dir_{os.getpid()}"
    places = (confinement.source, private, execute)
    before = ("/bin/sh", "-c", 'exec 3< "$1" && shift && exec "$@"', "sh", os.path.join(private, SEEN))
    command = [*before, *shlex.split(_command(confinement)), *places, own, ""]
    command += ["/bin/sh", "-c", look, "sh", *places]
    try:
        return run(command, deadline_seconds=DEADLINE_SECONDS, environment=environment, wake=wake).ok
    finally:
        shutil.rmtree(os.path.join(execute, own), ignore_errors=True)
