"""``exec``: one command as a job on this node would be run, with the caller's terminal."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from pilot_agent import configure
from pilot_agent.commands.choose import Place, must_fetch, place_for
from pilot_agent.commands.trial import program_of, prove, refuse_unfit, setting_of
from pilot_agent.configure import Given
from pilot_agent.containers.cvmfs_paths import physical
from pilot_agent.containers.inside import WORKING_VARIABLES, Interior
from pilot_agent.containers.job_ad import MOST_BYTES, JobAd, parse_job_ad
from pilot_agent.environment import clean_path
from pilot_agent.foreground import Ended, run_in_foreground
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.removal import remove_tree
from pilot_agent.model import ContainerDecision, Failure, FailureKind, PilotError, worst_failure
from pilot_agent.plugins.job_containers import AUTHORITIES
from pilot_agent.progress import Progress
from pilot_agent.services.taken import usable_devices
from pilot_agent.stages import Session
from pilot_agent.standalone import work_in
from pilot_agent.state import State
from pilot_agent.tasks import job_container

STAGES = ("probe", "mount", "setup_early", "container", "setup_late")
REMOVE_SECONDS = 30.0
SILENT = "-s"
"""Only errors of the runtime, as the startd's SINGULARITY_VERBOSITY has it for jobs."""
NO_EVAL = "--no-eval"
"""The proof adds this one itself."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asks for."""

    words: tuple[str, ...]
    image: str | None
    job: JobAd | None
    inputs: tuple[str, ...]
    quiet: bool


