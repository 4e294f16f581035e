"""First process of a bare node: makes a Debian tree its root, changes to an account and becomes the program.

Run by the outer Python in new mount, PID, network, IPC and UTS namespaces. Its one argument is JSON: `lower`, `upper`,
`work`, `root` (directories), `binds` (pairs of an outer path and one inside), `uid`, `directory`, `environment`,
`devices` (names in /dev that are as good as null), `emulator` (a path inside, or empty) and `command`. Nothing of the
tree is run on the way, so it needs neither a shell nor a C library.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

DETACH = 2
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
BINFMT = "/proc/sys/fs/binfmt_misc"
# An ELF file of 64 bits, little-endian, a program or shared object, for machine 183.
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
NODES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}


def main(text: str) -> None:
    """Never returns."""
    given = json.loads(text)
    libc = ctypes.CDLL(None, use_errno=True)
    root = given["root"]
    _mount("overlay", root, "overlay", f"lowerdir={given['lower']},upperdir={given['upper']},workdir={given['work']}")
    for name in ("proc", "sys", "dev", "tmp", "run"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    _mount("proc", f"{root}/proc", "proc", "nosuid,nodev,noexec")
    _mount("sysfs", f"{root}/sys", "sysfs", "ro,nosuid,nodev,noexec")
    _mount("dev", f"{root}/dev", "tmpfs", "mode=755,nosuid")
    for name, minor in [*NODES.items(), *((name, NODES["null"]) for name in given["devices"])]:
        os.mknod(f"{root}/dev/{name}", 0o20666, os.makedev(1, minor))
        os.chmod(f"{root}/dev/{name}", 0o666)
    os.mknod(f"{root}/dev/fuse", 0o20666, os.makedev(10, 229))
    os.chmod(f"{root}/dev/fuse", 0o666)
    os.mkdir(f"{root}/dev/pts")
    _mount("devpts", f"{root}/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=620,nosuid,noexec")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    os.mkdir(f"{root}/dev/shm")
    _mount("shm", f"{root}/dev/shm", "tmpfs", "mode=1777,nosuid,nodev")
    os.chmod(f"{root}/tmp", 0o1777)
    for outer, inside in given["binds"]:
        os.makedirs(root + inside, exist_ok=True)
        subprocess.run(["mount", "--bind", "-o", "ro", outer, root + inside], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.makedirs(f"{root}/.outer", exist_ok=True)
    os.chdir(root)
    subprocess.run(["pivot_root", ".", ".outer"], check=True)
    os.chdir("/")
    if libc.umount2(b"/.outer", DETACH):
        raise OSError(ctypes.get_errno(), "umount2")
    os.rmdir("/.outer")
    if given["emulator"]:
        _in_user_namespace(libc, given["emulator"])
    os.setgroups([])
    os.setresgid(given["uid"], given["uid"], given["uid"])
    os.setresuid(given["uid"], given["uid"], given["uid"])
    os.chdir(given["directory"])
    os.execve(given["command"][0], given["command"], given["environment"])


def _in_user_namespace(libc: ctypes.CDLL, emulator: str) -> None:
    """Go on in a child whose namespace starts programs for aarch64 through the emulator: told to the kernel elsewhere,
    it would hold for the whole machine."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child:
        os.read(ready[0], 1)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write("0 0 65536")
        os.write(go[1], b"x")
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    if libc.unshare(NEW_USER | NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    if libc.mount(b"binfmt_misc", BINFMT.encode(), b"binfmt_misc", 0, None):
        raise OSError(ctypes.get_errno(), "mount binfmt_misc")
    with open(f"{BINFMT}/register", "w") as file:
        file.write(f":aarch64:M::{MAGIC}:{MASK}:{emulator}:F")


def _mount(source: str, target: str, kind: str, options: str) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, source, target], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
