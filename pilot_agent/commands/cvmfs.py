"""``cvmfs plan``: by which way jobs get CVMFS on a node, and why not by another."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from pilot_agent import configure
from pilot_agent.codec import to_json
from pilot_agent.configure import Given
from pilot_agent.cvmfs.ladder import Ladder, climb, failure_of
from pilot_agent.model import PilotError
from pilot_agent.printing import print_page, print_text
from pilot_agent.render import cvmfs, paragraph
from pilot_agent.standalone import PROBE_STAGES, View, look

PROBES = frozenset(("batch", "cvmfs", "disk", "fuse", "network", "os", "software", "userns"))
"""The probes whose facts decide."""


def run_plan(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Print the ladder. Raises ``PilotError`` with the failure with which a pilot would end, after printing."""
    config = configure.read_layers(given, environment)
    state = look(config, environment, stages=PROBE_STAGES, view=View(parsed.root, PROBES))
    ladder = climb(state.facts, state.config.values)
    if parsed.json:
        print_text(json.dumps(to_json(ladder), indent=2) + "\n")
    else:
        print_page(page(ladder))
    failure = failure_of(ladder)
    if failure is not None:
        raise PilotError(failure)
    return 0


def page(ladder: Ladder) -> str:
    """The page for people."""
    wanted = ", ".join(ladder.repositories) or "none is named: what the site has mounted"
    return f"{paragraph(f'Repositories: {wanted}')}\n\n{cvmfs(to_json(ladder))}\n"