def run_exec(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Run the command; its exit code. Raises ``PilotError`` for everything that keeps it from being run."""
    if not parsed.words:
        hint = "for a shell as in a job: pilot-agent exec -- /bin/bash"
        raise PilotError(Failure(FailureKind.USAGE, "usage", "a command is needed, after --", hint))
    job = _read_ad(parsed.as_job) if parsed.as_job is not None else None
    asked = _Asked(tuple(parsed.words), parsed.image, job, _inputs(parsed.input), parsed.quiet)
    config = configure.read_layers(given, environment)
    ended: list[Ended] = []

    def act(session: Session, state: State, progress: Progress) -> None:
        failure = worst_failure(list(state.failures))
        if failure is not None:
            raise PilotError(failure)
        assert state.container is not None
        ended.append(_run(asked, session, state, state.container, progress))

    for left in work_in(config, environment, stages=STAGES, act=act).leftovers:
        _say(f"pilot-agent: warning: left behind: {left.get('path') or left.get('pid')}: {left.get('cause', '')}")
    return ended[0].exit_code


def _read_ad(path: str) -> JobAd:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise _usage(f"--as-job {path}: this is no job's ad, it has more than {MOST_BYTES >> 20} MiB")
        return parse_job_ad(content.decode())
    except UnicodeDecodeError:
        raise _usage(f"--as-job {path}: this is no job's ad: it is no text in UTF-8") from None
    except OSError as error:
        raise _usage(f"--as-job {path}: {error.strerror}") from error


def _inputs(paths: list[str]) -> tuple[str, ...]:
    listed = tuple(os.path.abspath(path) for path in paths)
    for path in listed:
        if not os.path.exists(path):
            raise _usage(f"--input {path}: there is no such file or directory")
    return listed


def _run(asked: _Asked, session: Session, state: State, decision: ContainerDecision, progress: Progress) -> Ended:
    place = place_for(decision, asked.image, asked.job, state.config.get("containers.allowed_paths"))
    scratch = os.path.join(session.workspace.condor, "execute", f"dir_{os.getpid()}")
    try:
        os.mkdir(scratch, 0o700)
        for path in asked.inputs:
            _copy(path, os.path.join(scratch, os.path.basename(path)))
    except (OSError, shutil.Error) as error:
        message = f"the scratch directory cannot be filled: {error}"
        hint = "the site frees space in the scratch directory"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint)) from error
    if place.image is None:
        argv, environment = list(asked.words), _on_the_node(asked, session, state, scratch)
    else:
        argv, environment = _contained(asked, place, session, state, decision, progress, scratch)
    progress.clear()
    if not asked.quiet:
        told = f"{place.image}{'' if place.proven else ', tried now'}" if place.image else "no container"
        _say(f"pilot-agent: {told}: {place.reason}")
    try:
        ended = run_in_foreground(argv, environment=environment, directory=scratch)
    except OSError as error:
        message = f"no process could be started: {error.strerror}"
        hint = "the site raises the account's limit of processes, or ends what else it runs"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "process.limit", message, hint)) from error
    if ended.error:
        _say(f"pilot-agent: {argv[0]} could not be started ({ended.error})")
    remove_tree(scratch, Budget(REMOVE_SECONDS), prefix="dir_")
    return ended


def _contained(
    asked: _Asked,
    place: Place,
    session: Session,
    state: State,
    decision: ContainerDecision,
    progress: Progress,
    scratch: str,
) -> tuple[list[str], dict[str, str]]:
    """The command line of the container, with an image that is on the node and in which programs run."""
    assert place.image is not None
    assert decision.runtime is not None
    jobs = job_container(state)
    image = place.image
    if must_fetch(place):
        progress.clear()
        image = _fetched(image, session, state, decision)
    image = physical(image, decision.cvmfs)
    outside = session.around.environment
    gpus, scratch_inside = _gpus(asked, state), state.config.get("containers.scratch")
    interior = Interior.in_image(
        image, decision.runtime, jobs, outside, session.workspace.temporary, gpus=bool(gpus), target=scratch_inside
    )
    if not place.proven:
        progress.say("trying the image")
        setting = setting_of(
            program_of(decision.runtime),
            interior.environment,
            session.workspace.temporary,
            binds=interior.binds,
            options=[option for option in interior.options if option != NO_EVAL],
        )
        proof = prove(setting, image, pid_namespace=decision.runtime.pid_namespace, wake=session.around.wake)
        if proof.diagnosis is not None:
            raise refuse_unfit(image, proof.diagnosis)
    variables = _variables(asked, gpus) | _nested(decision, scratch_inside)
    argv, environment = interior.command(asked.words, scratch, variables=variables)
    return [argv[0], SILENT, *argv[1:]], environment


def _fetched(reference: str, session: Session, state: State, decision: ContainerDecision) -> str:
    """The place of a remote image, fetched as for a job. Raises ``PilotError``."""
    from pilot_agent.containers.store.errors import StoreError
    from pilot_agent.containers.store.store import Store

    assert decision.runtime is not None
    config, site = state.config, state.environment
    store = Store(
        config.get("containers.store_directory") or session.workspace.images,
        runtime=decision.runtime.path,
        environment={**session.around.environment, **{name: site[name] for name in AUTHORITIES if name in site}},
        form="file" if decision.runtime.sif else "directory",
        limit_mib=config.get("containers.store_mib"),
    )
    pins = {verdict.path: verdict.digest for verdict in decision.verdicts if verdict.taken}
    try:
        image = store.fetch(
            reference,
            digest=pins.get(reference, ""),
            deadline_seconds=config.get("containers.fetch_seconds"),
            lease_pid=os.getpid(),
            progress=_Fetching(),
            wake=session.around.wake,
        )
    except StoreError as error:
        message = error.message if reference in error.message else f"{reference}: {error.message}"
        raise PilotError(Failure(error.kind, error.code, message, error.hint)) from error
    finally:
        _Fetching.end()
    return image.path


class _Fetching:
    """Says how far a fetch is, on a terminal in one line that is written over."""

    def __call__(self, phase: str, done: int, total: int | None, message: str) -> None:
        if sys.stderr.isatty():
            of = f" of {total >> 20}" if total else ""
            size = f" {done >> 20}{of} MiB" if done else ""
            sys.stderr.write(f"\r\x1b[K... {phase}{size} {message}"[:110])
            sys.stderr.flush()

    @staticmethod
    def end() -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _variables(asked: _Asked, gpus: tuple[str, ...]) -> dict[str, str]:
    """What the job's ad and HTCondor give, beside what every job on the node gets."""
    variables = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "NVIDIA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    if sys.stdin.isatty() and "TERM" in os.environ:
        variables["TERM"] = os.environ["TERM"]
    return variables | dict(asked.job.environment if asked.job else {})


def _nested(decision: ContainerDecision, scratch_inside: str) -> dict[str, str]:
    """Where a runtime inside writes, as ``startd.containers.runtime_environment`` says it for jobs."""
    assert decision.runtime is not None
    name = "singularity" if os.path.basename(decision.runtime.path) == "singularity" else "apptainer"
    return {f"{name.upper()}_CONFIGDIR": f"{scratch_inside}/.{name}"}


def _on_the_node(asked: _Asked, session: Session, state: State, scratch: str) -> dict[str, str]:
    """The environment of a job without a container: nothing of the caller's but its search path, home and account."""
    own = session.around.environment
    base = {name: own[name] for name in ("USER", "LOGNAME", "TZ") if name in own}
    base |= {"PATH": clean_path(""), "HOME": os.path.expanduser("~")}
    working = dict.fromkeys(WORKING_VARIABLES, scratch)
    variables = _variables(asked, _gpus(asked, state))
    return base | working | dict(job_container(state).environment) | variables


def _gpus(asked: _Asked, state: State) -> tuple[str, ...]:
    """The first GPUs that are usable, as many as the job wants. Raises ``PilotError`` (gpu.missing)."""
    wanted = asked.job.gpus if asked.job else 0
    if not wanted:
        return ()
    # Those that the startd would offer (plugins.condor).
    usable = [str(device["uuid"]) for device in usable_devices(state.facts)]
    if len(usable) < wanted:
        message = f"the job asks for {wanted} GPU(s), and {len(usable)} of this node can be used"
        hint = "the site repairs the GPUs, or use a node that has them; `pilot-agent probe gpu` says more"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "gpu.missing", message, hint))
    return tuple(usable[:wanted])


def _copy(path: str, target: str) -> None:
    if os.path.isdir(path):
        shutil.copytree(path, target, symlinks=True)
    else:
        shutil.copy2(path, target)


def _say(line: str) -> None:
    sys.stderr.write(" ".join(line.split()) + "\n")
    sys.stderr.flush()


def _usage(message: str) -> PilotError:
    return PilotError(Failure(FailureKind.USAGE, "usage", message))
