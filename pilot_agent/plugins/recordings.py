"""Recordings of nodes: what ``probe --record`` makes and ``--root`` looks at again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.probes.recording import (
    RecordingError,
    finish_recording,
    is_recording,
    load_recording,
    prepare_directory,
)


def recorded_environment(root: str, environment: Mapping[str, str]) -> Mapping[str, str]:
    """The variables that the node below ``root`` had; ``environment`` for this node. Raises ``PilotError`` (usage) for
    a damaged recording."""
    if not root.strip("/"):
        return environment
    if not is_recording(root):
        # A plain tree of another machine: the variables of this one mean nothing there.
        return {}
    try:
        return load_recording(root).environment
    except RecordingError as error:
        message = f"--root {root} is a damaged recording: {error}"
        raise PilotError(Failure(FailureKind.USAGE, "recording.damaged", message, "record the node again")) from error


def files_root(root: str) -> str:
    """The directory with the files of the node at ``root``: a recording keeps other things beside them."""
    return os.path.join(root, "root") if root.strip("/") and is_recording(root) else root


def masked(document: Json) -> Json:
    """The document without the values of members whose names speak of a secret, as recordings keep it."""
    from pilot_agent.probes.redaction import redact_json  # late: see probes.recording

    return redact_json(document)


def make_directory(path: str) -> None:
    """Make the directory of a recording, or take one that is empty. Raises ``PilotError`` (usage): what is there
    already is not ours to mix, and what others can reach is nowhere to write."""
    try:
        prepare_directory(path)
    except RecordingError as error:
        raise PilotError(Failure(FailureKind.USAGE, "usage", f"--record {path}: {error}")) from error


def finish(directory: str, environment: Mapping[str, str], version: str) -> None:
    """Complete a recording: without its manifest it is none."""
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    finish_recording(directory, environment, {"version": version, "made": made})
