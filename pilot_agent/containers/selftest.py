"""Whether a container runtime works on this node at all, shown without any image of a VO."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.containers import node_image, runtime
from pilot_agent.containers.command import runtime_environment
from pilot_agent.containers.messages import Diagnosis
from pilot_agent.containers.places import ALL, Search
from pilot_agent.containers.proof import ProofSetting, prepare, read
from pilot_agent.containers.runtime import RuntimeProgram, RuntimeRefusal
from pilot_agent.environment import clean_environment
from pilot_agent.process import run

SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Tried:
    """One runtime that was tried: ``problem`` says why it cannot run anything, empty when it did."""

    path: str
    version: str = ""
    mode: str = ""
    problem: str = ""
    code: str = ""
    hint: str = ""


def try_runtimes(
    configured: str | None,
    environment: Mapping[str, str],
    directory: str,
    *,
    order: Sequence[str] = ALL,
    condor_directory: str | None = None,
    repositories: Sequence[str] = (),
) -> Iterator[Tried]:
    """Every runtime of the node up to the first that runs a program; none when there is none.

    ``directory`` gets the image and what the runtime keeps; the others say where is looked (``places.Search``). Raises
    ``OSError`` when there is no room.
    """
    image = node_image.make_image(os.path.join(directory, "selftest-image"))
    clean = runtime_environment(clean_environment(environment, home=directory, temporary=directory), directory)
    search = Search(
        configured=configured,
        order=order,
        condor_directory=condor_directory,
        repositories=tuple(repositories),
        environment=clean,
        site=environment,
    )
    for place in search.places():
        program = runtime.ask(place.path, place.origin, clean)
        if isinstance(program, RuntimeRefusal):
            hint = "the site repairs or removes it"
            yield Tried(place.path, problem=program.reason, code="container.not_started", hint=hint)
            continue
        tried = _try(program, clean, directory, image)
        yield tried
        if not tried.problem:
            return


def _try(program: RuntimeProgram, environment: Mapping[str, str], directory: str, image: str) -> Tried:
    setting = ProofSetting(program, environment, directory, node_image.binds())
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
