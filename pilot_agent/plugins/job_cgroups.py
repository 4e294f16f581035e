"""Whether HTCondor gives each job a control group of its own, below the pilot's, and what stands in the way where it
does not (docs/reference/machine-ad.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.startd.job_groups import Undivided, divide, own_group
from pilot_agent.startd.plan import JobCgroups
from pilot_agent.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.model import Fact
    from pilot_agent.plugins.condor import HandoffInputs
    from pilot_agent.process import WakeUp
    from pilot_agent.startd.plan import StartdPlan

FIRST_VERSION = (23, 9, 6)
"""The first HTCondor that makes groups without root's rights (CREATE_CGROUP_WITHOUT_ROOT in its version history)."""

_VERSION = "HTCondor without root's rights makes groups of version 2 only, and this node has {}"
_NO_MEMORY = "groups could be made, but without the controller of memory: {}"
_CONDOR = (
    "HTCondor makes groups without root's rights from 23.9.6 on, and this one is {}; startd.condor_version chooses"
)
_HOOK = (
    "HTCondor (seen with 23.9.6) gives no group to a job for which it has run a hook before, and where jobs have "
    "containers the pilot has one run for each; the site cannot change that, and only pilots without containers can "
    "have such groups"
)
_NEVER = "startd.job_cgroups is never; the layer that says so must change it"


def plan_job_cgroups(inputs: HandoffInputs, plan: StartdPlan, wake: WakeUp | None = None) -> JobCgroups:
    """Divide the pilot's control group where the configuration wants that and everything allows it; what became of it.

    Raises ``PilotError`` (``cgroups.unusable``, node; ``cgroups.contained``, config) where it is required and cannot be
    had; ``OSError`` when the journal cannot be written, ``Interrupted`` when ``wake`` becomes readable.
    """
    wish = inputs.config["startd"]["job_cgroups"].lower()
    if wish == "never":
        return JobCgroups(reason=_NEVER)
    # First what no site can change: it would be asked for a group of which nothing comes.
    contained = _HOOK if plan.container is not None else ""
    reason = contained or why_no_cgroups(inputs.facts) or _too_old(plan.condor.version)
    if not reason:
        try:
            group = own_group()
            controllers = divide(group, Workspace(inputs.workspace), inputs.parent, wake=wake)
        except Undivided as refusal:
            reason = str(refusal)
        else:
            return JobCgroups(used=True, group=group, controllers=controllers)
    if wish == "required":
        raise _required(reason)
    return JobCgroups(reason=reason)


def _required(reason: str) -> PilotError:
    message = f"startd.job_cgroups is required, and jobs cannot have control groups of their own: {reason}"
    other = "the layer that requires it sets startd.job_cgroups: auto"
    if reason == _HOOK:
        return PilotError(Failure(FailureKind.CONFIG, "cgroups.contained", message, hint=other, stage="handoff"))
    hint = f"the site changes what the message names, or {other}"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "cgroups.unusable", message, hint=hint, stage="handoff"))


def why_no_cgroups(facts: Mapping[str, Fact]) -> str:
    """What the probes found that keeps jobs from having control groups of their own; empty where they found nothing, or
    did not end: then trying tells."""
    delegated, version = facts.get("cgroup.delegated"), facts.get("cgroup.version")
    if delegated is not None and delegated.known and not delegated.value:
        return delegated.detail
    if version is not None and version.known and version.value != "v2":
        return _VERSION.format(version.value)
    controllers = facts.get("cgroup.delegated_controllers")
    if controllers is not None and controllers.known and "memory" not in controllers.value:
        return _NO_MEMORY.format(controllers.detail or "it is not enabled for the pilot's group")
    return ""


def _too_old(version: str) -> str:
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    return "" if numbers >= FIRST_VERSION else _CONDOR.format(version)
