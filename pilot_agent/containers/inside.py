"""Programs of plugins inside an image: with the command line, binds and environment that a job in it would get."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pilot_agent.containers.command import (
    TARGET_DIRECTORY,
    Bind,
    ContainerRun,
    existing,
    runtime_environment,
    runtime_options,
)
from pilot_agent.containers.cvmfs_paths import physical
from pilot_agent.containers.messages import diagnose
from pilot_agent.containers.runtime import parse_version
from pilot_agent.hookspecs import INSIDE_SCRIPT_DIRECTORY
from pilot_agent.model import (
    ContainerDecision,
    Fact,
    Failure,
    FailureKind,
    ImageVerdict,
    JobSurroundings,
    PilotError,
    Runtime,
)
from pilot_agent.process import Result

RUNTIME_FAILED = 255
"""The exit code with which the runtime itself gives up; a program's own 255 comes without ``FATAL``."""

WORKING_VARIABLES = ("_CONDOR_SCRATCH_DIR", "TMPDIR", "TMP", "TEMP")
"""Variables with which HTCondor tells a job where its scratch directory is."""


@dataclass(frozen=True, slots=True)
class JobContainer:
    """What every job's container gets beside its image: binds, options, environment. ``gpu_options`` are those that
    jobs get with their GPUs."""

    binds: tuple[Bind, ...] = ()
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    gpu_options: tuple[str, ...] = ()

    @classmethod
    def of(cls, surroundings: JobSurroundings) -> JobContainer:
        """What is given of all that was asked for."""
        return cls(
            binds=tuple(Bind(b.source, b.destination, b.read_only) for b in surroundings.binds if b.given),
            options=tuple(o.option for o in surroundings.options if o.given and not o.with_gpus),
            environment={v.name: v.value for v in surroundings.environment if v.given and not v.of_service},
            gpu_options=tuple(o.option for o in surroundings.options if o.given and o.with_gpus),
        )


