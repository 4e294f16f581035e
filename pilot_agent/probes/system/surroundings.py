"""The container around the pilot, by the marks that container runtimes leave inside.

There may be several, as Apptainer is often started in a container of Kubernetes: the innermost is told, with all marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pilot_agent.model import Json
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.resources.cgroup import parse_memberships

# Runtimes that start programs in a batch job say so in their environment: Apptainer and Singularity always,
# Charliecloud in ch-run(1), Shifter where the site configures siteEnv as its manual proposes.
_JOB_VARIABLES = (
    ("APPTAINER_CONTAINER", "apptainer"),
    ("SINGULARITY_CONTAINER", "singularity"),
    ("CH_RUNNING", "charliecloud"),
    ("SHIFTER_RUNTIME", "shifter"),
)
# What the variable "container" of systemd's Container Interface holds, where the name is not the runtime's own.
_RUNTIME_NAMES = {"oci": "oci", "lxc-libvirt": "lxc"}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
# The control groups that runtimes make, seen where the container has no cgroup namespace of its own.
_GROUPS = (
    (re.compile(r"/kubepods(?:[./-]|\.slice)"), "kubernetes"),
    (re.compile(r"/docker[/-][0-9a-f]{12,}"), "docker"),
    (re.compile(r"/libpod-(?:conmon-)?[0-9a-f]{12,}"), "podman"),
    (re.compile(r"/lxc(?:\.payload)?[./][^/]"), "lxc"),
    (re.compile(r"/systemd-nspawn@|/machine\.slice/machine-[^/]+\.scope"), "systemd-nspawn"),
)
# Where runtimes keep what they mount into a container: the root of a bind mount, or the layers of an overlay.
_STORES = (
    (re.compile(r"/kubelet/pods/"), "kubernetes"),
    (re.compile(r"/docker/(?:containers|overlay2|vfs|btrfs)/"), "docker"),
    (re.compile(r"/containers/(?:storage/)?overlay(?:-containers)?/"), "podman"),
    (re.compile(r"/io\.containerd\.snapshotter"), "containerd"),
)


def container_around(node: Node, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The kind of the innermost container around the pilot and where that was seen; None when nothing shows one."""
    return next(iter(container_marks(node, environment)), None)


def container_marks(node: Node, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every kind of container that something shows and where, the innermost and surest first, each kind once."""
    seen = set()
    for kind, source in _marks(node, environment):
        if kind not in seen:
            seen.add(kind)
            yield kind, source


def _marks(node: Node, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable, kind in _JOB_VARIABLES:
        if environment.get(variable):
            yield kind, variable
    if node.exists("/.singularity.d"):
        yield "apptainer", "/.singularity.d"
    if environment.get("KUBERNETES_SERVICE_HOST"):
        yield "kubernetes", "KUBERNETES_SERVICE_HOST"
    if node.exists("/var/run/secrets/kubernetes.io"):
        yield "kubernetes", "/var/run/secrets/kubernetes.io"
    groups = [path for _, path in parse_memberships(node.read("/proc/self/cgroup") or "")]
    yield from _matching(_GROUPS, groups, "/proc/self/cgroup")
    mounts = list(_mounted(node))
    yield from _matching(_STORES[:1], mounts, "/proc/self/mountinfo")
    if node.exists("/run/.containerenv"):
        yield "podman", "/run/.containerenv"
    if node.exists("/.dockerenv"):
        yield "docker", "/.dockerenv"
    yield from _matching(_STORES[1:], mounts, "/proc/self/mountinfo")
    yield from _declared(node, environment)


def _mounted(node: Node) -> Iterator[str]:
    """Where the files of the root and of the few that runtimes bind into every container come from."""
    for mount in read_mounts(node):
        if mount.point in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"):
            yield mount.root
        elif mount.point == "/" and mount.kind in ("overlay", "fuse.fuse-overlayfs"):
            yield from (option for option in mount.options if option.startswith(("lowerdir=", "upperdir=")))


def _matching(
    table: tuple[tuple[re.Pattern[str], str], ...], texts: list[str], source: str
) -> Iterator[tuple[str, str]]:
    for pattern, kind in table:
        found = next((match for text in texts if (match := pattern.search(text))), None)
        if found:
            yield kind, f"{source} ({found[0]})"


def _declared(node: Node, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What a manager declared to the first process, by the Container Interface of systemd."""
    for path in ("/run/host/container-manager", "/run/systemd/container"):
        yield from _runtime(node.read_line(path), path)
    yield from _runtime(environment.get("container"), "container")
    answer = node.ask("variable container of process 1", _variable_of_first_process, here=True)
    yield from _runtime(answer.value, "/proc/1/environ")


def _runtime(name: Json, source: str) -> Iterator[tuple[str, str]]:
    if isinstance(name, str) and _NAME.fullmatch(name.strip().lower()):
        kind = name.strip().lower()
        yield _RUNTIME_NAMES.get(kind, kind), source


def _variable_of_first_process() -> Json:
    """The variable alone: the rest of that environment is nobody's business. Raises ``OSError``: only root may."""
    with open("/proc/1/environ", "rb") as stream:
        variables = stream.read(64 << 10).split(b"\0")
    found = next((variable for variable in variables if variable.startswith(b"container=")), b"")
    return found.partition(b"=")[2].decode("utf-8", "replace")
