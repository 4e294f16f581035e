"""What the report says of the startd: how the node was divided, whose conditions count, what was left out and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent.startd.policy import memory_limit_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot_agent.model import Json
    from pilot_agent.startd.plan import StartdPlan
    from pilot_agent.startd.transfer_plugins import TransferPlugin


def told(plan: StartdPlan, transfers: Sequence[TransferPlugin] = ()) -> dict[str, Json]:
    """The part ``startd`` of the report."""
    return {
        "slots": [
            {
                "count": group.count,
                "cores": group.cores,
                "memory_mib": group.memory_mib,
                "disk": group.disk_percent,
                "gpus": group.gpus,
                "partitionable": group.partitionable,
                "resources": dict(group.resources),
                "only_for": group.only_for,
            }
            for group in plan.slot_groups
        ],
        "policies": [{"key": each.key, "layer": each.layer, "expression": each.text} for each in plan.expressions],
        "collectors": list(plan.collectors),
        "ccb_brokers": list(plan.ccb_brokers or plan.collectors) if plan.network.ccb else [],
        "transfer_plugins": [
            {
                "path": plugin.path,
                # Files of the node are not for jobs in containers (see ``libexec``).
                "schemes": [one for one in plugin.schemes if plan.container is None or one.lower() != "file"],
                "problem": plugin.problem,
            }
            for plugin in transfers
        ],
        "fragments": [
            {"plugin": item.plugin, "name": item.fragment.name, "lines": item.fragment.text.splitlines()}
            for item in plan.fragments
        ],
        "job_cgroups": _job_cgroups(plan),
    }


def _job_cgroups(plan: StartdPlan) -> dict[str, Json]:
    cgroups = plan.job_cgroups
    if not cgroups.used:
        return {"used": False, "reason": cgroups.reason}
    return {
        "used": True,
        "reason": "",
        "group": cgroups.group,
        "controllers": list(cgroups.controllers),
        "memory_limit": memory_limit_policy(plan),
    }
