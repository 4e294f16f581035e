"""A composed node that a test writes down: its variables, the answers of its programs, its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pilot_agent.hookspecs import Context
from pilot_agent.probes.answers import Command
from pilot_agent.probes.recording import SCHEMA


def written_node(
    root: Path,
    environment: Mapping[str, str],
    answers: Mapping[tuple[str, ...], str],
    files: Mapping[str, str] | None = None,
) -> Context:
    """The context of a node on which only these programs answer, all of them with success."""
    (root / "answers").mkdir(parents=True)
    (root / "recording.json").write_text(json.dumps({"schema": SCHEMA, "origin": "composed"}))
    for number, (argv, stdout) in enumerate(answers.items()):
        answer = asdict(Command(argv, 0, stdout))
        (root / "answers" / f"{number}.json").write_text(json.dumps({"key": ["run", *argv], "answer": answer}))
    for path, content in (files or {}).items():
        target = root / "root" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    (root / "root").mkdir(exist_ok=True)
    return Context(root=str(root), environment=dict(environment))
