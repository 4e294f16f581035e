"""The operating system: distribution, kernel, architecture, C library, what surrounds the pilot and what limits it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer
from pilot_agent.probes.resources.processors import parse_cpuinfo
from pilot_agent.probes.software.stamps import Stamp, search_stamp, stamp_of
from pilot_agent.probes.system.limits import find_limits
from pilot_agent.probes.system.microarch import microarchitecture
from pilot_agent.probes.system.regional import find_locale, find_time_zone
from pilot_agent.probes.system.security import find_apparmor, find_selinux
from pilot_agent.probes.system.surroundings import container_marks
from pilot_agent.probes.system.virtualisation import find_virtualisation

_LIBRARY_DIRECTORIES = (
    "/lib64",
    "/usr/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/powerpc64le-linux-gnu",
    "/usr/lib/powerpc64le-linux-gnu",
    "/lib",
    "/usr/lib",
)
_BANNER = b"GNU C Library "
_BANNER_FORM = rb"GNU C Library [^\n\0]{0,120}release version ([0-9]{1,3}\.[0-9]{1,3})"
_KERNEL = "/proc/sys/kernel/osrelease"
_HOST_NAME = "/proc/sys/kernel/hostname"
_BOOT = "/proc/sys/kernel/random/boot_id"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KERNEL_LIMITS = (
    ("os.pid_max", "processes", "/proc/sys/kernel/pid_max"),
    ("os.threads_max", "threads", "/proc/sys/kernel/threads-max"),
)
_ASSIGNMENT = r"""([A-Z0-9_]+)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s"']*))\s*"""


def parse_os_release(text: str) -> dict[str, str]:
    """The variables of an os-release file (os-release(5)); lines in another form are left out."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(_ASSIGNMENT, line)
        if match:
            quoted, single, bare = match[2], match[3], match[4]
            found[match[1]] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else (single or bare or "")
    return found


def parse_red_hat_release(text: str) -> dict[str, str]:
    """The same from ``/etc/redhat-release``, which systems older than os-release have alone."""
    match = re.match(r"([A-Za-z][A-Za-z ]{0,60}) release ([0-9]{1,4}(?:\.[0-9]{1,4})*)", text)
    if not match:
        return {}
    name = match[1].lower()
    identifier = "rhel" if name.startswith("red hat") else name.split()[0]
    return {"ID": identifier, "VERSION_ID": match[2], "PRETTY_NAME": text.splitlines()[0].strip()}


def parse_glibc(library: bytes) -> str | None:
    """The version in the banner that glibc's ``libc.so.6`` carries; None when it is another library."""
    return search_stamp(library, Stamp("", _BANNER, _BANNER_FORM))


def probe_os(context: Context) -> Iterator[Finding]:
    """``os.id``, ``like``, ``version``, ``pretty_name``, ``kernel``, ``arch``, ``glibc``, ``microarch``; what is around
    the pilot (``virtualisation``, ``container``, ``selinux``, ``apparmor``); ``limits``, ``locale``, ``timezone``; and
    of this boot ``hostname``, ``uptime_seconds``, ``boot_id``, ``pid_max``, ``threads_max``.

    Nothing but files and variables is looked at, so nothing is started.
    """
    node = Node.of(context)
    yield from _distribution(node)
    processor = parse_cpuinfo(node.read("/proc/cpuinfo", limit_bytes=8 << 10) or "")
    yield from _platform(node, processor.flags, processor.model or "")
    yield _glibc(node)
    yield find_virtualisation(node, processor.flags)
    yield _container(node, context.environment)
    yield find_selinux(node)
    yield find_apparmor(node)
    yield find_limits(node)
    yield find_locale(context.environment)
    yield find_time_zone(node, context.environment)
    yield from _this_boot(node)


def _platform(node: Node, flags: Collection[str], model: str) -> Iterator[Fact]:
    yield _fact("os.kernel", node.read_line(_KERNEL), _KERNEL, "it could not be read")
    architecture, source = _architecture(node, flags, model)
    yield _fact("os.arch", architecture, source, "neither the kernel nor /proc/cpuinfo says it")
    if architecture not in (None, "x86_64"):
        yield Fact.absent("os.microarch", f"levels are defined for x86-64, this is {architecture}")
    else:
        level = microarchitecture(flags)
        yield _fact("os.microarch", level, "/proc/cpuinfo flags", "no flags of an x86-64 processor are listed")


