"""``python -m server_stub.frontend simulate SCENARIO.yaml``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pilot_agent.files import write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.usage import Parser

EPILOG = """examples:
  python -m server_stub.frontend simulate scenario.yaml
  python -m server_stub.frontend simulate scenario.yaml --svg plot.svg --json

What a scenario says: docs/how-to/simulate-a-frontend.md in the source.
"""


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code, by the kind of the failure (as the pilot's)."""
    parser = Parser(
        prog="python -m server_stub.frontend",
        description="A frontend for pilots.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    simulate = commands.add_parser(
        "simulate",
        help="see what the frontend would do with a load at some sites",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    simulate.add_argument("scenario", metavar="SCENARIO", help="the scenario's file, YAML or JSON")
    simulate.add_argument("--json", action="store_true", help="print the figures and every cycle as JSON")
    simulate.add_argument("--svg", metavar="FILE", help="write the plots there too")
    parsed = parser.parse_args(argv)
    try:
        return _simulate(parsed)
    except PilotError as error:
        failure = error.failure
        hint = f"\n  {failure.hint}" if failure.hint else ""
        sys.stderr.write(f"frontend: {failure.code}: {failure.message}{hint}\n")
        return failure.exit_code
    except KeyboardInterrupt:
        return 130


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
        document = {"figures": asdict(told), "cycles": [asdict(moment) for moment in simulation.moments]}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(plot.text(simulation.moments, told))
    return 0
