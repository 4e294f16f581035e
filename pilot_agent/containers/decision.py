"""The container stage's decision: negotiate, find a runtime, resolve the dictionary, prove images, conclude."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pilot_agent.containers import runtime
from pilot_agent.containers.abilities import Established, Known, establish
from pilot_agent.containers.command import Bind, BindError, existing, runtime_environment
from pilot_agent.containers.messages import Diagnosis
from pilot_agent.containers.negotiation import Negotiation, negotiate
from pilot_agent.containers.places import Place, Search
from pilot_agent.containers.proof import ProofSetting
from pilot_agent.containers.runtime import RuntimeProgram, RuntimeRefusal
from pilot_agent.containers.trials import LONGEST_SECONDS, Trials, try_all
from pilot_agent.containers.verdicts import Dictionary, conclude
from pilot_agent.environment import clean_environment
from pilot_agent.hookspecs import ContainerRequest, Context
from pilot_agent.model import (
    ContainerDecision,
    Failure,
    FailureKind,
    ImageCandidate,
    Json,
    PilotError,
    Runtime,
    RuntimeVerdict,
)
from pilot_agent.process import WakeUp
from pilot_agent.workspace import Workspace

REASON_LIMIT = 1500
_SITE_INSTALLS = "the site installs Apptainer, or names it in containers.runtime"


@dataclass(frozen=True, slots=True)
class _Found:
    """A runtime that works, with what its trials showed (None when there was no image to try)."""

    setting: ProofSetting
    trials: Trials | None
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
    """How jobs will be contained on this node.

    Raises ``PilotError`` when VO and site contradict each other, and when containers are required and there is no
    runtime or no image; where they are only preferred, the decision says why there are none. Raises ``Interrupted``.
    """
    config = context.config
    outcome = negotiate(config["vo"]["containers"], config["site"]["containers"])
    if outcome.decision == "FAIL":
        hint = "the VO changes vo.containers, or the site site.containers"
        raise PilotError(Failure(FailureKind.CONFIG, "container.conflict", outcome.reason, hint))
    if outcome.decision in ("NEVER", "DISABLE"):
        return ContainerDecision(outcome.decision, outcome.cell, outcome.reason)
    binds, options = _asked_for(context, requests)
    known = Dictionary.of(context, candidates, wake)
    with _temporary(context) as temporary:
        environment = runtime_environment(
            clean_environment(context.environment, home=temporary, temporary=temporary), temporary
        )
        trying = _Trying(context, _search(context, requests, environment, wake), temporary, binds, options)
        found = trying.first_that_works(known)
    if isinstance(found, Failure):
        return _without(outcome, found, known, trying.refused)
    decision, failure = conclude(outcome, found.runtime, known, found.trials)
    if failure is not None:
        return _without_images(decision, outcome, failure, known, found, trying)
    return _with_runtimes(decision, decision.reason, found, trying)


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
        environment=environment,
        site=context.environment,
        wake=wake,
    )


def _asked_for(context: Context, requests: Sequence[ContainerRequest]) -> tuple[tuple[Bind, ...], tuple[str, ...]]:
    """Binds and options that every job's container gets. Raises ``PilotError`` (container.bind) with who asked."""
    repositories = context.value("cvmfs.repositories")
    asked = [("cvmfs", "/cvmfs:/cvmfs:ro")] if repositories else []
    asked += [("containers.binds", bind) for bind in context.config["containers"]["binds"]]
    asked += [(request.name, bind) for request in requests for bind in request.binds]
    binds: dict[Bind, None] = {}
    for who, text in asked:
        try:
            binds[Bind.parse(text)] = None
        except BindError as error:
            hint = "whoever asked for it corrects the bind"
            raise PilotError(Failure(FailureKind.CONFIG, "container.bind", f"{who}: {error}", hint)) from error
    return tuple(binds), tuple(option for request in requests for option in request.options)


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
    binds: tuple[Bind, ...]
    options: tuple[str, ...]
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
            program = runtime.ask(place.path, place.origin, self.search.environment, self.search.wake)
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
                self._refuse(place, program.version, "no image of the dictionary runs in it either")
        return self._with_abilities(last, end) if last is not None else failure or self._nothing()

    def _refuse(self, place: Place, version: str, reason: str) -> None:
        self.refused += (RuntimeVerdict(place.path, place.origin, version, False, reason),)

    def _tried(self, program: RuntimeProgram, known: Dictionary, end: float) -> _Found | Failure:
        there, _ = existing(self.binds)
        repositories = tuple(self.context.value("cvmfs.repositories") or ())
        setting = ProofSetting(
            program, self.search.environment, self.temporary, there, self.options, repositories=repositories
        )
        problem: Diagnosis | None
        try:
            if any(known.ladders):
                left = max(0.0, end - time.monotonic())
                trials = try_all(setting, known.ladders, budget_seconds=left, wake=self.search.wake)
                found, problem = _Found(setting, trials), trials.node_problem
            else:
                # Nothing else shows whether it works, so this is not left out however little time there is.
                established = establish(setting, self._seen(None), seconds=LONGEST_SECONDS, wake=self.search.wake)
                found, problem = _Found(setting, None, established), established.problem
        except OSError as error:
            raise _no_room(self.temporary, error) from error
        if problem is None:
            return found
        return Failure(problem.kind, problem.code, f"{program.path}: {problem.message}", problem.hint, retry=True)

    def _with_abilities(self, found: _Found, end: float) -> _Found:
        if found.established is not None:
            return found
        seconds = min(LONGEST_SECONDS, end - time.monotonic())
        try:
            established = establish(found.setting, self._seen(found.trials), seconds=seconds, wake=self.search.wake)
        except OSError as error:
            raise _no_room(self.temporary, error) from error
        return replace(found, established=established)

    def _seen(self, trials: Trials | None) -> Known:
        """What needs not be tried again."""
        devices: Sequence[Mapping[str, Json]] = self.context.value("gpu.devices") or ()
        vendors = frozenset(str(device.get("vendor") or "nvidia") for device in devices)
        if trials is None:
            return Known(vendors=vendors)
        pid_namespace = trials.pid_namespace if trials.any_proven else None
        told = "a SIF file of the dictionary ran"
        if trials.sif is False:
            problem = next(
                (p.diagnosis for p in trials.proofs.values() if p.diagnosis and p.diagnosis.scope == "sif"), None
            )
            told = f"{problem.code}: {problem.message}" if problem else "no SIF file of the dictionary ran"
        return Known(pid_namespace=pid_namespace, sif=trials.sif, sif_reason=told, vendors=vendors)

    def _nothing(self) -> Failure:
        looked = "; ".join(f"{verdict.path}: {verdict.reason}" for verdict in self.refused)
        message = f"no container runtime: neither apptainer nor singularity in {self.search.described()}"
        message = f"no container runtime works: {looked}" if looked else message
        return Failure(
            FailureKind.NODE_RESOURCE, "container.missing", message[:REASON_LIMIT], _SITE_INSTALLS, retry=True
        )


