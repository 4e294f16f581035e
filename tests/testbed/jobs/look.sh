#!/bin/sh
# What a job of the demo runs: it tells where it is and what it can reach, one NAME=VALUE a line, and exits as asked.
# Arguments: seconds to work, exit status. It ends earlier when a file "seen" appears in its directory.
seconds=$1
status=$2

# shellcheck source=/dev/null
. /etc/os-release
echo "os=$ID $VERSION_ID"
echo "host=$(uname -n)"
echo "uid=$(id -u)"
echo "directory=$(pwd)"
echo "namespace=$(readlink /proc/self/ns/mnt)"
echo "container=${APPTAINER_CONTAINER:-${SINGULARITY_CONTAINER:-none}}"
set -- /proc/[0-9]*
echo "processes=$#"

# Everything that could hold the pilot's token: by its name, by what a token looks like, and in other processes.
token='eyJ[A-Za-z0-9_-]+\.eyJ'
candidates() {
    find / -xdev \( -path /proc -o -path /sys \) -prune -o -type f -name '*token*' -size -64k -print
    find . /home /root /tmp /var/tmp /dev/shm /run /srv /mnt /opt /etc /var/lib -maxdepth 6 -type f -size -64k -print
    ls -d /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/cwd/*token* /proc/[0-9]*/root/home/*/pilot-*/private/*
}
echo "tokens=$(candidates 2>/dev/null | sort -u | xargs -r grep -lsE "$token" 2>/dev/null | tr '\n' ' ')"

while [ "$seconds" -gt 0 ] && [ ! -e seen ]; do
    sleep 1
    seconds=$((seconds - 1))
done
[ ! -e seen ] || echo "visitor=$(cat seen)"
exit "$status"
