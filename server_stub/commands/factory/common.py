"""What the factory's commands share: its file, its store, and pilots as lines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pilot_agent.codec import to_json
from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.commands.tables import print_json, print_table

if TYPE_CHECKING:
    import argparse

    from pilot_agent.usage import Parser
    from server_stub.entries import Factory
    from server_stub.factory.pilots import Pilot
    from server_stub.factory.store import Store

PROGRAM = "pilot-factory"
VARIABLE = "PILOT_FACTORY_CONFIG"
FILE = "/etc/pilot-factory/factory.yaml"
COLUMNS = ("pilot", "entry", "state", "host", "exit", "jobs", "outcome", "message")


def take_config(parser: Parser) -> None:
    """``--config`` and ``--json``."""
    parser.add_argument(
        "--config",
        default=os.environ.get(VARIABLE, FILE),
        metavar="FILE",
        help=f"the factory's file, YAML or JSON (default: ${VARIABLE}, else {FILE})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def take_entry(parser: Parser, *, required: bool = False) -> None:
    """``--entry``."""
    told = "which entry of the factory's file" if required else "only those of one entry"
    parser.add_argument("--entry", required=required, metavar="NAME", help=told)


@contextmanager
def opened(parsed: argparse.Namespace) -> Iterator[tuple[Factory, Store]]:
    """The factory of ``--config`` with its store, which is brought to the newest revision. Raises ``PilotError``."""
    from server_stub.entries import read_factory
    from server_stub.factory.store import Store

    factory = read_factory(parsed.config)
    make_state(factory)
    with Store(factory.database) as store:
        yield factory, store


def make_state(factory: Factory) -> None:
    """Nobody but the factory's account reads what pilots are given."""
    os.makedirs(os.path.join(factory.state, "pilots"), mode=0o700, exist_ok=True)
    os.chmod(factory.state, 0o700)


def known_pilot(factory: Factory, store: Store, name: str, consequence: str = "") -> Pilot:
    """The pilot of that name. Raises ``PilotError`` (pilot.unknown), which tells the ``consequence`` too."""
    from server_stub.factory.texts import shown

    pilot = store.get(name)
    if pilot is None:
        message = f"the factory {factory.name} has no pilot {shown(name)!r}{consequence}"
        hint = f"`{PROGRAM} pilots` lists them; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "pilot.unknown", message, hint))
    return pilot


def show_pilots(pilots: Sequence[Pilot], *, as_json: bool) -> None:
    """A line for each, or JSON."""
    if as_json:
        print_json([to_json(pilot) for pilot in pilots])
    else:
        print_table(COLUMNS, [_row(pilot) for pilot in pilots])


def _row(pilot: Pilot) -> tuple[str, ...]:
    """A pilot as the texts of ``COLUMNS``."""
    numbers = ("" if number is None else str(number) for number in (pilot.exit_code, pilot.jobs_started))
    return (pilot.id, pilot.entry, pilot.state.value, pilot.host, *numbers, pilot.outcome, pilot.message)
