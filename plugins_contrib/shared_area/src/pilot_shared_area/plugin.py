"""A directory that the nodes of a site share, for software or data: found, bound into jobs' containers, advertised.

Such directories are often mounted when somebody looks (autofs), and hang when their server is away. The function that
looks is ended at its deadline; then the fact is unknown, and jobs do not get the bind.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pilot_agent.hookspecs import Attribute, ContainerRequest, Context, Mount, Option, Probe, hookimpl
from pilot_agent.model import Fact

PLUGIN = "shared_area"
KIND, PATH, FREE = f"{PLUGIN}.kind", f"{PLUGIN}.path", f"{PLUGIN}.free_mib"
MEBIBYTE = 1 << 20
LOOK_SECONDS = 20.0


def find_kind(context: Context) -> Iterator[Fact]:
    """The file system that the node's mount table has at the path or above it; nothing of it is touched."""
    path = _options(context.config)["path"]
    with open(context.path("/proc/self/mountinfo"), encoding="utf-8", errors="surrogateescape") as table:
        kind = kind_at(table.read(), path)
    yield Fact(KIND, kind, source="/proc/self/mountinfo")


def kind_at(mountinfo: str, path: str) -> str:
    """The type of the file system that holds ``path`` by the mount table (proc_pid_mountinfo(5))."""
    best, kind = "", "unknown"
    for line in mountinfo.splitlines():
        own, _, rest = line.partition(" - ")
        fields = own.split()
        if len(fields) < 5 or not rest:
            continue
        point = fields[4].replace("\\040", " ")
        holds = path == point or path.startswith(point.rstrip("/") + "/")
        if holds and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind


def look(context: Context) -> Iterator[Fact]:
    """Whether the directory is there and answers, which mounts it where autofs does that, and what is free in it."""
    path = _options(context.config)["path"]
    place = context.path(path)
    try:
        os.listdir(place)
        free = os.statvfs(place)
    except OSError as error:
        for name in (PATH, FREE):
            yield Fact.absent(name, f"{path}: {error.strerror}", source=path)
        return
    yield Fact(PATH, path, source=path)
    yield Fact(FREE, free.f_bavail * free.f_frsize // MEBIBYTE, unit="MiB", source=path)


@hookimpl
def pilot_options() -> Iterable[Option]:
    """Declare what a site or a VO may say."""
    yield Option(name="path", type="string", default="/shared", help="the directory on the node")
    yield Option(name="inside", type="string", default="", help="where jobs find it; otherwise at the same path")
    yield Option(name="writable", type="boolean", default=False, help="whether jobs may write to it")
    yield Option(
        name="attribute", type="string", default="HAS_SHARED_AREA", help="attribute of the machine ad: the path"
    )


@hookimpl
def pilot_probes() -> Iterable[Probe]:
    """Declare the look at the mount table."""
    yield Probe(name="shared_area_kind", run=f"{__name__}:find_kind", gives=(KIND,))


@hookimpl
def pilot_mounts() -> Iterable[Mount]:
    """Declare the look that mounts what is mounted on demand."""
    yield Mount(name="shared_area", run=f"{__name__}:look", gives=(PATH, FREE), timeout_seconds=LOOK_SECONDS)


@hookimpl
def pilot_containers(config: Mapping[str, Any]) -> Iterable[ContainerRequest]:
    """Declare the bind; one whose source is not there is left out by the pilot, and the report says so."""
    options = _options(config)
    _require_absolute(options)
    inside = options["inside"] or options["path"]
    mode = "" if options["writable"] else ":ro"
    yield ContainerRequest(name="shared_area", binds=(f"{options['path']}:{inside}{mode}",))


@hookimpl
def pilot_attributes(config: Mapping[str, Any]) -> Iterable[Attribute]:
    """Declare what jobs may ask for."""
    yield Attribute(name=_options(config)["attribute"], fact=PATH)
    yield Attribute(name="SHARED_AREA_FREE_MIB", fact=FREE)


def _require_absolute(options: Mapping[str, Any]) -> None:
    for name in ("path", "inside"):
        value = options[name]
        if value and (not value.startswith("/") or ":" in value):
            raise ValueError(
                f"plugins.options.{PLUGIN}.{name} is {value!r}; an absolute path without a colon is needed"
            )


def _options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    options: Mapping[str, Any] = config["plugins"]["options"][PLUGIN]
    return options