def _container(node: Node, environment: Mapping[str, str]) -> Fact:
    marks = list(container_marks(node, environment))
    if marks:
        others = ", ".join(f"{kind} by {source}" for kind, source in marks[1:])
        return Fact("os.container", marks[0][0], source=marks[0][1], detail=f"also {others}" if others else "")
    looked_for = (
        "no variable, file, control group or mount of Docker, Podman, Kubernetes, Apptainer, LXC, systemd-nspawn, "
        "Charliecloud or Shifter was found"
    )
    return Fact.absent("os.container", looked_for)


def _this_boot(node: Node) -> Iterator[Fact]:
    yield _fact("os.hostname", node.read_line(_HOST_NAME), _HOST_NAME, "it could not be read")
    words = (node.read("/proc/uptime", limit_bytes=4096) or "").split()
    uptime = parse_integer(words[0].partition(".")[0]) if words else None
    yield _number("os.uptime_seconds", uptime, "s", "/proc/uptime")
    boot = node.read_line(_BOOT) or ""
    yield _fact("os.boot_id", boot if re.fullmatch(_UUID, boot) else None, _BOOT, "it could not be read")
    for name, unit, path in _KERNEL_LIMITS:
        yield _number(name, node.read_integer(path), unit, path)


def _number(name: str, value: int | None, unit: str, source: str) -> Fact:
    if value is None:
        return Fact.unknown(name, "it could not be read", source=source)
    return Fact(name, value, unit, source=source)


def _fact(name: str, value: str | None, source: str, otherwise: str) -> Fact:
    return Fact(name, value, source=source) if value else Fact.unknown(name, otherwise, source=source)


def _distribution(node: Node) -> Iterator[Fact]:
    for source in ("/etc/os-release", "/usr/lib/os-release"):
        found = parse_os_release(node.read(source) or "")
        if found:
            # os-release(5): a distribution without an identifier is "linux".
            found.setdefault("ID", "linux")
            break
    else:
        source = "/etc/redhat-release"
        found = parse_red_hat_release(node.read(source) or "")
    missing = f"{source} does not say it" if found else "neither os-release nor redhat-release could be read"
    yield _fact("os.id", found.get("ID"), source, missing)
    if found:
        yield Fact("os.like", found.get("ID_LIKE", "").split(), source=source)
    else:
        yield Fact.unknown("os.like", missing, source=source)
    yield _fact("os.version", found.get("VERSION_ID"), source, missing)
    yield _fact("os.pretty_name", found.get("PRETTY_NAME"), source, missing)


def _architecture(node: Node, flags: Collection[str], model: str) -> tuple[str | None, str]:
    source = "/proc/sys/kernel/arch"
    named = node.read_line(source)
    if named:
        return named, source
    answer = node.ask("uname machine", _machine, here=True)
    if isinstance(answer.value, str) and answer.value:
        return answer.value, "uname"
    if "lm" in flags:
        return "x86_64", "/proc/cpuinfo flags"
    # Kernels of 64-bit Arm list these two under every processor.
    if {"fp", "asimd"} <= set(flags):
        return "aarch64", "/proc/cpuinfo Features"
    return ("ppc64le", "/proc/cpuinfo cpu") if model.startswith("POWER") else (None, source)


def _machine() -> Json:
    return os.uname().machine


def _glibc(node: Node) -> Fact:
    """The node's own C library, read and not asked: the pilot's interpreter may have brought another one."""

    def reading() -> Json:
        for directory in _LIBRARY_DIRECTORIES:
            path = f"{directory}/libc.so.6"
            version = stamp_of(node, Stamp(path, _BANNER, _BANNER_FORM))
            if version:
                return {"path": path, "version": version}
        return None

    answer = node.ask("version of the C library", reading, here=True)
    value = answer.value if answer.recorded else reading()
    if isinstance(value, dict) and isinstance(value.get("version"), str):
        return Fact("os.glibc", value["version"], source=str(value.get("path")))
    musl = [name for name in node.names("/lib") if name.startswith("ld-musl-")]
    if musl:
        return Fact.absent("os.glibc", "the C library is musl", source=f"/lib/{musl[0]}")
    return Fact.unknown("os.glibc", "no libc.so.6 with glibc's banner was found")
