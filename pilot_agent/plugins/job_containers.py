"""From the container stage's decision to how HTCondor runs jobs in containers, and what its image hook works with."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from pilot_agent.files import write_atomically
from pilot_agent.interpreter import module_command
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.startd.confinement import LOCK
from pilot_agent.startd.fetching import FETCHED, is_remote
from pilot_agent.startd.plan import ContainerPlan
from pilot_agent.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilot_agent.model import ImageVerdict, Runtime
    from pilot_agent.plugins.condor import HandoffInputs
    from pilot_agent.startd.plan import CondorPaths

AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "X509_CERT_DIR")
"""Where the site's own certificate authorities are."""

# The runtime's option against a shell evaluating jobs' variables exists since this version.
NO_EVAL_SINCE = (1, 1)
# HTCondor versions whose job starters were seen to have the name that ``containers.JOB_STARTER`` relies on.
NAMED_STARTERS_SINCE = (23, 9)


def plan_containers(inputs: HandoffInputs, condor: CondorPaths) -> ContainerPlan | None:
    """How the decision becomes HTCondor's: without a runtime, or when containers are not wanted, not at all.

    Raises ``PilotError`` (container.conflict, container.missing, container.bind).
    """
    decision, runtime = inputs.decision, inputs.decision.runtime
    if decision.decision == "FAIL" or (decision.decision == "REQUIRED" and runtime is None):
        raise _error(
            FailureKind.CONFIG if decision.decision == "FAIL" else FailureKind.NODE_RESOURCE,
            "container.conflict" if decision.decision == "FAIL" else "container.missing",
            f"no job can be contained as it must be: {decision.reason}",
            "VO and site agree on containers, or the site installs Apptainer",
        )
    if runtime is None or decision.decision in ("NEVER", "DISABLE"):
        return None
    _refuse_private_binds(inputs)
    local = [verdict for verdict in decision.verdicts if verdict.taken and not is_remote(verdict.path)]
    return ContainerPlan(
        runtime=runtime.path,
        images=decision.images,
        default_platform=decision.default_platform,
        required=decision.decision == "REQUIRED",
        pid_namespace=runtime.pid_namespace,
        sif=runtime.sif,
        # HTCondor has one switch for all images: it stays on while the pilot answers for none, or not for all.
        # What is fetched the image hook proves.
        test_before_job=not decision.images or not all(verdict.proven for verdict in local),
        proven=_numbers(condor.version) >= NAMED_STARTERS_SINCE,
        version=runtime.version,
        full_version=runtime.full_version,
        mode={"userns": "unprivileged", "setuid": "privileged"}[runtime.mode],
        binds=tuple(map(str, inputs.job_binds)),
        extra_arguments=(*_runtime_options(runtime), *inputs.container_options),
        target_directory=inputs.config["containers"]["scratch"],
        gpu_libraries=bool(inputs.config["containers"]["gpu_libraries"]),
        opencl=bool(inputs.config["containers"]["bind_opencl"]),
        allowed_paths=tuple(inputs.config["containers"]["allowed_paths"]),
        forbidden_fifo=_forbidden_fifo(inputs),
        fetcher=(*module_command("pilot_agent.image_hook"), _settings_path(inputs)),
        fetched=_allowed_schemes(inputs),
        cvmfs=decision.cvmfs,
    )


def _forbidden_fifo(inputs: HandoffInputs) -> str:
    """Where the keeper hears of images that are not allowed, when their jobs go elsewhere; else empty."""
    if inputs.config["containers"]["forbidden_image"] != "elsewhere":
        return ""
    return Workspace(inputs.workspace).image_failures


def _refuse_private_binds(inputs: HandoffInputs) -> None:
    """A bind that shows jobs the pilot's private directory gives every job the pool's token."""
    private = os.path.realpath(Workspace(inputs.workspace).private)
    for bind in inputs.job_binds:
        source = os.path.realpath(bind.source)
        if os.path.commonpath((source, private)) in (source, private):
            raise _error(
                FailureKind.CONFIG,
                "container.bind",
                f"bind '{bind}' would show jobs the pilot's private directory {private}",
                "whoever asked for the bind names a narrower directory, or site.scratch lies elsewhere",
            )


def _runtime_options(runtime: Runtime) -> tuple[str, ...]:
    """Without this option the runtime lets a shell evaluate what stands in variables' values."""
    return ("--no-eval",) if _numbers(runtime.version) >= NO_EVAL_SINCE else ()


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of "1.4.5-2" or "apptainer version 1.4.5": (1, 4, 5); empty when there is none."""
    numbers: list[int] = []
    words = version.split() or [""]
    for part in words[-1].split("-", maxsplit=1)[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def install_image_hook(inputs: HandoffInputs, container: ContainerPlan) -> None:
    """Write what the image hook works with where no job can write, and make the FIFO by which it tells the keeper of
    its failures. Raises ``OSError``."""
    config, workspace, site = inputs.config, Workspace(inputs.workspace), inputs.site_environment
    pins = _pins(inputs.decision.verdicts)
    settings = {
        "fetches": bool(pins or container.fetched),
        "store": config["containers"]["store_directory"] or workspace.images,
        "limit_mib": config["containers"]["store_mib"],
        "deadline_seconds": config["containers"]["fetch_seconds"],
        "form": "file" if container.sif else "directory",
        "runtime": container.runtime,
        "runtime_name": f"{container.runtime} {container.version}",
        "dictionary": pins,
        "failures": workspace.image_failures,
        "binds": list(container.binds),
        "options": [*inputs.gpu_options, *container.extra_arguments],
        "scratch": container.target_directory,
        "pid_namespace": container.pid_namespace,
        "cvmfs": container.cvmfs,
        "temporary": workspace.temporary,
        "starter_lock": os.path.join(workspace.private, LOCK),
        "environment": {name: site[name] for name in AUTHORITIES if name in site},
    }
    write_atomically(_settings_path(inputs), json.dumps(settings).encode())
    if not os.path.lexists(workspace.image_failures):
        os.mkfifo(workspace.image_failures, 0o600)


def _pins(verdicts: Iterable[ImageVerdict]) -> dict[str, dict[str, str]]:
    """The remote images on offer: reference -> platform -> digest (empty: not pinned). Two platforms may pin one
    reference to two contents."""
    pins: dict[str, dict[str, str]] = {}
    for verdict in verdicts:
        if verdict.taken and is_remote(verdict.path):
            pins.setdefault(verdict.path, {})[verdict.platform] = verdict.digest
    return pins


def _allowed_schemes(inputs: HandoffInputs) -> tuple[str, ...]:
    """Of what the pilot can fetch, what every layer's ``containers.sources`` allows."""
    restrictions = inputs.config["containers"]["sources"] or []
    return tuple(scheme for scheme in FETCHED if all(scheme in one["value"] for one in restrictions))


def _settings_path(inputs: HandoffInputs) -> str:
    return os.path.join(os.path.dirname(Workspace(inputs.workspace).condor_config), "image-hook.json")


def _error(kind: FailureKind, code: str, message: str, hint: str) -> PilotError:
    return PilotError(Failure(kind, code, message, hint=hint, stage="handoff"))