@dataclass(frozen=True, slots=True)
class Interior:
    """An image in which programs of plugins can run, and all that their command lines have in common."""

    image: str
    runtime: Runtime
    binds: tuple[Bind, ...]
    options: tuple[str, ...]
    variables: Mapping[str, str]
    environment: Mapping[str, str]
    target: str = TARGET_DIRECTORY

    @classmethod
    def of(
        cls,
        decision: ContainerDecision | None,
        platform: str | None,
        jobs: JobContainer,
        environment: Mapping[str, str],
        temporary: str,
    ) -> Interior:
        """The image of ``platform`` (None: the default one), as jobs get it. ``environment`` is that of the pilot's own
        children, ``temporary`` keeps what the runtime writes.

        It sees all GPUs that jobs can get. Raises ``PilotError`` where jobs get no container, no such image, or one
        that is only fetched for a job.
        """
        image, runtime = _image(decision, platform)
        if decision is not None:
            image = physical(image, decision.cvmfs)
        return cls.in_image(image, runtime, jobs, environment, temporary, gpus=True)

    @classmethod
    def in_image(
        cls,
        image: str,
        runtime: Runtime,
        jobs: JobContainer,
        environment: Mapping[str, str],
        temporary: str,
        *,
        gpus: bool = False,
        target: str = TARGET_DIRECTORY,
    ) -> Interior:
        """Any image, as a job that names it gets it, with the driver's libraries where it gets ``gpus``; its scratch
        directory appears at ``target``. The rest as ``of`` has it."""
        there, _ = existing(jobs.binds)
        parsed = parse_version(runtime.version)
        numbers, singularity = (parsed[2], _is_singularity(runtime)) if parsed else ((), False)
        own = jobs.gpu_options if gpus else ()
        options = tuple(dict.fromkeys((*runtime_options(numbers, singularity=singularity), *own, *jobs.options)))
        outside = runtime_environment(environment, temporary)
        return cls(image, runtime, there, options, dict(jobs.environment), outside, target)

    def with_binds(self, texts: Sequence[str]) -> Interior:
        """The same with further binds, each ``source[:target[:ro]]``. Raises ``PilotError`` where a source is
        missing."""
        own = tuple(Bind.parse(text) for text in texts)
        missing = [bind.source for bind in own if not os.path.exists(bind.source)]
        if missing:
            hint = "the site provides it, or whoever declared the bind takes it out"
            raise _error("bind.missing", f"what is to be bound into the image is not there: {missing[0]}", hint)
        return replace(self, binds=(*self.binds, *own))

    def command(
        self,
        words: Sequence[str],
        directory: str,
        *,
        script: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> tuple[list[str], dict[str, str]]:
        """The command line that runs ``words``, and the environment in which the runtime is to be started.

        ``directory`` becomes ``target``, which is /srv for programs of plugins; ``script`` is bound to
        ``script_inside``, whose place is made in it. ``variables`` are the program's own beside those of jobs. Raises
        ``OSError``.
        """
        binds = self.binds
        if script is not None:
            binds = (*binds, Bind(script, script_inside(script), read_only=True))
            _make_mount_point(os.path.join(directory, os.path.relpath(script_inside(script), TARGET_DIRECTORY)))
        run = ContainerRun(
            runtime=self.runtime.path,
            image=self.image,
            program=tuple(words),
            scratch=directory,
            binds=binds,
            pid_namespace=self.runtime.pid_namespace,
            options=self.options,
            target=self.target,
        )
        prefix = "SINGULARITYENV_" if _is_singularity(self.runtime) else "APPTAINERENV_"
        inside = dict.fromkeys(WORKING_VARIABLES, self.target) | dict(self.variables) | dict(variables or {})
        return run.command_line(), dict(self.environment) | {prefix + name: value for name, value in inside.items()}


def script_inside(script: str) -> str:
    """Where a plugin's script is found inside an image."""
    return os.path.join(INSIDE_SCRIPT_DIRECTORY, os.path.basename(script))


def never_ran(result: Result) -> Failure | None:
    """Why the runtime did not run the program; None when it ran, or did not end by itself."""
    errors = result.stderr.decode("utf-8", "replace")
    if result.code != RUNTIME_FAILED or "FATAL" not in errors:
        return None
    problem = diagnose(errors)
    return Failure(problem.kind, problem.code, problem.message, problem.hint)


def image_facts(decision: ContainerDecision | None, platform: str | None) -> dict[str, Fact]:
    """What the proof found inside the image of a platform (None: the default one), as facts by name.

    Raises ``PilotError`` where jobs get no container or no such image, and for an image in which nothing was run yet.
    """
    image, _ = _image(decision, platform)
    verdicts = decision.verdicts if decision is not None else ()
    proven = next((one for one in verdicts if one.taken and one.proven and one.path == image), None)
    if proven is None:
        message = f"nothing is known of the image {image}: it was not proven within prove.budget_seconds"
        raise _error("image.unproven", message, "whoever set prove.budget_seconds gives more time")
    return {name: Fact(name, value, source=f"inside {image}") for name, value in proven.facts.items()}


def _image(decision: ContainerDecision | None, platform: str | None) -> tuple[str, Runtime]:
    if decision is None or decision.runtime is None or decision.decision in ("NEVER", "DISABLE", "FAIL"):
        why = f": {decision.reason}" if decision is not None and decision.reason else ""
        hint = "VO and site agree on containers, or nothing that must run inside an image is required"
        raise _error("container.none", f"jobs get no container here{why}"[:1000], hint)
    images = decision.images
    name = platform or decision.default_platform
    image = images.get(name or "")
    if image is None:
        listed = ", ".join(images) or "none"
        wanted = f"the platform {name!r}" if name else "a default platform"
        refused = "; ".join(f"{one.path}: {one.reason}" for one in _refused(decision, name))
        message = f"jobs get no image of {wanted} here; there are: {listed}" + (f" ({refused})" if refused else "")
        hint = "the VO adds a candidate that this node can use to images"
        raise _error("image.not_in_dictionary", message[:1000], hint)
    if not image.startswith("/"):
        message = f"the image {image} is fetched when the first job needs it, and nothing can be run in it before"
        raise _error("image.unproven", message, "the VO adds a candidate in a directory or in /cvmfs to images")
    return image, decision.runtime


def _refused(decision: ContainerDecision, platform: str | None) -> list[ImageVerdict]:
    """What was no image of this platform, with the reasons; None: of any."""
    return [one for one in decision.verdicts if not one.taken and (platform or one.platform) == one.platform]


def _error(code: str, message: str, hint: str) -> PilotError:
    return PilotError(Failure(FailureKind.CONFIG, code, message, hint))


def _is_singularity(runtime: Runtime) -> bool:
    """As ``startd.containers`` tells them apart, so that jobs and programs of plugins get the same."""
    return os.path.basename(runtime.path) == "singularity"


def _make_mount_point(path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path, "ab"):
        pass
