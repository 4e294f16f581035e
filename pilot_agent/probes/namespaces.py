"""What containers are made of, really tried: user, mount and PID namespaces and mounts in them.

Each trial runs in a forked child, so that nothing of it stays: with its last process a namespace goes, and every
mount in it. No program of the node is needed.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pilot_agent.process import Result, Runner

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_REC, MS_PRIVATE = 0x4000, 0x40000

PR_SET_DUMPABLE = 4

TRIAL_SECONDS = 5.0
# Directories that a trial may cover with a mount inside its own namespace; every node has one of them.
_COVERED = ("/tmp", "/var/tmp", "/mnt", "/var", "/dev")  # noqa: S108 - nothing is written there


@dataclass(frozen=True, slots=True)
class Trial:
    """How far a trial came: ``failed`` names the step that was refused (empty when none was) and ``error`` its
    errno name; ``pid_proc_error`` that of a fresh /proc in a PID namespace (empty when it worked, None when it was
    not tried)."""

    failed: str = ""
    error: str = ""
    pid_proc_error: str | None = None


class _Refused(Exception):  # noqa: N818 - a refusal is a finding
    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.step = step
        self.error = errno.errorcode.get(error.errno or 0, "EINVAL")


def try_containers() -> Trial:
    """Make a user namespace, a mount namespace with a tmpfs in it, and a PID namespace with a /proc of its own."""
    return _in_child(_container_trial, "container namespaces")


def try_fuse_mount() -> Trial:
    """Open /dev/fuse and mount it inside a user namespace."""
    return _in_child(_fuse_trial, "FUSE in a user namespace")


def unshare(flags: int) -> None:
    """Move this process to namespaces of its own (unshare(2)). Raises ``OSError``."""
    _checked(_libc().unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount a file system in this process's mount namespace (mount(2)). Raises ``OSError``."""
    arguments = [text.encode() or None for text in (source, target, kind)]
    _checked(_libc().mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), "mount")


def enter_user_namespace(flags: int = 0) -> None:
    """Move this process to a user namespace where it is root, and to those of ``flags``. Raises ``OSError``."""
    user, group = os.geteuid(), os.getegid()
    # A process that changed its account since it was started may not write its own maps otherwise (proc(5)).
    _checked(_libc().prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")
    unshare(CLONE_NEWUSER | flags)
    # The kernel lets an ordinary user map its group only after setgroups was given up (user_namespaces(7)).
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {user} 1")
    _write("/proc/self/gid_map", f"0 {group} 1")


def _container_trial() -> Trial:
    _step("user namespace", enter_user_namespace)
    _step("mount namespace", lambda: unshare(CLONE_NEWNS))
    _step("private mounts", lambda: mount("none", "/", "", MS_REC | MS_PRIVATE))
    _step("tmpfs mount", lambda: mount("tmpfs", _covered(), "tmpfs", MS_NOSUID | MS_NODEV, "size=64k"))
    _step("PID namespace", lambda: unshare(CLONE_NEWPID))
    return Trial(pid_proc_error=_try_fresh_proc())


def _fuse_trial() -> Trial:
    _step("user and mount namespace", lambda: enter_user_namespace(CLONE_NEWNS))
    _step("private mounts", lambda: mount("none", "/", "", MS_REC | MS_PRIVATE))
    _step("FUSE mount", _mount_fuse)
    return Trial()


def _mount_fuse() -> None:
    # The kernel takes only a descriptor that was opened in the user namespace of the mount.
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    mount("pilot-agent", _covered(), "fuse", MS_NOSUID | MS_NODEV, data)


def _try_fresh_proc() -> str:
    """Mount /proc as the first process of the new PID namespace; the errno name, or empty when it worked."""
    child = os.fork()
    if child == 0:
        code = errno.EINVAL
        try:
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
            # Only a /proc of this namespace knows this process as number 1.
            code = 0 if os.readlink("/proc/self") == "1" else errno.EBADE
        except OSError as error:
            code = error.errno or errno.EINVAL
        finally:
            os._exit(code & 0xFF)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return errno.errorcode.get(code, f"code {code}") if code else ""


def _step(name: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise _Refused(name, error) from error


def _in_child(trial: Callable[[], Trial], name: str) -> Trial:
    def run() -> bytes:
        try:
            done = trial()
        except _Refused as refused:
            done = Trial(refused.step, refused.error)
        return json.dumps(asdict(done)).encode()

    with Runner() as runner:
        result = runner.wait(runner.start_call(run, name=name, deadline_seconds=TRIAL_SECONDS))
    return read_trial(result)


def read_trial(result: Result) -> Trial:
    """The trial that a child answered; one that died or hung failed in the step ``child``."""
    if not result.ok:
        return Trial("child", result.explain())
    try:
        answer = json.loads(result.answer)
        return replace(Trial(), **answer)
    except (ValueError, TypeError) as error:
        return Trial("child", f"unreadable answer: {error}")


def _covered() -> str:
    return next((path for path in _COVERED if os.path.isdir(path)), "/")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(code: int, call: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
