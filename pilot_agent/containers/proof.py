"""Proof: a program really runs in an image, with the options that jobs get, and tells what it found there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pilot_agent import CVMFS
from pilot_agent.containers import fitness
from pilot_agent.containers.command import TARGET_DIRECTORY, Bind, ContainerRun, runtime_options
from pilot_agent.containers.cvmfs_paths import physical
from pilot_agent.containers.messages import Diagnosis, diagnose
from pilot_agent.containers.runtime import RuntimeProgram, mode_of
from pilot_agent.model import FailureKind, Json
from pilot_agent.process import Result

# Shell builtins only, but for the C library, which prints its own version: every process here is paid by every pilot.
# A failed redirection of a special builtin such as ":" would end the shell, so "true" is used.
SCRIPT = r"""
m=$1
echo "$m pid $$ $PPID"
while read -r a; do echo "$m uid_map $a"; break; done < /proc/self/uid_map
f=/etc/os-release; [ -r "$f" ] || f=/usr/lib/os-release
if [ -r "$f" ]; then while read -r a; do case $a in ID=*|VERSION_ID=*) echo "$m os $a";; esac; done < "$f"; fi
for d in /tmp /var/tmp; do if true > "$d/.pilot-proof-$m"; then echo "$m writable $d"; fi; done 2>/dev/null
for f in /lib/*-linux-gnu/libc.so.6 /lib64/libc.so.6 /lib/libc.so.6 /lib/ld-musl-*.so.1; do
if [ -x "$f" ]; then "$f" 2>&1; break; fi; done
"""
END = 'echo "$m end"\n'

_GLIBC = re.compile(r"^GNU C Library .* version (\d+\.\d+)", re.MULTILINE)
_MUSL = re.compile(r"^musl libc.*\n^Version (\S+)", re.MULTILINE)
CONVERTED = "Converting SIF file to temporary sandbox"


@dataclass(frozen=True, slots=True)
class ProofSetting:
    """What all proofs of one runtime share. ``temporary`` is where each gets a directory of its own."""

    program: RuntimeProgram
    environment: Mapping[str, str]
    temporary: str
    binds: tuple[Bind, ...] = ()
    options: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    """CVMFS repositories that answer on the node, to be looked for inside."""
    target: str = TARGET_DIRECTORY
    """Where jobs' scratch directory appears inside."""
    cvmfs: str = CVMFS
    """Where the node has what is below /cvmfs."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How a proof ended. Without ``diagnosis`` the image runs; ``pid_namespace`` is what was seen inside."""

    seconds: float
    diagnosis: Diagnosis | None = None
    mode: Literal["userns", "setuid"] = "userns"
    pid_namespace: bool = False
    facts: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A prepared proof: the command to run, the mark by which its output is known, the directory it leaves."""

    argv: list[str]
    mark: str
    scratch: str
    repositories: tuple[str, ...] = ()
    own_mount: bool = False
    """Whether the image lies in a mount that this account made, and that it alone may enter."""

    def clear(self) -> None:
        """Remove what the run left; what cannot be removed goes with the workspace."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def prepare(setting: ProofSetting, image: str, *, pid_namespace: bool) -> Attempt:
    """The proof of one image. Raises ``OSError`` when there is no room for its directory."""
    # Not from the secrets module: its OpenSSL would cost every pilot more than the whole preparation.
    mark = f"proof-{os.urandom(8).hex()}"
    scratch = os.path.join(setting.temporary, mark)
    os.mkdir(scratch, 0o700)
    place = physical(image, setting.cvmfs)
    run = ContainerRun(
        runtime=setting.program.path,
        image=place,
        program=("/bin/sh", "-c", SCRIPT + fitness.SCRIPT + END, "sh", mark, *setting.repositories),
        scratch=scratch,
        target=setting.target,
        binds=setting.binds,
        pid_namespace=pid_namespace,
        options=(*runtime_options(setting.program.numbers, singularity=setting.program.singularity), *setting.options),
    )
    return Attempt(run.command_line(), mark, scratch, setting.repositories, own_mount=place != image)


def read(attempt: Attempt, result: Result) -> Proof:
    """What the run proves. Only lines with the attempt's own mark count, so neither an exit code of 255 nor noise of
    the image or the runtime is taken for an answer."""
    errors = result.stderr.decode("utf-8", "replace")
    lines = result.stdout.decode("utf-8", "replace").splitlines()
    marked = [line.removeprefix(attempt.mark).strip() for line in lines if line.startswith(attempt.mark)]
    if not marked or marked[-1] != "end" or not result.ok:
        return Proof(result.seconds, _failure(result, errors, started=bool(marked)))
    told = _told(marked)
    facts = _facts(told["os"], "\n".join(lines)) | fitness.facts(told, attempt.repositories)
    if CONVERTED in errors:
        return Proof(result.seconds, UNPACKED, facts=facts)
    unwritable = [directory for directory in ("/tmp", "/var/tmp") if directory not in told["writable"]]  # noqa: S108
    if unwritable:
        return Proof(result.seconds, _not_writable(unwritable), facts=facts)
    unfit = fitness.unfit(facts, "\n".join(lines) + errors)
    if unfit is not None:
        return Proof(result.seconds, unfit, facts=facts)
    mode = mode_of(told["uid_map"][0] if told["uid_map"] else "")
    if attempt.own_mount and mode == "setuid":
        return Proof(result.seconds, NOT_FOR_SETUID, mode, facts=facts)
    return Proof(
        seconds=result.seconds,
        mode=mode,
        pid_namespace="1" in " ".join(told["pid"]).split(),
        facts=facts,
    )


UNPACKED = Diagnosis(
    "image.unpacked_for_each_job",
    FailureKind.NODE_RESOURCE,
    "sif",
    "the runtime cannot mount SIF files here and unpacks the whole image for every job",
    "the site installs squashfuse and makes /dev/fuse usable, or the VO offers an unpacked image directory",
)


NOT_FOR_SETUID = Diagnosis(
    "image.mounted_by_account",
    FailureKind.NODE_RESOURCE,
    "image",
    "the runtime is setuid, and root must not read an image from a mount that this account made",
    "the site lets Apptainer run unprivileged, or mounts CVMFS at /cvmfs itself",
)


def _not_writable(directories: list[str]) -> Diagnosis:
    message = f"jobs could not write to {' and '.join(directories)} inside"
    hint = "the image needs /tmp and /var/tmp as directories, and the site space in the scratch directory"
    return Diagnosis("image.tmp_not_writable", FailureKind.CONFIG, "image", message, hint)


def _failure(result: Result, errors: str, *, started: bool) -> Diagnosis:
    if result.timed_out or result.error or result.abandoned is not None:
        hint = "the node is overloaded or the file system of the image hangs: the site must act"
        code = "image.timeout" if result.timed_out else "container.not_started"
        scope: Literal["image", "node"] = "node" if result.error else "image"
        return Diagnosis(code, FailureKind.NODE_RESOURCE, scope, result.explain(), hint)
    crash = fitness.crash(result, vsyscall=fitness.kernel_has_vsyscall())
    if crash is not None:
        return crash
    if started:
        hint = "the VO corrects the image's shell and C library"
        return Diagnosis("image.not_runnable", FailureKind.CONFIG, "image", f"broke off: {result.explain()}", hint)
    return diagnose(errors)


def _told(marked: list[str]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {"pid": [], "uid_map": [], "os": [], "writable": []}
    for line in marked:
        what, _, value = line.partition(" ")
        told.setdefault(what, []).append(value)
    return told


def _facts(release: list[str], output: str) -> dict[str, Json]:
    fields = dict(line.partition("=")[::2] for line in release)
    facts: dict[str, Json] = {}
    for name, key in (("os.id", "ID"), ("os.version", "VERSION_ID")):
        if key in fields:
            facts[name] = fields[key].strip("\"'")
    for name, pattern in (("os.glibc", _GLIBC), ("os.musl", _MUSL)):
        match = pattern.search(output)
        if match:
            facts[name] = match[1]
    return facts
