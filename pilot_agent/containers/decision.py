"""The container stage's decision: negotiate, find a runtime, resolve the dictionary, prove images, conclude."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pilot_agent import CVMFS
from pilot_agent.containers import runtime
from pilot_agent.containers.abilities import AbilityTrial, Established, Known
from pilot_agent.containers.command import Bind, runtime_environment
from pilot_agent.containers.inside import JobContainer
from pilot_agent.containers.messages import Diagnosis
from pilot_agent.containers.negotiation import Negotiation, negotiate
from pilot_agent.containers.places import Place, Search
from pilot_agent.containers.proof import ProofSetting
from pilot_agent.containers.runtime import RuntimeProgram, RuntimeRefusal
from pilot_agent.containers.surroundings import settle, uncontained
from pilot_agent.containers.trials import LONGEST_SECONDS, Trials, try_all
from pilot_agent.containers.verdicts import Dictionary, conclude
from pilot_agent.environment import clean_environment
from pilot_agent.hookspecs import ContainerRequest, Context
from pilot_agent.model import (
    ContainerDecision,
    Failure,
    FailureKind,
    ImageCandidate,
    JobSurroundings,
    Json,
    PilotError,
    Runtime,
    RuntimeVerdict,
)
from pilot_agent.process import WakeUp
from pilot_agent.workspace import Workspace

REASON_LIMIT = 1500
_SITE_INSTALLS = "the site installs Apptainer, or names it in containers.runtime"


class NoContainersError(PilotError):
    """Jobs cannot be contained as they must be; ``decision`` says what was looked at and why it was refused."""

    def __init__(self, failure: Failure, decision: ContainerDecision) -> None:
        super().__init__(failure)
        self.decision = decision


@dataclass(frozen=True, slots=True)
class _Found:
    """A runtime that works, with what its trials showed (None when there was no image to try)."""

    setting: ProofSetting
    trials: Trials | None
    abilities: AbilityTrial
    established: Established | None = None

    @property
    def runtime(self) -> Runtime:
        """It as the report and HTCondor's configuration need it."""
        assert self.established is not None
        program, abilities = self.setting.program, self.established.abilities
        proofs = self.trials.proofs.values() if self.trials is not None else ()
        mode = next((proof.mode for proof in proofs if proof.diagnosis is None), self.established.mode)
        return Runtime(
            path=program.path,
            version=program.version,
            mode=mode,
            pid_namespace=abilities.pid_namespace.value is True,
            sif=abilities.sif.value is True,
            flavour=program.flavour,
            origin=program.origin,
            full_version=program.said,
            abilities=abilities,
        )

    @property
    def ran(self) -> bool:
        """Whether any program ran in it."""
        proven = self.trials is not None and self.trials.any_proven
        return proven or (self.established is not None and self.established.problem is None)


def decide(
    context: Context,
    candidates: Sequence[ImageCandidate],
    requests: Sequence[ContainerRequest] = (),
    wake: WakeUp | None = None,
) -> ContainerDecision:
    """How jobs will be contained on this node, and what they get beside their image. ``requests`` are those of setups
    and plugins, in their order, each under the name of who asked.

    Raises ``NoContainersError`` when VO and site contradict each other, and when containers are required and there is
    no runtime or no image (where they are only preferred, the decision says why there are none); ``PilotError`` for a
    bind that cannot be understood, or is required and cannot be given; ``Interrupted``.
    """
    config = context.config
    outcome = negotiate(config["vo"]["containers"], config["site"]["containers"])
    if outcome.decision == "FAIL":
        hint = "the VO changes vo.containers, or the site site.containers"
        conflict = Failure(FailureKind.CONFIG, "container.conflict", outcome.reason, hint)
        raise NoContainersError(conflict, ContainerDecision(outcome.decision, outcome.cell, outcome.reason))
    if outcome.decision in ("NEVER", "DISABLE"):
        alone = settle(context, requests, contained=False)
        return ContainerDecision(outcome.decision, outcome.cell, outcome.reason, surroundings=alone)
    surroundings = settle(context, requests, wake=wake)
    known = Dictionary.of(context, candidates, wake)
    with _temporary(context) as temporary:
        clean = clean_environment(context.environment, home=temporary, temporary=temporary)
        # Two runs go on at a time, and a runtime's own threads (it is written in Go) would only add to them.
        environment = runtime_environment(clean, temporary) | {"GOMAXPROCS": "1"}
        search = _search(context, requests, environment, wake)
        trying = _Trying(context, search, temporary, surroundings)
        found = trying.first_that_works(known)
    if isinstance(found, Failure):
        return _without(outcome, found, known, trying)
    decision, failure = conclude(outcome, found.runtime, known, found.trials)
    decision = replace(decision, cvmfs=mount_point(context))
    if failure is not None:
        return _without_images(decision, outcome, failure, known, found, trying)
    return _with_runtimes(decision, decision.reason, found, trying)


