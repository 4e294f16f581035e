"""condor_ssh_to_job for jobs in containers: the scripts with which HTCondor prepares a login, starts sshd and enters.

HTCondor lets the owner of a job log in as the pilot's user, on the node, and calls that no more than what a job may do
anyway. Here a job may do less, and job and owner are one attacker: what the job writes, its variables and what the ssh
client sends (variables, a shell, arguments for ssh-keygen) must choose nothing on the node. So

- the files of a login lie in the private directory, on a confined node in the starter's own copy of it (see
  ``confinement``), and not where the job writes;
- sshd gets none of the job's variables, takes none from the client, reads no file of the job's directory, forwards
  nothing, and starts one command only;
- that command enters the container that the login's own starter has started, or refuses; the job's variables are set
  inside.
"""

from __future__ import annotations

import os
import shlex

SSHD_SETUP = "condor_ssh_to_job_sshd_setup"
"""HTCondor's name in LIBEXEC of what prepares a login."""

SHELL_SETUP = "condor_ssh_to_job_shell_setup"
"""HTCondor's name in LIBEXEC of what a login runs."""

SSHD = "pilot_sshd"
"""The name in LIBEXEC of what starts sshd."""

# The starter runs it with the job's variables, which end at the first line. It reads the files between the markers
# from the output, or passes all of the output to the user as the reason of a failure. Of its arguments (the job's
# directory, the program for logins, a template, a command for ssh-keygen with what the client added) the second is
# enough. All words of sshd_config are known to OpenSSH 7.4: sshd does not start with one that it does not know.
_SSHD_SETUP = r"""#!/bin/bash -p
# Prepares a login of condor_ssh_to_job where the job cannot write; made by the pilot.
if [ "$1" != --clean ]; then
    exec -c /bin/bash -p "$0" --clean "$2"
fi
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 077

refuse() {
    echo "$1"
    exit 1
}

tell() {
    echo "condor_ssh_to_job_sshd_setup $1 BEGIN"
    cat
    echo "condor_ssh_to_job_sshd_setup $1 END"
}

for program in /usr/sbin/sshd /usr/bin/ssh-keygen /usr/bin/nsenter; do
    [ -x "$program" ] || refuse "this node has no $program"
done
directory=$(mktemp -d @PRIVATE@/login.XXXXXX 2>&1) || refuse "$directory"
said=$(ssh-keygen -q -t rsa -N '' -C '' -f "$directory/key" 2>&1 < /dev/null) || refuse "ssh-keygen: $said"
echo "restrict,pty $(cat "$directory/key.pub")" > "$directory/authorized_keys" || refuse "$directory is full"
mkdir "$directory/home" && cat > "$directory/sshd_config" << END || refuse "$directory is full"
HostKey "$directory/key"
AuthorizedKeysFile "${directory//%/%%}/authorized_keys"
ForceCommand $(printf %q "$2") $PPID
StrictModes no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
PermitRootLogin no
PermitUserRC no
PermitUserEnvironment no
DisableForwarding yes
AllowTcpForwarding no
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
PrintMotd no
PrintLastLog no
UseDNS no
PidFile none
Subsystem sftp /usr/lib/openssh/sftp-server
END

{ id -un 2> /dev/null || echo condor-user; } | tell "SSHD USER"
echo "$directory" | tell "SSHD DIR"
tell "PUBLIC SERVER KEY" < "$directory/key.pub"
tell "AUTHORIZED CLIENT KEY" < "$directory/key"
echo "condor_ssh_to_job_sshd_setup SUCCESS"
"""

# Its argument is the configuration that was made above. HTCondor's library, where there is one, tells sshd that the
# user's home is the job's directory and that the shell is one that the client or the job has chosen. A shell that is
# bash reads .bashrc there when sshd has started it.
_SSHD = r"""#!/bin/bash -p
# Starts sshd for a login of condor_ssh_to_job with nothing of the job's; made by the pilot.
settings=(PATH=/usr/sbin:/usr/bin:/sbin:/bin)
case $LD_PRELOAD in
    /*/libgetpwnam.so)
        settings+=("LD_PRELOAD=$LD_PRELOAD" "_CONDOR_SCRATCH_DIR=${1%/*}/home" _CONDOR_SHELL=/bin/sh) ;;
esac
cd / && exec -c /usr/bin/env "${settings[@]}" /usr/sbin/sshd -i -e -f "$1"
"""

