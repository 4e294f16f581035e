"""CVMFS repositories looked at one by one: which answer, and for each other one what is wrong and who must do what.

A broken or hung mount must not cost more than a deadline, so each repository is entered in a child of its own, all at
the same time; a child that not even SIGKILL ends is left behind. A repository is entered by its name: under autofs
that is what mounts it. That it can be listed is the test, as stat(2) is answered from the kernel's cache long after the
client died.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pilot_agent import CVMFS
from pilot_agent.model import Json
from pilot_agent.probes.answers import NOT_RECORDED, Answer
from pilot_agent.probes.cvmfs.cvmfs_client import (
    ATTRIBUTES,
    DEAD,
    LOG,
    NOTHING_TOLD,
    ClientState,
    client_state,
    read_attributes,
)
from pilot_agent.probes.cvmfs.cvmfs_configuration import is_repository_name
from pilot_agent.probes.kernel.namespaces import errno_name
from pilot_agent.probes.mountinfo import Mount, read_mounts
from pilot_agent.probes.node import Node

MOST_REPOSITORIES = 64

State = Literal["ok", "broken", "hung", "io_error", "missing", "unreadable", "unknown"]


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """One repository.

    ``ok``: it answers. ``broken``: its client died. ``hung``: no answer in time; with ``stuck`` not even SIGKILL ended
    the child that asked. ``io_error``: the client lives and cannot serve it. ``missing``: nothing is mounted there.
    ``unreadable``: refused in another way. ``unknown``: not looked at. ``reason`` says what was found, ``remedy`` who
    must do what. ``kind`` is the file system's type where it is mounted.
    """

    repository: str
    state: State
    reason: str = ""
    remedy: str = ""
    path: str = ""
    kind: str | None = None
    stuck: bool = False
    client: ClientState = NOTHING_TOLD

    @property
    def ok(self) -> bool:
        """True when it answers."""
        return self.state == "ok"

    @property
    def revision(self) -> int | None:
        """The revision of its catalog, where the client tells it."""
        return self.client.revision

    def as_json(self) -> dict[str, Json]:
        """How facts show it: all in one object, what the client does not tell left out."""
        told = {name: value for name, value in asdict(self.client).items() if value is not None}
        if self.client.stale is not None:
            told["stale"] = self.client.stale
        return {
            "repository": self.repository,
            "path": self.path,
            "state": self.state,
            "reason": self.reason,
            "remedy": self.remedy,
            "type": self.kind,
            "stuck": self.stuck,
            **told,
        }


@dataclass(frozen=True, slots=True)
class Examined:
    """The repositories that were looked at, in the order asked for, and where: ``exists`` and ``writable`` speak of the
    mount point; ``problem`` says why that could not be looked at, ``recorded`` is false where a recording has none."""

    repositories: tuple[RepositoryState, ...] = ()
    exists: bool = False
    writable: bool = False
    problem: str = ""
    recorded: bool = True


def mounted_repositories(mounts: Sequence[Mount], mount_point: str = CVMFS) -> tuple[str, ...]:
    """The repositories that are mounted now, in the kernel's order."""
    names = [os.path.basename(mount.point) for mount in mounts if os.path.dirname(mount.point) == mount_point]
    return tuple(name for name in dict.fromkeys(names) if is_repository_name(name))


def examine(node: Node, names: Sequence[str], *, seconds: float, mount_point: str = CVMFS) -> Examined:
    """Look at the mount point and at these repositories below it; the answers come within ``seconds``, and what ending
    a child that hangs takes."""
    mounts = read_mounts(node)
    point = _ask_mount_point(node, mounts, mount_point, seconds)
    unique = tuple(dict.fromkeys(names))
    if not point.recorded:
        unknown = tuple(RepositoryState(name, "unknown", NOT_RECORDED) for name in unique)
        return Examined(unknown, problem=point.problem, recorded=False)
    exists = isinstance(point.value, Mapping)
    entered = [name for name in unique if is_repository_name(name)][:MOST_REPOSITORIES] if exists else []
    paths = {name: os.path.join(mount_point, name) for name in entered}
    trials = {_test_name(path): lambda path=path: look(path) for path in paths.values()}
    answers = node.ask_all(trials, seconds=seconds) if trials else {}
    if any(mount.kind == "autofs" and mount.point == mount_point for mount in mounts):
        mounts = read_mounts(node)
    judged = {name: judge(name, path, answers[_test_name(path)], mounts, seconds) for name, path in paths.items()}
    absent = f"this node has no {mount_point}" if point.problem.startswith("ENOENT") else ""
    problem = absent or point.problem
    states = tuple(judged.get(name) or _not_entered(name, mount_point, problem, point.hung) for name in unique)
    writable = isinstance(point.value, Mapping) and point.value.get("writable") is True
    return Examined(states, exists, writable, problem)


def look(path: str) -> Json:
    """Enter one repository, list it, and ask its client: the raw answer. To be run in a child, as it may hang.

    ``{"problem": errno name or "", "step": "enter|list|ask", "empty": bool, "attributes": {name: text}}``
    """
    attributes: dict[str, str] = {}
    found: dict[str, Json] = {"problem": "", "step": "enter", "empty": False, "attributes": attributes}
    try:
        # "/." makes autofs mount it where a plain stat would not.
        os.stat(path + "/.")
        found["step"] = "list"
        with os.scandir(path) as entries:
            found["empty"] = next(entries, None) is None
        found["step"] = "ask"
        read_attributes(path, ATTRIBUTES, attributes)
    except OSError as error:
        found["problem"] = errno_name(error.errno)
    if found["problem"] == "EIO":
        try:
            read_attributes(path, (*ATTRIBUTES, LOG), attributes)
        except OSError:
            attributes.clear()
    return found


