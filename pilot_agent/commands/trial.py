"""One program run in one image with the options of jobs, for commands that need to know whether it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilot_agent.config import Config
from pilot_agent.containers import runtime
from pilot_agent.containers.command import Bind, existing, runtime_environment
from pilot_agent.containers.messages import Diagnosis
from pilot_agent.containers.places import Search
from pilot_agent.containers.proof import Proof, ProofSetting, prepare, read
from pilot_agent.containers.runtime import RuntimeProgram, RuntimeRefusal, parse_version
from pilot_agent.environment import clean_environment
from pilot_agent.model import Failure, FailureKind, PilotError, Runtime
from pilot_agent.process import WakeUp, run

SECONDS = 60.0


def runtime_of(config: Config, environment: Mapping[str, str], temporary: str) -> RuntimeProgram:
    """The first container runtime that answers, as the configuration lets it be searched.

    Raises ``PilotError`` (container.missing).
    """
    clean = own_environment(environment, temporary)
    search = Search(
        configured=config.get("containers.runtime"),
        order=config.get("containers.search"),
        condor_directory=config.get("startd.condor_directory"),
        environment=clean,
        site=environment,
    )
    refused = []
    for place in search.places():
        program = runtime.ask(place.path, place.origin, clean)
        if not isinstance(program, RuntimeRefusal):
            return program
        refused.append(f"{program.path}: {program.reason}")
    message = f"no container runtime works: {'; '.join(refused)}" if refused else (
        f"no container runtime: neither apptainer nor singularity in {search.described()}"
    )  # fmt: skip
    hint = "the site installs Apptainer, or name it: --set containers.runtime=/path/apptainer"
    raise PilotError(Failure(FailureKind.NODE_RESOURCE, "container.missing", message, hint, retry=True))


def own_environment(environment: Mapping[str, str], temporary: str) -> dict[str, str]:
    """In which the runtime is started: nothing steers it, and all that it writes is in ``temporary``."""
    return runtime_environment(clean_environment(environment, home=temporary, temporary=temporary), temporary)


def program_of(accepted: Runtime) -> RuntimeProgram:
    """The runtime of a decision as proofs need it."""
    parsed = parse_version(accepted.version)
    numbers = parsed[2] if parsed else ()
    return RuntimeProgram(accepted.path, accepted.flavour, accepted.version, numbers, accepted.origin)


def prove(setting: ProofSetting, image: str, *, pid_namespace: bool | None = None, wake: WakeUp | None = None) -> Proof:
    """Run the proof's program in ``image``; ``pid_namespace`` None: with one where that works.

    Raises ``PilotError`` (disk.full), and ``Interrupted``.
    """
    proof: Proof | None = None
    for own in (True, False) if pid_namespace is None else (pid_namespace,):
        try:
            attempt = prepare(setting, image, pid_namespace=own)
        except OSError as error:
            message = f"no image can be proven in {setting.temporary}: {error.strerror}"
            raise PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message)) from error
        try:
            result = run(
                attempt.argv,
                deadline_seconds=SECONDS,
                environment=setting.environment,
                directory=attempt.scratch,
                wake=wake,
            )
            proof = read(attempt, result)
        finally:
            attempt.clear()
        if proof.diagnosis is None or proof.diagnosis.scope != "pid_namespace":
            break
    assert proof is not None
    return proof


def setting_of(
    program: RuntimeProgram,
    environment: Mapping[str, str],
    temporary: str,
    *,
    binds: Sequence[Bind] = (),
    options: Sequence[str] = (),
) -> ProofSetting:
    """What a proof needs; binds whose source is not there are left out."""
    there, _ = existing(tuple(binds))
    return ProofSetting(program, environment, temporary, there, tuple(options))


def refuse_unfit(image: str, problem: Diagnosis) -> PilotError:
    """The error for an image in which nothing runs."""
    return PilotError(Failure(problem.kind, problem.code, f"{image}: {problem.message}", problem.hint))
