"""Whether a container runtime works on this node at all, shown without any image of a VO.

The image is an empty directory into which the node's own programs are bound, so that it costs nothing and is always
there; what a runtime needs of the kernel and of its configuration to run a job, it needs for this one too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pilot_agent.containers import runtime
from pilot_agent.containers.command import Bind, runtime_environment
from pilot_agent.containers.messages import Diagnosis
from pilot_agent.containers.proof import ProofSetting, prepare, read
from pilot_agent.containers.runtime import RuntimeProgram, RuntimeRefusal
from pilot_agent.environment import clean_environment
from pilot_agent.process import run

SECONDS = 20.0
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_EMPTY = ("dev", "etc", "home", "proc", "root", "run", "srv", "sys", "tmp", "var/tmp")


@dataclass(frozen=True, slots=True)
class Tried:
    """One runtime that was tried: ``problem`` says why it cannot run anything, empty when it did."""

    path: str
    version: str = ""
    mode: str = ""
    problem: str = ""
    code: str = ""
    hint: str = ""


def try_runtimes(configured: str | None, environment: Mapping[str, str], directory: str) -> Iterator[Tried]:
    """Every runtime of the node up to the first that runs a program; none when there is none.

    ``directory`` gets the image and what the runtime keeps. Raises ``OSError`` when there is no room.
    """
    image = _make_image(os.path.join(directory, "selftest-image"))
    clean = runtime_environment(clean_environment(environment, home=directory, temporary=directory), directory)
    for path, origin in runtime.places(configured, clean["PATH"], system=runtime.SYSTEM_DIRECTORY):
        program = runtime.ask(path, origin, clean)
        if isinstance(program, RuntimeRefusal):
            yield Tried(
                path, problem=program.reason, code="container.not_started", hint="the site repairs or removes it"
            )
            continue
        tried = _try(program, clean, directory, image)
        yield tried
        if not tried.problem:
            return


def _try(program: RuntimeProgram, environment: Mapping[str, str], directory: str, image: str) -> Tried:
    binds = tuple(Bind(path, path, read_only=True) for path in _PROGRAMS if os.path.isdir(path) and not _is_link(path))
    setting = ProofSetting(program, environment, directory, binds)
    problem: Diagnosis | None = None
    for pid_namespace in (True, False):
        attempt = prepare(setting, image, pid_namespace=pid_namespace)
        result = run(attempt.argv, deadline_seconds=SECONDS, environment=environment, directory=attempt.scratch)
        proof = read(attempt, result)
        attempt.clear()
        if proof.diagnosis is None:
            return Tried(program.path, program.version, proof.mode)
        problem = problem or proof.diagnosis
        if proof.diagnosis.scope != "pid_namespace":
            problem = proof.diagnosis
            break
    assert problem is not None
    return Tried(program.path, program.version, "", problem.message, problem.code, problem.hint)


def _make_image(path: str) -> str:
    """An image with nothing of its own: the node's directories of programs, or the links that stand for them."""
    for name in _EMPTY:
        os.makedirs(os.path.join(path, name), mode=0o755, exist_ok=True)
    for directory in _PROGRAMS:
        inside = path + directory
        if _is_link(directory) and not os.path.lexists(inside):
            os.symlink(os.readlink(directory).removeprefix("/"), inside)
        elif os.path.isdir(directory):
            os.makedirs(inside, mode=0o755, exist_ok=True)
    with open(os.path.join(path, "etc/passwd"), "w", encoding="ascii") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")
    return path


def _is_link(path: str) -> bool:
    return os.path.islink(path)
