"""The container stage's decision: negotiate, find a runtime, resolve the dictionary, prove images, conclude."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pilot_agent.containers import images, runtime
from pilot_agent.containers.command import Bind, BindError, existing, runtime_environment
from pilot_agent.containers.images import NodeNeeds
from pilot_agent.containers.negotiation import Negotiation, negotiate
from pilot_agent.containers.proof import ProofSetting
from pilot_agent.containers.runtime import RuntimeProgram, RuntimeRefusal
from pilot_agent.containers.trials import Trials, try_all
from pilot_agent.containers.verdicts import Dictionary, conclude
from pilot_agent.environment import clean_environment
from pilot_agent.hookspecs import ContainerRequest, Context
from pilot_agent.model import (
    ContainerDecision,
    Failure,
    FailureKind,
    ImageCandidate,
    PilotError,
    Runtime,
)
from pilot_agent.process import WakeUp
from pilot_agent.workspace import Workspace

REASON_LIMIT = 1500
_SITE_INSTALLS = "the site installs Apptainer, or names it in containers.runtime"


@dataclass(frozen=True, slots=True)
class _Found:
    """A runtime that works, with what its trials showed (None when there was no image to try)."""

    runtime: Runtime
    program: RuntimeProgram
    trials: Trials | None


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
    known = Dictionary.arrange(candidates, config["images"], config["containers"]["default"], _resolve(context, wake))
    with _temporary(context) as temporary:
        environment = runtime_environment(
            clean_environment(context.environment, home=temporary, temporary=temporary), temporary
        )
        search = _Search(context, environment, temporary, binds, options, wake)
        found = search.first_that_works(known)
    if isinstance(found, Failure):
        return _without(outcome, found, known, search.refusals)
    decision, failure = conclude(outcome, found.runtime, known, found.trials)
    if failure is not None:
        return _without(outcome, failure, known, search.refusals, found.trials)
    return replace(decision, reason=_told(decision.reason, found, search))


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


def _resolve(context: Context, wake: WakeUp | None) -> images.Resolver:
    node = NodeNeeds(
        architecture=context.value("os.arch", ""),
        cpu_level=context.value("os.microarch", ""),
        kernel=context.value("os.kernel", ""),
        gpus=int(context.value("gpu.count", 0)),
    )
    return lambda candidates: images.resolve(candidates, node, wake)


@contextmanager
def _temporary(context: Context) -> Iterator[str]:
    if context.workspace is not None:
        yield Workspace(context.workspace).temporary
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pilot-agent-", ignore_cleanup_errors=True) as directory:
        yield directory


@dataclass(slots=True)
class _Search:
    """Looks for a runtime that works; ``refusals`` are those that did not."""

    context: Context
    environment: Mapping[str, str]
    temporary: str
    binds: tuple[Bind, ...]
    options: tuple[str, ...]
    wake: WakeUp | None
    refusals: tuple[RuntimeRefusal, ...] = ()

    def first_that_works(self, known: Dictionary) -> _Found | Failure:
        """The first runtime that runs an image, or without images the first that answers; else why there is none."""
        if self.context.root != "/":
            message = "no container can be run on a recording of a node"
            return Failure(FailureKind.NODE_RESOURCE, "container.recording", message)
        failure: Failure | None = None
        last: _Found | None = None
        configured = self.context.config["containers"]["runtime"]
        for path, origin in runtime.places(configured, self.environment["PATH"], system=runtime.SYSTEM_DIRECTORY):
            program = runtime.ask(path, origin, self.environment, self.wake)
            if isinstance(program, RuntimeRefusal):
                self.refusals += (program,)
                continue
            tried = self._tried(program, known)
            if isinstance(tried, Failure):
                self.refusals += (RuntimeRefusal(path, f"{tried.code}: {tried.message}"),)
                failure = failure or tried
            elif tried.trials is None or tried.trials.any_proven:
                return tried
            else:
                last = last or tried
        return last or failure or self._nothing(configured)

    def _tried(self, program: RuntimeProgram, known: Dictionary) -> _Found | Failure:
        ladders = known.ladders
        if not any(ladders):
            return self._unproven(program)
        there, _ = existing(self.binds)
        setting = ProofSetting(program, self.environment, self.temporary, there, self.options)
        budget = float(self.context.config["prove"]["budget_seconds"])
        try:
            trials = try_all(setting, ladders, budget_seconds=budget, wake=self.wake)
        except OSError as error:
            message = f"no image can be proven in {self.temporary}: {error.strerror}"
            raise PilotError(
                Failure(
                    FailureKind.NODE_RESOURCE, "disk.full", message, "the site frees space in the scratch directory"
                )
            ) from error
        problem = trials.node_problem
        if problem is not None:
            return Failure(problem.kind, problem.code, f"{program.path}: {problem.message}", problem.hint, retry=True)
        first = next((proof for proof in trials.proofs.values() if proof.diagnosis is None), None)
        sif = trials.sif if trials.sif is not None else self._mounts_sif(program, setuid=False)
        mode = first.mode if first else "userns"
        return _Found(Runtime(program.path, program.version, mode, trials.pid_namespace, sif), program, trials)

    def _unproven(self, program: RuntimeProgram) -> _Found | Failure:
        """Without an image to run, what the probes tried with namespaces and FUSE decides."""
        setuid = _has_setuid_starter(program.path)
        userns = self.context.facts.get("userns.usable")
        if not setuid and userns is not None and userns.known and not userns.value:
            message = f"{program.path} needs unprivileged user namespaces, and the node refuses them: {userns.detail}"
            hint = "the site allows unprivileged user namespaces or installs apptainer-suid"
            return Failure(FailureKind.NODE_RESOURCE, "userns.disabled", message, hint, retry=True)
        pid_namespace = setuid or bool(self.context.value("userns.pid_proc", False))
        sif = self._mounts_sif(program, setuid=setuid)
        made = Runtime(program.path, program.version, "setuid" if setuid else "userns", pid_namespace, sif)
        return _Found(made, program, None)

    def _mounts_sif(self, program: RuntimeProgram, *, setuid: bool) -> bool:
        """Without a SIF file to run: an unprivileged runtime needs its program for squashfs, and FUSE, which a probe
        tried; a privileged one lets the kernel mount."""
        fuse = bool(self.context.value("fuse.usable", False))
        return setuid or (fuse and runtime.squashfs_program(program.path, self.environment["PATH"]) is not None)

    def _nothing(self, configured: str | None) -> Failure:
        looked = "; ".join(f"{refusal.path}: {refusal.reason}" for refusal in self.refusals)
        where = "containers.runtime, " if configured else ""
        message = (
            f"no container runtime: neither apptainer nor singularity in {where}PATH or {runtime.SYSTEM_DIRECTORY}"
        )
        message = f"no container runtime works: {looked}" if looked else message
        return Failure(
            FailureKind.NODE_RESOURCE, "container.missing", message[:REASON_LIMIT], _SITE_INSTALLS, retry=True
        )


def _has_setuid_starter(path: str) -> bool:
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    for part in ("libexec", f"lib/{os.uname().machine}-linux-gnu", "lib"):
        try:
            found = os.stat(os.path.join(prefix, part, "apptainer", "bin", "starter-suid"))
        except OSError:
            continue
        if found.st_uid == 0 and found.st_mode & stat.S_ISUID:
            return True
    return False


def _without(
    outcome: Negotiation,
    failure: Failure,
    known: Dictionary,
    refusals: Sequence[RuntimeRefusal],
    trials: Trials | None = None,
) -> ContainerDecision:
    """No containers: the end of the pilot where they are required, jobs without one where they are preferred."""
    if outcome.decision == "REQUIRED":
        raise PilotError(replace(failure, message=f"{failure.message} ({outcome.cell} requires containers)"))
    others = "".join(
        f"; {refusal.path}: {refusal.reason}" for refusal in refusals if refusal.path not in failure.message
    )
    reason = f"{outcome.reason}; none here, so jobs run without: {failure.code}: {failure.message}{others}"
    verdicts = tuple(replace(verdict, taken=False) for verdict in known.verdicts(trials))
    return ContainerDecision("PREFERRED", outcome.cell, reason[:REASON_LIMIT], verdicts=verdicts)


def _told(reason: str, found: _Found, search: _Search) -> str:
    parts = [reason, f"runtime {found.runtime.path} {found.runtime.version} from {found.program.origin}"]
    parts += [f"not {refusal.path}: {refusal.reason}" for refusal in search.refusals]
    _, missing = existing(search.binds)
    if missing:
        parts.append("left out, their source is not there: " + ", ".join(bind.source for bind in missing))
    return "; ".join(parts)[:REASON_LIMIT]
