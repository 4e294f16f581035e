#!/bin/sh
# First process of the User-Mode Linux that `python -m tests.uml` starts, on the machine's own files: mounts what a
# machine has, runs the tests, says their exit code and switches the kernel off.
# From the kernel's command line: PYTHON, REPOSITORY, MODULES, CACHE, PAYLOADS, TESTS, OUTPUT (a file: what is written to
# the console may wait without end).
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

end() {
    echo "uml: exit $1"
    sync
    echo o > /proc/sysrq-trigger
    sleep 60
}

exec >> "$OUTPUT" 2>&1
set -e
trap 'end 70' EXIT
mount -t proc proc /proc
mount -t sysfs sys /sys
# Alone and at this place, as HTCondor wants it.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
"$PYTHON" -I -S "$REPOSITORY/tests/uml/modules.py" "$MODULES/$(uname -r)"
[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229
chmod 666 /dev/fuse
ip link set lo up
# What the tests write stays in memory: files that the machine lends have its owner and no other.
mount -t tmpfs -o size=2500m,mode=1777 testbed /mnt
mkdir /mnt/cache /mnt/tmp
for built in "$CACHE"/*-????????????????; do
    ln -s "$built" /mnt/cache/
done
cd "$REPOSITORY"
export TMPDIR=/mnt/tmp PYTHONDONTWRITEBYTECODE=1 PILOT_TESTBED_CACHE=/mnt/cache PILOT_TEST_PAYLOADS="$PAYLOADS"
trap - EXIT
set +e
"$PYTHON" -m pytest -p no:cacheprovider -v -s $TESTS < /dev/null
end $?
