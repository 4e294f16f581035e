"""The nodes below ``nodes/`` as contexts, and findings as mappings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json, Limit

NODES = Path(__file__).parent / "nodes"
NAMES = tuple(sorted(path.name for path in NODES.iterdir() if path.is_dir()))


def context_of(name: str, config: Mapping[str, Json] | None = None, **environment: str) -> Context:
    """The context of a node, with further variables."""
    recorded = json.loads((NODES / name / "environment.json").read_text())
    return Context(root=str(NODES / name), environment=recorded | environment, config=config or {})


def facts(findings: Iterable[Finding]) -> dict[str, Fact]:
    """The facts by name."""
    return {finding.name: finding for finding in findings if isinstance(finding, Fact)}


def limits(findings: Iterable[Finding], resource: str) -> dict[str, float]:
    """The bounds on a resource, by source."""
    return {
        finding.source: finding.number
        for finding in findings
        if isinstance(finding, Limit) and finding.resource == resource
    }


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Context:
    """A node made of these files, as a context without variables."""
    for path, content in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    root.mkdir(parents=True, exist_ok=True)
    return Context(root=str(root))
