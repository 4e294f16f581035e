"""The operating system: distribution, kernel, architecture, C library, and what surrounds the pilot."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding
from pilot_agent.probes.cpu import parse_cpuinfo
from pilot_agent.probes.node import Node

# The levels of the x86-64 psABI (section "Micro-Architecture Levels") in the names of /proc/cpuinfo.
_LEVELS = (
    ("x86-64-v1", "cmov cx8 fpu fxsr mmx sse sse2 syscall"),
    ("x86-64-v2", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"),
    ("x86-64-v3", "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"),
    ("x86-64-v4", "avx512bw avx512cd avx512dq avx512f avx512vl"),
)
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
_LIBRARY_LIMIT_BYTES = 8 << 20
_BANNER = rb"GNU C Library [^\n\0]{0,120}release version ([0-9]{1,3}\.[0-9]{1,3})"
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


def microarchitecture(flags: Collection[str]) -> str | None:
    """The highest x86-64 level of a processor with these flags; None when it is no x86-64 processor."""
    reached = None
    for level, needed in _LEVELS:
        if not set(needed.split()) <= set(flags):
            break
        reached = level
    return reached if "lm" in flags else None


def parse_glibc(library: bytes) -> str | None:
    """The version in the banner that glibc's ``libc.so.6`` carries; None when it is another library."""
    match = re.search(_BANNER, library)
    return match[1].decode() if match else None


def probe_os(context: Context) -> Iterator[Finding]:
    """``os.id``, ``version``, ``pretty_name``, ``kernel``, ``arch``, ``glibc``, ``microarch`` and ``container``."""
    node = Node.of(context)
    yield from _distribution(node)
    kernel = node.read_line("/proc/sys/kernel/osrelease")
    yield _fact("os.kernel", kernel, "/proc/sys/kernel/osrelease", "it could not be read")
    processor = parse_cpuinfo(node.read("/proc/cpuinfo", limit_bytes=8 << 10) or "")
    architecture, source = _architecture(node, processor.flags, processor.model or "")
    yield _fact("os.arch", architecture, source, "neither the kernel nor /proc/cpuinfo says it")
    yield _glibc(node)
    if architecture not in (None, "x86_64"):
        yield Fact.absent("os.microarch", f"levels are defined for x86-64, this is {architecture}")
    else:
        level = microarchitecture(processor.flags)
        yield _fact("os.microarch", level, "/proc/cpuinfo flags", "no flags of an x86-64 processor are listed")
    found = container_around(node, context.environment)
    if found:
        yield Fact("os.container", found[0], source=found[1])
    else:
        yield Fact.absent("os.container", "no mark of Docker, Podman, Kubernetes, Apptainer or systemd was found")


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
    yield _fact("os.version", found.get("VERSION_ID"), source, missing)
    yield _fact("os.pretty_name", found.get("PRETTY_NAME"), source, missing)


def _architecture(node: Node, flags: Collection[str], model: str) -> tuple[str | None, str]:
    source = "/proc/sys/kernel/arch"
    named = node.read_line(source)
    if named:
        return named, source
    if node.live:
        return os.uname().machine, "uname"
    if "lm" in flags:
        return "x86_64", "/proc/cpuinfo flags"
    # Kernels of 64-bit Arm list these two under every processor.
    if {"fp", "asimd"} <= set(flags):
        return "aarch64", "/proc/cpuinfo Features"
    return ("ppc64le", "/proc/cpuinfo cpu") if model.startswith("POWER") else (None, source)


def _glibc(node: Node) -> Fact:
    """The node's own C library, read and not asked: the pilot's interpreter may have brought another one."""
    for directory in _LIBRARY_DIRECTORIES:
        path = f"{directory}/libc.so.6"
        version = parse_glibc(node.read_bytes(path, limit_bytes=_LIBRARY_LIMIT_BYTES) or b"")
        if version:
            return Fact("os.glibc", version, source=path)
    musl = [name for name in node.names("/lib") if name.startswith("ld-musl-")]
    if musl:
        return Fact.absent("os.glibc", "the C library is musl", source=f"/lib/{musl[0]}")
    return Fact.unknown("os.glibc", "no libc.so.6 with glibc's banner was found")


def container_around(node: Node, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The kind of the container around the pilot and where that was seen; None when nothing shows one."""
    for variable in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        if environment.get(variable):
            return variable.partition("_")[0].lower(), variable
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes", "KUBERNETES_SERVICE_HOST"
    if node.exists("/run/.containerenv"):
        return "podman", "/run/.containerenv"
    if node.exists("/.dockerenv"):
        return "docker", "/.dockerenv"
    named = node.read_line("/run/systemd/container")
    if named:
        return named, "/run/systemd/container"
    return None
