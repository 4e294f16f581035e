"""What of an HTCondor installation an execute node needs, and where it lies in the trees of distributions."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from payload.console import BuildError

from condor_tarball.elf import MAGIC

# The daemons of an execute node, and the tools that the pilot or whoever looks into a running one calls. What is not
# needed is taken where it is there: versions of HTCondor differ.
NEEDED = (
    *("sbin/condor_master", "sbin/condor_startd", "sbin/condor_starter", "sbin/condor_procd"),
    *("bin/condor_config_val", "bin/condor_ping", "bin/condor_version"),
    *("libexec/condor_shared_port", "libexec/curl_plugin"),
)
WANTED = (
    *("sbin/condor_advertise", "sbin/condor_nsenter", "bin/condor_nsenter", "bin/condor_docker_enter"),
    *("bin/condor_status", "bin/condor_who", "bin/condor_drain", "bin/condor_ssh_start", "bin/classad_eval"),
    *("libexec/data_plugin", "libexec/condor_chirp", "libexec/condor_gpu_discovery", "libexec/condor_gpu_utilization"),
    *("libexec/condor_ssh_to_job_shell_setup", "libexec/condor_ssh_to_job_sshd_setup", "libexec/sshd.sh"),
    *("libexec/condor_pid_ns_init", "libexec/condor_power_state", "libexec/condor_kflops", "libexec/condor_mips"),
    *("libexec/condor_limits_wrapper.sh", "libexec/cleanup_locally_mounted_checkpoint"),
    *("libexec/singularity_test_sandbox", "libexec/exit_37.sif"),
    *("lib/condor_ssh_to_job_sshd_config_template", "lib/libgetpwnam.so"),
)
# Where distributions keep them: Debian, the RPMs of HTCondor, its own tarballs.
PLACES = {
    "sbin": ("usr/sbin", "sbin"),
    "bin": ("usr/bin", "bin"),
    "libexec": ("usr/libexec/condor", "usr/lib/condor/libexec", "libexec/condor", "libexec"),
    "lib": ("usr/lib64/condor", "usr/lib/condor", "usr/lib", "lib64/condor", "lib/condor", "lib"),
}
TARGETS = {"sbin": "sbin", "bin": "bin", "libexec": "libexec/condor", "lib": "lib/condor"}
COPYRIGHT = ("usr/share/doc/condor/copyright", "usr/share/licenses/condor/LICENSE", "LICENSE", "LICENSE-2.0.txt")

_VERSION = re.compile(rb"\$CondorVersion: (\d+\.\d+\.\d+)")
_OS_RELEASE = re.compile(r'^(ID|VERSION_ID)="?([A-Za-z0-9._-]+)"?\s*$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Member:
    """One file or directory of the tarball, by its name there: a directory has no content."""

    name: str
    content: bytes | None
    executable: bool


def installed(tree: Path) -> list[Member]:
    """The files of the HTCondor in a distribution's tree, sorted. BuildError that names what is missing."""
    found: dict[str, Member] = {}
    missing = []
    for wanted in (*NEEDED, *WANTED):
        part, _, name = wanted.partition("/")
        source = _first(tree, [f"{place}/{name}" for place in PLACES[part]])
        if source is None:
            missing += [wanted] if wanted in NEEDED else []
            continue
        found |= {member.name: member for member in _members(source, f"{TARGETS[part]}/{name}")}
    if missing:
        hint = "give --root the tree of a distribution with HTCondor's execute package"
        raise BuildError(f"{tree} has no {', '.join(missing)}: {hint}")
    if (licence := _first(tree, COPYRIGHT)) is not None:
        found |= {member.name: member for member in _members(licence, "LICENSE")}
    return [found[name] for name in sorted(found)]


def version_of(members: list[Member]) -> str:
    """The version that HTCondor's starter carries. BuildError when it carries none."""
    content = next(member.content for member in members if member.name == "sbin/condor_starter")
    match = _VERSION.search(content or b"")
    if match is None:
        raise BuildError("condor_starter carries no $CondorVersion$: it is not HTCondor's")
    return match[1].decode()


def distribution_of(tree: Path) -> tuple[str, str]:
    """Name and version of the distribution, as its os-release has them (debian, 13). BuildError when it has none."""
    for name in ("etc/os-release", "usr/lib/os-release"):
        path = resolved(tree, name)
        if path is not None:
            found = dict(_OS_RELEASE.findall(path.read_text(encoding="utf-8")))
            return found.get("ID", "linux"), found.get("VERSION_ID", "")
    raise BuildError(f"{tree} has no etc/os-release; give --os NAME:VERSION")


def resolved(tree: Path, name: str) -> Path | None:
    """The file of that name in a tree, links followed as in the tree itself; None when there is none."""
    here, parts, links = tree, list(PurePosixPath(name).parts), 0
    while parts:
        part = parts.pop(0)
        if part in ("/", "."):
            continue
        if part == "..":
            here = here.parent if here != tree else tree
            continue
        following = here / part
        if following.is_symlink():
            links += 1
            target = PurePosixPath(os.readlink(following))
            here = tree if target.is_absolute() else here
            parts = [*target.parts, *parts]
            if links > 40:
                return None
            continue
        here = following
    return here if here.exists() else None


def _first(tree: Path, names: Iterable[str]) -> Path | None:
    return next((path for name in names if (path := resolved(tree, name)) is not None), None)


def _members(source: Path, name: str) -> Iterator[Member]:
    status = source.lstat()
    if stat.S_ISDIR(status.st_mode):
        yield Member(name, None, executable=True)
        for inner in sorted(source.iterdir()):
            yield from _members(inner, f"{name}/{inner.name}")
    elif stat.S_ISREG(status.st_mode):
        content = source.read_bytes()
        # RPMs give some programs no right to be read by others, and libraries the right to be run.
        yield Member(name, content, executable=bool(status.st_mode & 0o111) and not _library(name, content))


def _library(name: str, content: bytes) -> bool:
    return content.startswith(MAGIC) and ".so" in PurePosixPath(name).name
