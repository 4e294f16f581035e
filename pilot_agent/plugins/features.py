"""What the site tells of machine and job while the pilot runs: an end may be announced at any time."""

from __future__ import annotations

import time

from pilot_agent.hookspecs import Context
from pilot_agent.lifecycle.deadline import BELATED_SECONDS, FAR_SECONDS
from pilot_agent.lifecycle.timewatch import ANNOUNCED_ATTRIBUTE
from pilot_agent.model import Json
from pilot_agent.plugins.attributes import feature_attributes
from pilot_agent.probes.batch.machine_job_features import (
    JOB,
    MACHINE,
    features_value,
    fetch_features,
    merged,
    read_features,
)
from pilot_agent.probes.node import Node

VARIABLES = (MACHINE, JOB)
"""Without either the site tells nothing."""


def look_again(context: Context, *, now: float | None = None) -> dict[str, Json]:
    """The features as attributes, and the first end that is announced; nothing when nothing can be read now."""
    node = Node.of(context)
    features = merged(read_features(node, context.environment), fetch_features(node, context.environment))
    if not features.told:
        return {}
    at = time.time() if now is None else now
    announced = [features.number(name) for name in ("shutdowntime", "shutdowntime_job")]
    ends = [moment for moment in announced if moment and at - BELATED_SECONDS <= moment <= at + FAR_SECONDS]
    return feature_attributes(features_value(features)) | {ANNOUNCED_ATTRIBUTE: min(ends, default=None)}