def _no_room(directory: str, error: OSError) -> PilotError:
    message = f"no image can be proven in {directory}: {error.strerror}"
    hint = "the site frees space in the scratch directory"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint))


def _without(
    outcome: Negotiation,
    failure: Failure,
    known: Dictionary,
    runtimes: Sequence[RuntimeVerdict],
    trials: Trials | None = None,
) -> ContainerDecision:
    """No containers: the end of the pilot where they are required, jobs without one where they are preferred."""
    if outcome.decision == "REQUIRED":
        raise PilotError(replace(failure, message=f"{failure.message} ({outcome.cell} requires containers)"))
    others = "".join(
        f"; {verdict.path}: {verdict.reason}" for verdict in runtimes if verdict.path not in failure.message
    )
    reason = f"{outcome.reason}; none here, so jobs run without: {failure.code}: {failure.message}{others}"
    verdicts = tuple(replace(verdict, taken=False) for verdict in known.verdicts(trials))
    return ContainerDecision(
        "PREFERRED", outcome.cell, reason[:REASON_LIMIT], verdicts=verdicts, runtimes=tuple(runtimes)
    )


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
        last = RuntimeVerdict(program.path, program.origin, program.version, False, reason)
        return _without(outcome, failure, known, (*trying.refused, last), found.trials)
    reason = f"{outcome.reason}; jobs that bring no image run without a container: {failure.code}: {failure.message}"
    return _with_runtimes(decision, reason, found, trying)


def _with_runtimes(decision: ContainerDecision, reason: str, found: _Found, trying: _Trying) -> ContainerDecision:
    """The decision with what became of every runtime, and in its reason what whoever reads a log wants to know."""
    program = found.setting.program
    parts = [reason, f"runtime {program.path} {program.version} from {program.origin}"]
    parts += [f"not {verdict.path}: {verdict.reason}" for verdict in trying.refused]
    _, missing = existing(trying.binds)
    if missing:
        parts.append("left out, their source is not there: " + ", ".join(bind.source for bind in missing))
    why = "a program ran in it with the options of jobs" if found.ran else "it answers, but no program ran in it"
    taken = RuntimeVerdict(program.path, program.origin, program.version, True, why)
    return replace(decision, reason="; ".join(parts)[:REASON_LIMIT], runtimes=(*trying.refused, taken))
