"""What the keeper is told of CVMFS: which repositories to watch, what to say of them, and who can mount them again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pilot_agent import CVMFS
from pilot_agent.config_cvmfs import direct_policy
from pilot_agent.facts import known_value
from pilot_agent.lifecycle.plan import CvmfsPlan
from pilot_agent.model import Fact, Json

PROXIED, ANY = "proxied", "any"
"""Whether a server may be asked without a proxy (``cvmfs.published``, which is too much to import here)."""
_INSIDE = "mounted by the pilot, which cannot mount again from inside its namespace: the next pilot has it again"


def watch_plan(
    facts: Mapping[str, Fact],
    config: Mapping[str, Json],
    ladder: Json,
    *,
    interpreter: Sequence[str],
    environment: Mapping[str, str],
    contained: bool,
) -> CvmfsPlan:
    """The plan for the repositories that answered. ``ladder`` is the report's ``cvmfs``; ``contained``: every job runs
    in a container, in which CVMFS is at /cvmfs wherever the pilot has mounted it."""
    wanted = [str(name) for name in config["cvmfs"]["repositories"]]
    repositories = [str(name) for name in known_value(facts, "cvmfs.repositories") or []]
    refused = [str(entry.get("repository")) for entry in known_value(facts, "cvmfs.refused") or []]
    mount_point = str(known_value(facts, "cvmfs.mount_point") or CVMFS)
    rung = next((each["name"] for each in (ladder or {}).get("rungs", ()) if each["state"] == "taken"), "")
    again: dict[str, Json] = {}
    if rung == "fusermount":
        # DISTRIBUTION/dist/cvmfs/REPOSITORY
        distribution = os.path.dirname(os.path.dirname(mount_point))
        again["remount"] = [*interpreter, "_cvmfs", "remount", distribution]
    elif rung == "namespace":
        again["repair"] = _INSIDE
    period = config["cvmfs"]["compare_period_seconds"]
    if period:
        direct, _ = direct_policy(config)
        way = PROXIED if direct == "never" else ANY
        again |= {"compare": [*interpreter, "_cvmfs", "published", way], "compare_seconds": period}
    return CvmfsPlan(
        repositories=repositories,
        revisions=known_value(facts, "cvmfs.revisions") or {},
        absent=[name for name in dict.fromkeys((*wanted, *refused)) if name not in repositories],
        required=wanted if (ladder or {}).get("decision") == "REQUIRED" else (),
        advertised=mount_point == CVMFS or contained,
        command=[*interpreter, "_cvmfs", "look"],
        environment=environment,
        mount_point=mount_point,
        period_seconds=config["cvmfs"]["look_period_seconds"],
        timeout_seconds=config["cvmfs"]["look_timeout_seconds"],
        **again,
    )
