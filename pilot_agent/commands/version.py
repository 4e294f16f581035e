"""``version``: which payload this is, and what it carries."""

from __future__ import annotations

import argparse
import json
import platform
import textwrap

from pilot_agent import __version__, report
from pilot_agent.benchmarks import kept
from pilot_agent.carried import Carried, carried
from pilot_agent.commands.bill import bill_of_materials, licence_page
from pilot_agent.cvmfs.offer import DISTRIBUTIONS
from pilot_agent.hookspecs import CONTRACT_VERSION
from pilot_agent.lifecycle import standing
from pilot_agent.model import Json
from pilot_agent.printing import print_page, print_text
from pilot_agent.probes import recording
from pilot_agent.startd.artifacts import CONDOR
from pilot_agent.trust import bundle

SCHEMA = "pilot-agent/version/1"


def run_version(parsed: argparse.Namespace) -> int:
    """Print what was asked for. Raises ``PilotError``: corruption for a payload whose own files cannot be read, usage
    where a checkout is asked what it carries."""
    if parsed.sbom:
        print_text(json.dumps(bill_of_materials(carried()), indent=1) + "\n")
        return 0
    if parsed.licences:
        print_text(licence_page(carried()))
        return 0
    about = about_this(carried())
    if parsed.json:
        print_text(json.dumps(about, indent=2) + "\n")
    else:
        print_page(version_page(about))
    return 0


def about_this(payload: Carried | None) -> dict[str, Json]:
    """The document that ``version --json`` prints. What a checkout cannot know is null."""
    manifest = payload.manifest() if payload else {}
    return {
        "schema": SCHEMA,
        "version": __version__,
        **{name: manifest.get(name) for name in ("build", "commit", "committed", "modified")},
        "file": payload.file if payload else None,
        "digest": payload.digest() if payload else None,
        "python": {"version": platform.python_version(), "carried": bool(payload and payload.runtime)},
        "contract": CONTRACT_VERSION,
        "schemas": dict(map(_split, SCHEMAS)),
    }


def version_page(about: dict[str, Json]) -> str:
    """The same for people."""
    commit = about["commit"] or "not known"
    if about["modified"]:
        commit += ", with changes"
    python = about["python"]
    schemas = ", ".join(f"{name} {number}" for name, number in about["schemas"].items())
    rows = [
        ("build", about["build"] or "a checkout or an installed package"),
        ("commit", commit + (f", {about['committed']}" if about["committed"] else "")),
        ("file", about["file"] or "none"),
        ("sha256", about["digest"] or "not known"),
        ("Python", python["version"] + (", carried" if python["carried"] else ", of this machine")),
        ("plugin contract", str(about["contract"])),
        ("schemas", f"\n{' ' * 18}".join(textwrap.wrap(schemas, 62))),
    ]
    return f"pilot-agent {about['version']}\n" + "".join(f"  {name:<16}{text}\n" for name, text in rows)


SCHEMAS = (
    SCHEMA,
    report.SCHEMA,
    standing.SCHEMA,
    recording.SCHEMA,
    kept.SCHEMA,
    bundle.SCHEMA,
    CONDOR.schema,
    DISTRIBUTIONS.schema,
)
"""Of the documents that this agent writes or reads, as they name them."""


def _split(schema: str) -> tuple[str, int]:
    _, name, number = schema.split("/")
    return name, int(number)
