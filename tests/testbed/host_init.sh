#!/bin/sh
# First process of a host, in new mount, PID, UTS, IPC and network namespaces.
# Arguments: lower directories (overlayfs syntax), upper, work, root (an empty directory), host name, address/bits.
# Standard input: one line per bind, "ro|rw<TAB>outer path<TAB>inside path", then "go".
# Standard output: its process number as the starter sees it, then "ready" when the host is complete.
set -eu

lower=$1 upper=$2 work=$3 root=$4 name=$5 address=$6

# The new PID namespace has no /proc yet: the outer one still tells the outer number.
read -r pid rest < /proc/self/stat
echo "$pid"

mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$root"

mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
while read -r device target rest; do
    case $target in
    "$root"/sys/fs/cgroup*) mount -o remount,bind,ro "$target" ;;
    esac
done < /proc/mounts

# Own nodes: with the outer /dev bound here, root in a host could change the outer machine's.
mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
node() {
    mknod -m "$2" "$root/dev/$1" c "$3" "$4"
}
node null 666 1 3
node zero 666 1 5
node full 666 1 7
node random 666 1 8
node urandom 666 1 9
node tty 666 5 0
node fuse 666 10 229
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
mount -t mqueue mqueue "$root/dev/mqueue"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"

mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
mkdir -m 1777 "$root/run/lock"
mkdir "$root/run/condor" "$root/run/lock/condor" "$root/run/sshd"
chroot "$root" chown condor:condor /run/condor /run/lock/condor

tab=$(printf '\t')
go=
while IFS=$tab read -r mode outer inside; do
    if [ "$mode" = go ]; then
        go=yes
        break
    fi
    if [ -d "$outer" ]; then
        mkdir -p "$root$inside"
    else
        mkdir -p "$root${inside%/*}"
        [ -e "$root$inside" ] || : > "$root$inside"
    fi
    mount --rbind "$outer" "$root$inside"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$root$inside"
done
# Without the word the starter is gone, and nobody would ever end this host.
[ -n "$go" ]

hostname "$name"
ip link set lo up
ip address add "$address" dev eth0
ip link set eth0 up

cd "$root"
mkdir -p .outer
pivot_root . .outer
umount -l /.outer
rmdir /.outer
echo ready
exec /usr/bin/tini -g -- /bin/sleep infinity < /dev/null > /dev/null 2>&1