# Its argument is the starter's process. Every process is looked for below that one and looked at again after the
# files were opened: a process that ended meanwhile may have left its number to one of the node.
_SHELL_SETUP = r"""#!/bin/bash -p
# Enters the container of a job for condor_ssh_to_job; made by the pilot.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

refuse() {
    echo "condor_ssh_to_job: the job runs in no container that can be entered, or has not started or just ended." >&2
    exit 1
}

parent() {
    sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status" 2> /dev/null
}

namespace() {
    readlink "/proc/$1/ns/$2" 2> /dev/null
}

# The child that lives in another PID namespace. A SIF's file system is served by a child of the same parent, which
# does not.
contained_child() {
    local child
    for child in $(cat "/proc/$1"/task/*/children 2> /dev/null); do
        case $(namespace "$child" pid) in
            "" | "$own") ;;
            *)
                echo "$child"
                return ;;
        esac
    done
}

own=$(namespace self pid)
starter=$1
ancestor=$PPID
while [ "$ancestor" != "$starter" ]; do
    [ "${ancestor:-0}" -gt 1 ] || refuse
    ancestor=$(parent "$ancestor")
done

# The runtime's process on the node, its first process in the container, the job.
for runtime in $(cat "/proc/$starter"/task/*/children 2> /dev/null); do
    first=$(contained_child "$runtime")
    job=${first:+$(contained_child "$first")}
    [ -z "$job" ] || break
done
[ -n "$job" ] || refuse

# The PID namespace comes last: what belonged to the container then, belonged to it before.
proc=/proc/$job
mapfile -d '' -t environment 2> /dev/null < "$proc/environ" || refuse
{ exec 3< "$proc/root" 4< "$proc/cwd" 5< "$proc/ns/user" 6< "$proc/ns/mnt" 7< "$proc/ns/ipc" 8< "$proc/ns/pid"; } \
    2> /dev/null || refuse
[ "$(readlink /proc/self/fd/5)" = "$(namespace "$first" user)" ] || refuse
[ "$(readlink /proc/self/fd/6)" = "$(namespace "$first" mnt)" ] || refuse
[ "$(readlink /proc/self/fd/8)" = "$(namespace "$first" pid)" ] || refuse
[ "$(readlink /proc/self/fd/8)" != "$own" ] || refuse
[ "$(parent "$first") $(parent "$runtime")" = "$runtime $starter" ] || refuse

run=(/bin/sh)
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then
    run+=(-c "$SSH_ORIGINAL_COMMAND")
fi
exec -c /usr/bin/nsenter --preserve-credentials --user=/proc/self/fd/5 --mount=/proc/self/fd/6 \
    --ipc=/proc/self/fd/7 --pid=/proc/self/fd/8 --root=/proc/self/fd/3 --wd=/proc/self/fd/4 -- \
    /bin/sh -c 'exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- /usr/bin/env -i "$@"' sh \
    "${environment[@]}" "TERM=${TERM:-dumb}" "${run[@]}"
"""


def groups_of_logins(root: str = "/") -> str:
    """The node's group database without the group tty: sshd gives a login's terminal to it, which has no number in a
    starter's user namespace, and to the user's where there is none. Empty where the node has no such file.
    """
    try:
        with open(os.path.join(root, "etc/group"), encoding="utf-8", errors="surrogateescape") as file:
            return "".join(line for line in file if not line.startswith("tty:"))
    except FileNotFoundError:
        return ""


def login_programs(private: str) -> dict[str, str]:
    """The programs by their names in LIBEXEC. ``private`` is the pilot's private directory, which no job sees."""
    return {
        SSHD_SETUP: _SSHD_SETUP.replace("@PRIVATE@", shlex.quote(private)),
        SSHD: _SSHD,
        SHELL_SETUP: _SHELL_SETUP,
    }
