"""The proof of an image that no dictionary proved, at its first use on the node, with the options that jobs get."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pilot_agent.containers.command import Bind, existing, runtime_environment
from pilot_agent.containers.messages import Diagnosis
from pilot_agent.containers.proof import ProofSetting, prepare, read
from pilot_agent.containers.runtime import RuntimeProgram
from pilot_agent.environment import clean_environment
from pilot_agent.process import run

SECONDS = 30.0


def prove_image(settings: Mapping[str, Any], image: str) -> Diagnosis | None:
    """Run a program in ``image``; None when it ran, otherwise why not.

    ``settings`` are those of the image hook: ``runtime``, ``options``, ``binds``, ``scratch``, ``pid_namespace``,
    ``cvmfs``, where the node has what is below /cvmfs, and ``temporary``, a directory for what the run leaves. Raises
    ``OSError`` when there is no room.
    """
    temporary = settings["temporary"]
    environment = clean_environment(os.environ, home=temporary, temporary=temporary)
    binds, _ = existing(tuple(map(Bind.parse, settings["binds"])))
    # The options that its version needs are among those of the jobs.
    program = RuntimeProgram(settings["runtime"], "apptainer", "", (), "the pilot's own choice")
    options = tuple(settings["options"])
    outside = runtime_environment(environment, temporary)
    target, cvmfs = settings["scratch"], settings["cvmfs"]
    setting = ProofSetting(program, outside, temporary, binds, options, target=target, cvmfs=cvmfs)
    attempt = prepare(setting, image, pid_namespace=settings["pid_namespace"])
    try:
        result = run(attempt.argv, deadline_seconds=SECONDS, environment=setting.environment, directory=attempt.scratch)
        return read(attempt, result).diagnosis
    finally:
        attempt.clear()
