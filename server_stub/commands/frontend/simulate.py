"""``simulate``: what the frontend would do with a load."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from pilot_agent.files import write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.usage import Parser
from server_stub.commands.tables import print_json
from server_stub.commands.tree import Command


def _arguments(parser: Parser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", help="the scenario's file, YAML or JSON")
    parser.add_argument("--json", action="store_true", help="print the figures and every cycle as JSON")
    parser.add_argument("--svg", metavar="FILE", help="write the plots there too")


def _simulate(parsed: argparse.Namespace) -> int:
    from server_stub.frontend.simulation import plot
    from server_stub.frontend.simulation.figures import figures
    from server_stub.frontend.simulation.run import Simulation
    from server_stub.frontend.simulation.scenario import read_scenario

    simulation = Simulation(read_scenario(parsed.scenario))
    simulation.run()
    told = figures(simulation)
    if parsed.svg:
        picture = plot.svg(simulation.moments, told, Path(parsed.scenario).stem)
        try:
            write_atomically(parsed.svg, picture.encode(), mode=0o644)
        except OSError as error:
            message = f"{parsed.svg} cannot be written: {error.strerror}"
            hint = "name a file in a directory that you may write to"
            raise PilotError(Failure(FailureKind.USAGE, "usage", message, hint)) from error
    if parsed.json:
        print_json({"figures": asdict(told), "cycles": [asdict(moment) for moment in simulation.moments]})
    else:
        sys.stdout.write(plot.text(simulation.moments, told))
    return 0


EXAMPLES = ("simulate scenario.yaml", "simulate scenario.yaml --svg plot.svg --json")
COMMANDS = (
    Command("simulate", "see what the frontend would do with a load at some sites", _simulate, _arguments, EXAMPLES),
)