def mount_point(context: Context) -> str:
    """Where the node has what is below /cvmfs."""
    return str(context.value("cvmfs.mount_point", CVMFS))


def _search(
    context: Context, requests: Sequence[ContainerRequest], environment: Mapping[str, str], wake: WakeUp | None
) -> Search:
    config = context.config
    return Search(
        configured=config["containers"]["runtime"],
        offered=tuple((path, request.name) for request in requests for path in request.runtimes),
        order=config["containers"]["search"],
        condor_directory=config["startd"]["condor_directory"],
        repositories=tuple(context.value("cvmfs.repositories") or ()),
        cvmfs=mount_point(context),
        environment=environment,
        site=context.environment,
        wake=wake,
    )


@contextmanager
def _temporary(context: Context) -> Iterator[str]:
    if context.workspace is not None:
        yield Workspace(context.workspace).temporary
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pilot-agent-", ignore_cleanup_errors=True) as directory:
        yield directory


@dataclass(slots=True)
class _Trying:
    """Looks for a runtime that works; ``refused`` are those that did not."""

    context: Context
    search: Search
    temporary: str
    surroundings: JobSurroundings
    refused: tuple[RuntimeVerdict, ...] = ()

    def first_that_works(self, known: Dictionary) -> _Found | Failure:
        """The first runtime that runs an image of the dictionary, or without images any program; if none runs an
        image, the first that works at all; else why there is none."""
        if self.context.root != "/":
            message = "no container can be run on a recording of a node"
            return Failure(FailureKind.NODE_RESOURCE, "container.recording", message)
        end = time.monotonic() + float(self.context.config["prove"]["budget_seconds"])
        failure: Failure | None = None
        last: _Found | None = None
        for place in self.search.places():
            program = self._program(place)
            if isinstance(program, RuntimeRefusal):
                self._refuse(place, program.version, program.reason)
                continue
            tried = self._tried(program, known, end)
            if isinstance(tried, Failure):
                self._refuse(place, program.version, f"{tried.code}: {tried.message}")
                failure = failure or tried
            elif tried.trials is None or tried.trials.any_proven:
                return self._with_abilities(tried, end)
            elif last is None:
                last = tried
            else:
                tried.abilities.clear()
                self._refuse(place, program.version, "no image of the dictionary runs in it either")
        return self._with_abilities(last, end) if last is not None else failure or self._nothing()

    def _program(self, place: Place) -> RuntimeProgram | RuntimeRefusal:
        """What the runtime says of itself, to the probes already or now."""
        told = runtime.told(place.path, place.origin, self.context.value("software.apptainer"))
        return told or runtime.ask(place.path, place.origin, self.search.environment, self.search.wake)

    def _refuse(self, place: Place, version: str, reason: str) -> None:
        self.refused += (RuntimeVerdict(place.path, place.origin, version, False, reason),)

    def _tried(self, program: RuntimeProgram, known: Dictionary, end: float) -> _Found | Failure:
        repositories = tuple(self.context.value("cvmfs.repositories") or ())
        scratch = self.context.config["containers"]["scratch"]
        setting = ProofSetting(
            program,
            self.search.environment,
            self.temporary,
            *self._jobs(),
            repositories,
            target=scratch,
            cvmfs=mount_point(self.context),
        )
        files = any(ladder and ladder[0].form == "file" for ladder in known.ladders)
        abilities = AbilityTrial(setting, self._vendors(), sif_files=files)
        wake = self.search.wake
        problem: Diagnosis | None
        try:
            if any(known.ladders):
                left = max(0.0, end - time.monotonic())
                trials = try_all(setting, known.ladders, budget_seconds=left, beside=abilities, wake=wake)
                found, problem = _Found(setting, trials, abilities), trials.node_problem
            else:
                # Nothing else shows whether it works, so this is not left out however little time there is.
                established = abilities.finish(Known(), seconds=LONGEST_SECONDS, wake=wake)
                found, problem = _Found(setting, None, abilities, established), established.problem
        except OSError as error:
            abilities.clear()
            raise _no_room(self.temporary, error) from error
        if problem is None:
            return found
        abilities.clear()
        return Failure(problem.kind, problem.code, f"{program.path}: {problem.message}", problem.hint, retry=True)

    def _jobs(self) -> tuple[tuple[Bind, ...], tuple[str, ...]]:
        """Binds and options with which images are proven: those of jobs that get GPUs where any can."""
        jobs = JobContainer.of(self.surroundings)
        return jobs.binds, tuple(dict.fromkeys((*jobs.gpu_options, *jobs.options)))

    def _with_abilities(self, found: _Found, end: float) -> _Found:
        if found.established is not None:
            return found
        seconds = min(LONGEST_SECONDS, end - time.monotonic())
        try:
            established = found.abilities.finish(_seen(found.trials), seconds=seconds, wake=self.search.wake)
        except OSError as error:
            raise _no_room(self.temporary, error) from error
        return replace(found, established=established)

    def _vendors(self) -> frozenset[str]:
        devices: Sequence[Mapping[str, Json]] = self.context.value("gpu.devices") or ()
        return frozenset(str(device.get("vendor") or "nvidia") for device in devices)

    def _nothing(self) -> Failure:
        looked = "; ".join(f"{verdict.path}: {verdict.reason}" for verdict in self.refused)
        message = f"no container runtime: neither apptainer nor singularity in {self.search.described()}"
        message = f"no container runtime works: {looked}" if looked else message
        return Failure(
            FailureKind.NODE_RESOURCE, "container.missing", message[:REASON_LIMIT], _SITE_INSTALLS, retry=True
        )


