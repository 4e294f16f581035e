"""What the machine ad says about containers, under the names that users' submit files and frontends rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent import CVMFS

if TYPE_CHECKING:
    from pilot_agent.model import ContainerDecision, Fact, Json, RuntimeAbilities
    from pilot_agent.startd.plan import ContainerPlan

NESTED_ATTRIBUTE = "PilotNestedContainers"
"""True where a job may run an unprivileged container runtime of its own inside its container."""

CVMFS_ATTRIBUTE = "PilotCvmfsOnlyInContainers"
"""True where the pilot mounted CVMFS so that jobs without a container do not see it."""


def container_attributes(container: ContainerPlan | None, decision: ContainerDecision | None = None) -> dict[str, Json]:
    """The attributes. ``container`` is None when no job runs in a container; where the VO leaves containers to each
    job (DISABLE), nothing is said of them."""
    status = {"GWMS_SINGULARITY_STATUS": decision.decision} if decision is not None else {}
    if decision is not None and decision.decision == "DISABLE":
        return {"PilotJobIsolation": "none"}
    if container is None:
        return {"HAS_SINGULARITY": False, **status, "PilotJobIsolation": "none"}
    runtime = decision.runtime if decision is not None else None
    abilities = runtime.abilities if runtime is not None else None
    full_version = (runtime.full_version if runtime else "") or f"apptainer version {container.version}"
    return {
        "HAS_SINGULARITY": True,
        **status,
        **_software(container, full_version),
        "SINGULARITY_FULL_VERSION": full_version,
        "SINGULARITY_IMAGES_DICT": _dictionary(container),
        "GLIDEIN_REQUIRED_OS": ",".join(container.images) or "any",
        "HasSIF": container.sif,
        "SINGULARITY_CAN_USE_SIF": container.sif,
        **({NESTED_ATTRIBUTE: abilities.nested.value} if abilities and abilities.nested.value is not None else {}),
        **(_tested(container, full_version, abilities) if container.proven else {}),
        "PilotJobIsolation": "strong" if _isolates(container) else "weak",
        "PilotStarterIsolation": _starters(container),
        **({CVMFS_ATTRIBUTE: True} if container.cvmfs != CVMFS else {}),
    }


def user_namespaces(fact: Fact | None) -> str:
    """HAS_UNPRIVILEGED_USER_NAMESPACES from the fact ``userns.usable``, in the words that it has today."""
    if fact is None or fact.status == "unknown":
        return "error"
    if fact.status == "absent":
        return "unavailable"
    return "enabled" if fact.value else "disabled"


def _software(container: ContainerPlan, full_version: str) -> dict[str, Json]:
    """Path, version and mode, each under the four prefixes that expressions use."""
    values = {"PATH": container.runtime, "VERSION": container.version, "MODE": container.mode}
    prefixes = ("SINGULARITY", "GWMS_SINGULARITY", "CONTAINERSW", "GWMS_CONTAINERSW")
    found: dict[str, Json] = {f"{prefix}_{name}": value for prefix in prefixes for name, value in values.items()}
    return found | {f"{prefix}_FULL_VERSION": full_version for prefix in prefixes if prefix.endswith("CONTAINERSW")}


def _dictionary(container: ContainerPlan) -> str:
    """``platform:image,platform:image``; the default's image also as ``default``. An image whose name has a comma
    cannot be said in this form and is left out."""
    images = dict(container.images)
    default = images.get(container.default_platform or "")
    if default is not None:
        images.setdefault("default", default)
    return ",".join(f"{platform}:{image}" for platform, image in images.items() if "," not in image)


def _tested(container: ContainerPlan, full_version: str, abilities: RuntimeAbilities | None) -> dict[str, Json]:
    """What HTCondor's own test of the runtime would have said; jobs' requirements name these."""
    return {
        "HasSingularity": True,
        "HasContainer": True,
        "HasSandboxImage": abilities is None or abilities.directories.value is not False,
        "HasDockerURL": "docker" in container.fetched,
        "HasSingularityPIDNamespaces": container.pid_namespace,
        "SingularityUserNamespaces": container.mode != "privileged",
        "SingularityVersion": full_version,
    }


def _isolates(container: ContainerPlan) -> bool:
    """Whether no job can reach the pilot or another job: weak when jobs may run without a container, when they see the
    node's processes, or when HTCondor's starter, which works for a job with the pilot's uid, can read the token."""
    return container.required and container.pid_namespace and container.confinement is not None


def _starters(container: ContainerPlan) -> str:
    """What the starters of jobs are kept from, as ``startd.starter_isolation`` has it."""
    if container.confinement is None:
        return "none"
    return "job" if container.confinement.processes else "secrets"
