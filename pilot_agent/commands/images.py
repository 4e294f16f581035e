"""``images``: which images jobs get on this node, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from pilot_agent import configure
from pilot_agent.codec import to_json
from pilot_agent.configure import Given
from pilot_agent.containers.candidates import source_of
from pilot_agent.containers.images import dictionary
from pilot_agent.model import ContainerDecision, Failure, Json, PilotError, worst_failure
from pilot_agent.printing import print_page, print_text
from pilot_agent.render import paragraph, surroundings, table
from pilot_agent.report import surroundings_report
from pilot_agent.standalone import View, look
from pilot_agent.state import State

STAGES = ("probe", "mount", "setup_early", "container")


def run_images(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Print the candidates and the decision. Raises ``PilotError`` with the failure with which a pilot would end;
    with ``--json`` that is printed as well."""
    config = configure.read_layers(given, environment)
    state = look(config, environment, stages=STAGES, view=View())
    failure = worst_failure(list(state.failures))
    if parsed.json:
        print_text(json.dumps(_answer(state, failure), indent=2) + "\n")
    elif state.container is not None:
        print_page(page(state.container))
    if failure is not None:
        raise PilotError(failure)
    return 0


def _answer(state: State, failure: Failure | None) -> dict[str, Json]:
    decision = state.container
    if decision is None:
        images = [
            {"platform": c.platform, "candidate": c.path, "source": source_of(c.path) or "", "taken": False}
            for c in dictionary(state.config.get("images"))
        ]
        return {"decision": None, "images": images, "failure": to_json(failure) if failure else None}
    return {
        "decision": decision.decision,
        "cell": decision.cell,
        "reason": decision.reason,
        "default": decision.default_platform,
        "runtime": to_json(decision.runtime) if decision.runtime else None,
        "runtimes": to_json(decision.runtimes),
        **surroundings_report(decision.surroundings),
        "images": [_renamed(to_json(verdict)) for verdict in decision.verdicts],
        "failure": to_json(failure) if failure else None,
    }


def _renamed(verdict: dict[str, Json]) -> dict[str, Json]:
    """As the report calls it: what was offered is a candidate."""
    return {"candidate": verdict.pop("path"), **verdict}


def page(decision: ContainerDecision) -> str:
    """The page for people."""
    parts = [paragraph(f"{decision.decision} ({decision.cell}): {decision.reason}")]
    runtimes, images = [], []
    for one in decision.runtimes:
        about = " ".join(filter(None, (one.version, f"from {one.origin}" if one.origin else "")))
        runtimes += [(_mark(one.taken), f"{one.path} {about}"), ("", one.reason)]
    for verdict in decision.verdicts:
        images.append((_mark(verdict.taken), verdict.platform, verdict.source, verdict.path))
        images.append(("", "", "", verdict.reason))
    parts += [f"{title}\n{table(rows)}" for title, rows in (("Runtimes", runtimes), ("Images", images)) if rows]
    beside = surroundings(decision.surroundings)
    parts += [f"Beside their image jobs get\n{beside}"] if beside else []
    parts.append(paragraph(_default(decision)))
    return "\n\n".join(parts) + "\n"


def _mark(taken: bool) -> str:
    return "  taken" if taken else "  not"


def _default(decision: ContainerDecision) -> str:
    image = decision.images.get(decision.default_platform or "")
    if image is not None:
        return f"Jobs that name no platform get {decision.default_platform}: {image}"
    if decision.runtime is None:
        required = decision.decision in ("REQUIRED", "FAIL")
        return "No job can run here." if required else "Jobs run without a container."
    if decision.decision == "REQUIRED":
        return "Only jobs that bring an image of their own run here."
    return "Jobs that bring no image of their own run without a container."
