"""Namespaces and mounts of this process, made with the kernel's own calls: no program of the node is needed.

What is made lives as long as the process that made it and its children: with its last process a namespace goes, and
every mount in it.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from pilot_agent.model import Json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_RDONLY, MS_REMOUNT, MS_BIND = 0x1, 0x20, 0x1000
MS_REC, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE = 0x4000, 0x20000, 0x40000, 0x80000
MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4

NOBODY = 65534
WHOLE_MACHINE = ["0", "0", "4294967295"]
# No flag of unshare(2): the kernel refuses it before it asks anybody whether the caller may.
_NO_FLAG = 0x1
_NO_ADDRESS = 1
# Directories that a trial may cover with a mount inside its own namespace; every node has one of them.
_COVERED = ("/tmp", "/var/tmp", "/mnt", "/var", "/dev")  # noqa: S108 - nothing is written there


def load() -> None:
    """Load what the calls need: once for several children, and before a process loses the right to read it."""
    _libc()


def unshare(flags: int) -> None:
    """Move this process to namespaces of its own (unshare(2)). Raises ``OSError``."""
    import ctypes

    _checked(_libc().unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount a file system in this process's mount namespace (mount(2)). Raises ``OSError``."""
    import ctypes

    arguments = [os.fsencode(text) or None for text in (source, target, kind)]
    _checked(_libc().mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), "mount")


def setns(descriptor: int, kind: int) -> None:
    """Move this process to the namespace of an open file of /proc/PID/ns (setns(2)). Raises ``OSError``."""
    import ctypes

    _checked(_libc().setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def pivot_root(new_root: str) -> None:
    """Make a mount the root of this process's mount namespace, and let the old root go (pivot_root(2), "pivot_root(".",
    ".")"). The working directory is the new root then. Raises ``OSError``."""
    os.chdir(new_root)
    _checked(_libc().pivot_root(b".", b"."), "pivot_root")
    detach(".")
    os.chdir("/")


def detach(path: str) -> None:
    """Take a mount away at once; it ends with its last use (umount2(2), MNT_DETACH). Raises ``OSError``."""
    import ctypes

    _checked(_libc().umount2(os.fsencode(path), ctypes.c_int(MNT_DETACH)), "umount")


def private_mounts() -> None:
    """Keep the mounts that follow from all other mount namespaces. Raises ``OSError``."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def enter_user_namespace(flags: int = 0) -> None:
    """Move this process to a user namespace where it is root, and to those of ``flags``. Raises ``OSError``."""
    user, group = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER | flags)
    map_to_root(user, group)


def map_to_root(user: int, group: int) -> None:
    """Make the account that this process had root of its new user namespace. Raises ``OSError``."""
    map_account((0, 0), (user, group))


def map_account(inside: tuple[int, int], outside: tuple[int, int]) -> None:
    """Map one account into the new user namespace of this process: user and group, as they are called inside and
    outside. Raises ``OSError``."""
    # A process that changed its account since it was started may not write its own maps otherwise (proc(5)).
    _checked(_libc().prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")
    # The kernel lets an ordinary user map its group only after setgroups was given up (user_namespaces(7)). Kernels
    # before 3.19 have no such file and ask for nothing.
    if os.path.exists("/proc/self/setgroups"):
        write_kernel_file("/proc/self/setgroups", "deny")
    write_kernel_file("/proc/self/uid_map", f"{inside[0]} {outside[0]} 1")
    write_kernel_file("/proc/self/gid_map", f"{inside[1]} {outside[1]} 1")


def give_up_root() -> bool:
    """Make this process an ordinary account for good, without groups and capabilities, where it is root of the whole
    machine; false where it is not, or where it may not change."""
    if os.geteuid() != 0 or not _rules_the_machine():
        return False
    load()
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False
    return True


def unshare_is_filtered() -> bool:
    """True when not the kernel but a seccomp filter refuses user namespaces: the kernel would find the flags invalid
    before it looks at rights (``check_unshare_flags`` in its ``kernel/fork.c``)."""
    try:
        unshare(CLONE_NEWUSER | _NO_FLAG)
    except OSError as error:
        return error.errno != errno.EINVAL
    return False


def mount_is_filtered() -> bool:
    """True when not the kernel but a seccomp filter refuses mounts: the kernel would fail to read the file system's
    name before it looks at rights (``mount`` in its ``fs/namespace.c``)."""
    import ctypes

    nowhere = ctypes.c_void_p(_NO_ADDRESS)
    code = _libc().mount(b"none", b"/", nowhere, ctypes.c_ulong(0), None)
    return bool(code != 0 and ctypes.get_errno() != errno.EFAULT)


def covered_directory() -> str:
    """A directory that a trial may mount over in a namespace of its own."""
    return next((path for path in _COVERED if os.path.isdir(path)), "/")


def end_with_parent() -> None:
    """Let the kernel kill this process when the one that forked it ends."""
    _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@dataclass(slots=True)
class Steps:
    """What a trial did, in order: a step's name and the errno name of its refusal, empty when it worked."""

    taken: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, action: Callable[[], object]) -> bool:
        """Do one step; whether it worked."""
        try:
            action()
        except OSError as error:
            self.taken[name] = errno_name(error.errno)
        else:
            self.taken[name] = ""
        return not self.taken[name]


def errno_name(number: int | None) -> str:
    """The name of an errno number, such as EPERM."""
    return errno.errorcode.get(number or errno.EIO, f"E{number}")


def in_fork(work: Callable[[], Json]) -> Json:
    """What ``work`` gives in a forked child that ends with this process; None when it died. Raises ``OSError`` when
    there can be none."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            end_with_parent()
            os.close(reading)
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    answer = b""
    while chunk := os.read(reading, 65536):
        answer += chunk
    os.close(reading)
    os.waitpid(pid, 0)
    return json.loads(answer) if answer else None


def _rules_the_machine() -> bool:
    try:
        with open("/proc/self/uid_map", encoding="utf-8") as stream:  # the codec that needs no import
            return stream.read().split() == WHOLE_MACHINE
    except OSError:
        return True


def write_kernel_file(path: str, text: str) -> None:
    """Write into a file of /proc or a control group in one call, as the kernel wants it. Raises ``OSError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


@functools.cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _checked(code: int, call: str) -> None:
    if code != 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
