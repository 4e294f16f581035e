"""CVMFS that the site mounts itself: which repositories answer below ``/cvmfs``, and why the others do not.

A broken or hung mount must not cost the pilot more than a deadline, so each repository is looked at in a child of
its own, all at the same time. A repository is entered by its name: under autofs that is what mounts it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Json
from pilot_agent.probes.answers import NOT_RECORDED
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer
from pilot_agent.process import Result, Runner

MOUNT_POINT = "/cvmfs"
REPOSITORY_SECONDS = 20.0
_REASONS = {
    errno.ENOENT: "there is no such directory: not configured on this node, or autofs does not run",
    errno.ENOTCONN: "the CVMFS client of this mount has died (Transport endpoint is not connected); the site must "
    "unmount it",
    errno.EIO: "input/output error: no proxy or server can be reached, or the cache's disk fails",
    errno.EACCES: "permission denied",
    errno.ELOOP: "too many links: autofs does not work in this mount namespace; bind /cvmfs shared",
}


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """One repository: why it was refused (empty when it answers), and its revision where the client tells it."""

    repository: str
    refused: str = ""
    revision: int | None = None


def find_native(context: Context) -> Iterator[Fact]:
    """``cvmfs.repositories`` that answer, ``cvmfs.refused``, ``cvmfs.revisions`` and ``cvmfs.mount_point``.

    Looks at ``cvmfs.repositories`` of the configuration; without any, at what the node has mounted.
    """
    node = Node.of(context)
    if not node.live:
        for name in ("repositories", "refused", "revisions", "mount_point"):
            yield Fact.unknown(f"cvmfs.{name}", NOT_RECORDED)
        return
    wanted = _configured(context.config) or mounted_repositories(node)
    states = examine(MOUNT_POINT, wanted)
    yield from report(states, mounted=node.exists(MOUNT_POINT))


def mounted_repositories(node: Node, mount_point: str = MOUNT_POINT) -> tuple[str, ...]:
    """The repositories that are mounted now, in the kernel's order, without touching any."""
    points = [mount.point for mount in read_mounts(node) if os.path.dirname(mount.point) == mount_point]
    return tuple(dict.fromkeys(os.path.basename(point) for point in points if "." in os.path.basename(point)))


def examine(
    mount_point: str, repositories: Sequence[str], *, deadline_seconds: float = REPOSITORY_SECONDS
) -> tuple[RepositoryState, ...]:
    """The state of each repository below ``mount_point``, in the order given."""
    found: dict[str, RepositoryState] = {}
    named = [name for name in dict.fromkeys(repositories) if is_repository_name(name)]
    if not named:
        pass
    elif not os.path.isdir(mount_point):
        found = {name: RepositoryState(name, f"this node has no {mount_point}") for name in named}
    else:
        found = _examine_concurrently(mount_point, named, deadline_seconds)
    bad = "no repository name: it must be a domain name such as images.example.org"
    return tuple(found.get(name) or RepositoryState(name, bad) for name in dict.fromkeys(repositories))


def is_repository_name(name: str) -> bool:
    """True for what can be the name of a repository, and so of one directory below the mount point."""
    return "." in name.strip(".") and not name.startswith(".") and all(c.isalnum() or c in "._-" for c in name)


def _examine_concurrently(mount_point: str, names: Sequence[str], seconds: float) -> dict[str, RepositoryState]:
    found = {}
    with Runner() as runner:
        running = {}
        for name in names:
            path = os.path.join(mount_point, name)
            handle = runner.start_call(lambda p=path: look(p), name=path, deadline_seconds=seconds)  # type: ignore[misc]
            running[handle] = name
        while running:
            handle, result = runner.wait_any()
            name = running.pop(handle)
            found[name] = _state(name, result)
    return found


def look(path: str) -> bytes:
    """Enter one repository and list it: a ``RepositoryState`` as JSON. Runs in a child, as it may hang."""
    name = os.path.basename(path)
    try:
        # "/." makes autofs mount it where a plain stat would not.
        os.stat(path + "/.")
        with os.scandir(path) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        refused = _REASONS.get(error.errno or 0, error.strerror or "cannot be read")
        return json.dumps(asdict(RepositoryState(name, refused))).encode()
    if empty:
        return json.dumps(asdict(RepositoryState(name, "an empty directory: nothing is mounted there"))).encode()
    revision = None
    # Clients may hide their attributes, and what is exported by NFS or bound from elsewhere has none.
    with contextlib.suppress(OSError):
        revision = parse_integer(os.getxattr(path, "user.revision").decode("ascii", "replace"))
    return json.dumps(asdict(RepositoryState(name, "", revision))).encode()


def _state(name: str, result: Result) -> RepositoryState:
    if result.timed_out:
        return RepositoryState(name, f"no answer within {result.seconds:.0f} s: the mount hangs; the site must free it")
    try:
        return RepositoryState(**json.loads(result.answer)) if result.ok else RepositoryState(name, result.explain())
    except (ValueError, TypeError) as error:
        return RepositoryState(name, f"the answer cannot be read: {error}")


def report(states: Sequence[RepositoryState], *, mounted: bool) -> Iterator[Fact]:
    """The facts of these states; ``mounted`` says whether the mount point exists."""
    source = f"stat and readdir below {MOUNT_POINT}"
    answering = [state.repository for state in states if not state.refused]
    revisions = {state.repository: state.revision for state in states if state.revision is not None}
    refused = [{"repository": state.repository, "reason": state.refused} for state in states if state.refused]
    yield Fact("cvmfs.repositories", answering, source=source)
    yield Fact("cvmfs.refused", refused, source=source)
    yield Fact("cvmfs.revisions", revisions, source="extended attribute user.revision")
    if mounted:
        yield Fact("cvmfs.mount_point", MOUNT_POINT, source="stat")
    else:
        yield Fact.absent("cvmfs.mount_point", f"this node has no {MOUNT_POINT}", source="stat")


def _configured(config: Mapping[str, Json]) -> tuple[str, ...]:
    section = config.get("cvmfs")
    names = section.get("repositories") if isinstance(section, Mapping) else None
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list | tuple) else ()
