"""Whether an HTCondor really runs on this node: its programs are started, and say the version that its files say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.startd.asking import ask_all

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp
    from pilot_agent.startd.plan import CondorPaths

PROOF_SECONDS = 30.0
DAEMONS = ("condor_master", "condor_startd", "condor_starter")

_VERSION = re.compile(rb"\$CondorVersion: (\d+\.\d+\.\d+)")


def prove(paths: CondorPaths, environment: Mapping[str, str], *, wake: WakeUp | None = None) -> None:
    """Start the daemons and the file transfer plugins, each only to say what it is.

    Raises ``PilotError`` (condor.unusable) with what the first of them said that did not; ``Interrupted``.
    """
    commands = [(os.path.join(paths.sbin, name), "-v") for name in DAEMONS]
    commands += [(plugin, "-classad") for plugin in paths.plugins]
    results = ask_all(commands, environment, deadline_seconds=PROOF_SECONDS, wake=wake)
    for command, result in zip(commands, results, strict=True):
        if not result.ok:
            raise _unusable(paths, result.explain())
        said = _VERSION.search(result.stdout)
        if command[1] == "-v" and (said is None or said[1].decode() != paths.version):
            told = said[1].decode() if said else "no version"
            raise _unusable(paths, f"{command[0]} says {told}, and its files say {paths.version}")


def _unusable(paths: CondorPaths, why: str) -> PilotError:
    hint = "the factory offers an HTCondor that was built for this distribution, or the site installs what it lacks"
    message = f"the HTCondor {paths.version} in {paths.release} does not run here: {why}"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "condor.unusable", message, hint, stage="handoff", retry=True))
