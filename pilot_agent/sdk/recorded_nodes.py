"""Recorded nodes that come with the package, and those of a plugin's author, as directories that a pilot looks at."""

from __future__ import annotations

import json
import pkgutil
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pilot_agent.files import write_json
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.probes.recording import ENVIRONMENT, MANIFEST, load_recording
from pilot_agent.spelling import nearest

SHIPPED = {
    "bare_metal_el9": "64 threads in two sockets, a log-in session on EL9, no limits",
    "slurm_cgroup2": "a Slurm step with 4 of 128 cores and 16 GiB, cgroup version 2",
    "kubernetes_pod": "a pod with 4 of 64 threads and 8 GiB",
    "gpu_one_broken_of_four": "three of four NVIDIA A100, one of them broken",
}
"""The nodes in the package, each in a few words. What one does not hold is not there."""


@dataclass(frozen=True, slots=True)
class RecordedNode:
    """A node that is looked at again: ``root`` is the directory of the recording."""

    name: str
    root: Path

    def write(self, path: str, content: str) -> Path:
        """Put a file on the node, at its absolute path there; the place where it lies here."""
        place = self.root / self._inside() / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
        return place

    def set_environment(self, variables: Mapping[str, str]) -> None:
        """Give the site's environment of this node these variables too."""
        known = load_recording(str(self.root)).environment
        write_json(str(self.root / ENVIRONMENT), {**known, **variables})

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that the node's pilot was started with."""
        return load_recording(str(self.root)).environment

    def _inside(self) -> str:
        return "root" if (self.root / MANIFEST).exists() else "."


def make_node(name: str, directory: Path) -> RecordedNode:
    """The shipped node ``name``, written below ``directory``, which gets a new directory of this name.

    Raises ``PilotError`` (usage) for a name that is none."""
    if name not in SHIPPED:
        message = f"there is no recorded node {name}{nearest(name, SHIPPED)}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, f"known: {', '.join(SHIPPED)}"))
    root = directory / name
    for path, text in shipped_files(name).items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return RecordedNode(name, root)


def copy_node(recording: Path, directory: Path) -> RecordedNode:
    """A copy of a recording (``pilot-agent probe --record``) below ``directory``, so that a test may change it."""
    root = directory / recording.name
    shutil.copytree(recording, root, symlinks=True)
    return RecordedNode(recording.name, root)


def empty_node(directory: Path, name: str = "empty") -> RecordedNode:
    """A node that has nothing but what is written to it."""
    root = directory / name
    (root / "root").mkdir(parents=True)
    manifest = {"schema": "pilot-agent/recording/1", "origin": "composed"}
    write_json(str(root / MANIFEST), manifest)
    return RecordedNode(name, root)


def shipped_files(name: str) -> dict[str, str]:
    """The files of a shipped node by their place in the recording."""
    content = pkgutil.get_data("pilot_agent.sdk", f"nodes/{name}.json")
    if content is None:
        raise FileNotFoundError(f"nodes/{name}.json")
    files: dict[str, str] = json.loads(content)
    return files
