"""``cvmfs plan``: by which way jobs get CVMFS on a node, and why not by another."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from tempfile import TemporaryDirectory

from pilot_agent import configure
from pilot_agent.codec import to_json
from pilot_agent.configure import Given
from pilot_agent.cvmfs.ladder import Ladder, climb, failure_of
from pilot_agent.cvmfs.supply import Considered, considered, needs_client
from pilot_agent.model import PilotError
from pilot_agent.printing import print_page, print_text
from pilot_agent.render import cvmfs, paragraph, table
from pilot_agent.standalone import PROBE_STAGES, View, look

PROBES = frozenset(("batch", "cvmfs", "disk", "fuse", "network", "os", "software", "userns"))
"""The probes whose facts decide."""


def run_plan(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Print the ladder. Raises ``PilotError`` with the failure with which a pilot would end, after printing."""
    config = configure.read_layers(given, environment)
    state = look(config, environment, stages=PROBE_STAGES, view=View(parsed.root, PROBES))
    values, recorded = state.config.values, bool(parsed.root.strip("/"))
    ladder = climb(state.facts, values)
    clients = None
    if needs_client(ladder, values):
        with TemporaryDirectory(prefix="pilot-plan-") as directory:
            clients = considered(values, state.facts, environment, directory, fetch=parsed.fetch and not recorded)
        if clients.failure is not None:
            ladder = climb(state.facts, values, tried=clients.without(ladder))
    if parsed.json:
        more = {"distributions": to_json(clients.why)} if clients is not None else {}
        print_text(json.dumps(to_json(ladder) | more, indent=2) + "\n")
    else:
        print_page(page(ladder) + (distributions(clients) if clients is not None else ""))
    failure = failure_of(ladder)
    if failure is not None:
        raise PilotError(failure)
    return 0


def page(ladder: Ladder) -> str:
    """The page of the ways, for people."""
    wanted = ", ".join(ladder.repositories) or "none is named: what the site has mounted"
    return f"{paragraph(f'Repositories: {wanted}')}\n\n{cvmfs(to_json(ladder))}\n"


def distributions(clients: Considered) -> str:
    """What became of every published client, for people."""
    rows = [(f"  {one.state}", one.machine_type or one.source, one.file, one.reason) for one in clients.why]
    return f"\n{paragraph(f'Clients in {clients.place}')}\n{table(rows)}\n"