def _seen(trials: Trials | None) -> Known:
    """What needs not be tried again."""
    if trials is None:
        return Known()
    told = "a SIF file of the dictionary ran"
    if trials.sif is False:
        problems = (proof.diagnosis for proof in trials.proofs.values())
        problem = next((problem for problem in problems if problem and problem.scope == "sif"), None)
        told = f"{problem.code}: {problem.message}" if problem else "no SIF file of the dictionary ran"
    return Known(
        pid_namespace=trials.pid_namespace if trials.any_proven else None,
        directories=trials.directories,
        sif=trials.sif,
        sif_reason=told,
    )


def _no_room(directory: str, error: OSError) -> PilotError:
    message = f"no image can be proven in {directory}: {error.strerror}"
    hint = "the site frees space in the scratch directory"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint))


def _without(
    outcome: Negotiation,
    failure: Failure,
    known: Dictionary,
    trying: _Trying,
    trials: Trials | None = None,
) -> ContainerDecision:
    """No containers: the end of the pilot where they are required, jobs without one where they are preferred."""
    required = outcome.decision == "REQUIRED"
    others = "".join(
        f"; {verdict.path}: {verdict.reason}" for verdict in trying.refused if verdict.path not in failure.message
    )
    so = "so no job can run" if required else "so jobs run without"
    reason = f"{outcome.reason}; none here, {so}: {failure.code}: {failure.message}{others}"
    verdicts = tuple(replace(verdict, taken=False) for verdict in known.verdicts(trials))
    decision = ContainerDecision(
        outcome.decision,
        outcome.cell,
        reason[:REASON_LIMIT],
        verdicts=verdicts,
        runtimes=trying.refused,
        surroundings=JobSurroundings() if required else uncontained(trying.surroundings),
    )
    if required:
        message = f"{failure.message} ({outcome.cell} requires containers)"
        raise NoContainersError(replace(failure, message=message), decision)
    return decision


def _without_images(
    decision: ContainerDecision,
    outcome: Negotiation,
    failure: Failure,
    known: Dictionary,
    found: _Found,
    trying: _Trying,
) -> ContainerDecision:
    """No image of the dictionary can be used. Where containers are only preferred and the runtime itself works, jobs
    may still bring an image of their own; those that bring none run without a container."""
    if outcome.decision == "REQUIRED" or not found.ran:
        program = found.setting.program
        reason = f"no image of the dictionary runs in it: {failure.code}"
        trying.refused += (RuntimeVerdict(program.path, program.origin, program.version, False, reason),)
        return _without(outcome, failure, known, trying, found.trials)
    reason = f"{outcome.reason}; jobs that bring no image run without a container: {failure.code}: {failure.message}"
    return _with_runtimes(decision, reason, found, trying)


def _with_runtimes(decision: ContainerDecision, reason: str, found: _Found, trying: _Trying) -> ContainerDecision:
    """The decision with what became of every runtime, and in its reason what whoever reads a log wants to know."""
    program = found.setting.program
    parts = [reason, f"runtime {program.path} {program.version} from {program.origin}"]
    parts += [f"not {verdict.path}: {verdict.reason}" for verdict in trying.refused]
    why = "a program ran in it with the options of jobs" if found.ran else "it answers, but no program ran in it"
    taken = RuntimeVerdict(program.path, program.origin, program.version, True, why)
    reason, runtimes = "; ".join(parts)[:REASON_LIMIT], (*trying.refused, taken)
    return replace(decision, reason=reason, runtimes=runtimes, surroundings=trying.surroundings)
