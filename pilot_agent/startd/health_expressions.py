"""What START asks of the health of the pilot for the jobs that it concerns: services that a job needs, CVMFS
repositories that went away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.startd.classad import attribute_name
from pilot_agent.startd.containers import contained_expression

if TYPE_CHECKING:
    from pilot_agent.startd.plan import StartdPlan

READY_SERVICES_ATTRIBUTE = "PilotReadyServices"
"""Names of the services that are up, separated by commas; the keeper sends it."""

CVMFS_DOWN_ATTRIBUTE = "PilotCvmfsDown"
"""Repositories that went away, separated by blanks; the keeper sends it."""

TALLY_ATTRIBUTES = (
    *("GLIDEIN_PS_OK", "GLIDEIN_PS_FAILING_LIST", "GLIDEIN_PS_FAILED_LIST"),
    *("GLIDEIN_PS_FAILED_LAST", "GLIDEIN_PS_FAILED_LAST_REASON", "GLIDEIN_PS_FAILED_LAST_END"),
    *("GLIDEIN_PS_LAST", "GLIDEIN_PS_LAST_END"),
)
"""How the periodic tests went, under the names of GlideinWMS's periodic scripts."""

HEALTH_ATTRIBUTES = (
    *(READY_SERVICES_ATTRIBUTE, CVMFS_DOWN_ATTRIBUTE, "PilotNotAccepting", "PilotDraining", "PilotBlackHole"),
    *("PilotCvmfsStale", "PilotDiskFreeMiB", "PilotFailingTests", *TALLY_ATTRIBUTES),
)
"""What the keeper alone sends: a constant of that name would hide it."""


def health_conditions(plan: StartdPlan) -> list[str]:
    """Conditions over the job (TARGET) and the slot, each true for a job that needs nothing of the kind. Raises
    ``LiteralError`` for a configured name that names no attribute."""
    services, repositories = attribute_name(plan.services_attribute), attribute_name(plan.cvmfs_attribute)
    down = f"MY.{CVMFS_DOWN_ATTRIBUTE}"
    ready = f'stringListISubsetMatch(TARGET.{services}, MY.{READY_SERVICES_ATTRIBUTE}, ", ") =?= True'
    there = f'stringListsIntersect(TARGET.{repositories}, {down}, ", ") =?= False'
    conditions = [
        f"(isUndefined(TARGET.{services}) || ({ready}))",
        f"(isUndefined({down}) || isUndefined(TARGET.{repositories}) || ({there}))",
    ]
    if plan.container is not None:
        # Of "/cvmfs/repository/image" the parts 0 and 1: what stands between two slashes, empty parts do not count.
        parts = 'split($(PILOT_IMAGE), "/")'
        lost = f'({parts}[0] =?= "cvmfs") && (stringListMember({parts}[1], {down}, " ") =?= True)'
        conditions.append(f"(isUndefined({down}) || (({lost}) =!= True))")
        if plan.container.cvmfs != CVMFS:
            inside = contained_expression(plan.container)
            conditions.append(f"(isUndefined(TARGET.{repositories}) || (({inside}) =?= True))")
    return conditions