def look_at_mount_point(path: str) -> Json:
    """``{"writable": bool}`` of a directory. Raises ``OSError`` when there is none."""
    with os.scandir(path):
        return {"writable": os.access(path, os.W_OK)}


def judge(name: str, path: str, answer: Answer, mounts: Sequence[Mount], seconds: float) -> RepositoryState:
    """What a raw answer says of a repository; ``mounts`` are the node's, ``seconds`` is what it was given."""
    mount = next((each for each in reversed(mounts) if each.point == path), None)
    autofs = any(each.kind == "autofs" and each.point == os.path.dirname(path) for each in mounts)
    kind = mount.kind if mount else None
    if not answer.recorded:
        return RepositoryState(name, "unknown", answer.problem, path=path, kind=kind)
    if answer.hung:
        reason, remedy = _hung(name, mount, seconds)
        return RepositoryState(name, "hung", reason, remedy, path, kind, answer.stuck)
    value = answer.value
    problem = value.get("problem") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(problem, str):
        return RepositoryState(name, "unknown", answer.problem or "the answer cannot be read", path=path, kind=kind)
    client = client_state(value.get("attributes"))
    state, reason = _verdict(problem, value.get("empty") is True, client)
    return RepositoryState(name, state, reason, _remedy(state, name, path, autofs), path, kind, False, client)


def _verdict(problem: str, empty: bool, client: ClientState) -> tuple[State, str]:
    if problem in DEAD:
        return "broken", f"the CVMFS client of this mount has died ({os.strerror(_number(problem))})"
    if problem == "EIO":
        said = f"; the client's last word: {client.log}" if client.log else ""
        used = f" (proxy {client.proxy}, host {client.host})" if client.proxy and client.host else ""
        return (
            "io_error",
            f"input/output error: no proxy or server can be reached{used}, or the cache's disk fails{said}",
        )
    if problem == "ENOENT":
        return "missing", "there is no such directory: not configured on this node, or autofs does not run"
    if problem == "ELOOP":
        return "unreadable", "too many links: autofs does not work in this mount namespace"
    if problem:
        return "unreadable", f"{os.strerror(_number(problem))} ({problem})"
    if empty:
        return "missing", "an empty directory: nothing is mounted there"
    if client.stale:
        late = -(client.expires_minutes or 0)
        return "ok", f"its catalog should have been renewed {late} min ago: the client does not follow the repository"
    return "ok", ""


def _hung(name: str, mount: Mount | None, seconds: float) -> tuple[str, str]:
    within = f"no answer within {seconds:g} s"
    if mount is None:
        reason = f"{within}: its mount hangs before it is there; the client waits, for example for a proxy"
        return reason, f"the site looks what `cvmfs_config probe {name}` and `cvmfs_config chksetup` say"
    reason = f"{within}: the mount hangs"
    if mount.kind.startswith("nfs"):
        return reason, f"the site repairs the NFS server of {mount.source}, or runs `umount -f -l {mount.point}`"
    number = mount.device.partition(":")[2]
    free = f"`echo 1 > /sys/fs/fuse/connections/{number}/abort` and `umount -l {mount.point}`"
    return reason, f"the site runs, as root, {free}; `cvmfs_config killall` frees all repositories at once"


def _remedy(state: State, name: str, path: str, autofs: bool) -> str:
    match state:
        case "broken":
            again = "the next access mounts it again" if autofs else f"then `mount {path}`"
            return f"the site runs, as root, `umount -l {path}`; {again}"
        case "io_error":
            return (
                f"the site looks what `cvmfs_config stat -v {name}` and `cvmfs_config chksetup` say, and at "
                "CVMFS_HTTP_PROXY in /etc/cvmfs/default.local"
            )
        case "missing":
            restart = (
                "`systemctl restart autofs`" if autofs else f"`cvmfs_config setup`, or `mount -t cvmfs {name} {path}`"
            )
            return f"the site adds {name} to CVMFS_REPOSITORIES in /etc/cvmfs/default.local and runs {restart}"
        case "unreadable":
            return (
                f"the site lets this account read {path}; into a container {os.path.dirname(path)} is bound as shared"
            )
        case _:
            return ""


def _number(name: str) -> int:
    import errno

    return next((number for number, known in errno.errorcode.items() if known == name), errno.EIO)


def _not_entered(name: str, mount_point: str, problem: str, hung: bool) -> RepositoryState:
    if not is_repository_name(name):
        bad = "no repository name: it must be a domain name such as images.example.org"
        return RepositoryState(name, "missing", bad, "whoever configured it corrects cvmfs.repositories")
    path = os.path.join(mount_point, name)
    if problem:
        remedy = f"the site frees or mounts {mount_point}, or binds it here"
        return RepositoryState(name, "hung" if hung else "missing", problem, remedy, path)
    reason = f"not looked at: it is not among the first {MOST_REPOSITORIES}"
    return RepositoryState(name, "unknown", reason, path=path)


def _ask_mount_point(node: Node, mounts: Sequence[Mount], path: str, seconds: float) -> Answer:
    """A look at the mount point itself; in a child only where it is a file system of its own that may hang."""
    dangerous = any(mount.point == path and mount.kind != "autofs" for mount in mounts)
    return node.ask(f"mount point {path}", lambda: look_at_mount_point(path), seconds=seconds, here=not dangerous)


def _test_name(path: str) -> str:
    return f"repository {path}"
