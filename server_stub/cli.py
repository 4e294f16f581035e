"""``python -m server_stub serve | submit | collect | revoke | close | open | pilots --config factory.yaml``, and
``entries import``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence

import structlog

from pilot_agent.codec import to_json
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.usage import Parser
from server_stub.collect import collect
from server_stub.condor.system import HTCondor
from server_stub.entries import Factory, read_factory
from server_stub.factory.importing.command import add_command, import_entries
from server_stub.factory.pilots import Pilot
from server_stub.factory.store import Store
from server_stub.factory.texts import shown
from server_stub.submit import submit_pilots

COLUMNS = ("pilot", "entry", "state", "host", "exit", "jobs", "outcome", "message")

EPILOG = """examples:
  python -m server_stub serve --config factory.yaml
  python -m server_stub submit --config factory.yaml --entry el9-nodes --count 2
  python -m server_stub pilots --config factory.yaml --entry el9-nodes
  python -m server_stub close --config factory.yaml --entry el9-nodes \\
      --reason 'the site replaces its switches'
  python -m server_stub entries import cric queues.json > imported.yaml

To read on: docs/how-to/run-a-factory.md in the source.
"""


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code, by the kind of the failure (as the pilot's)."""
    parsed = _parser().parse_args(argv)
    _configure_log()
    try:
        if parsed.command == "entries":
            return import_entries(parsed)
        factory = read_factory(parsed.config)
        _make_state(factory)
        with Store(factory.database) as store:
            return COMMANDS[parsed.command](parsed, factory, store)
    except PilotError as error:
        failure = error.failure
        hint = f"\n  {failure.hint}" if failure.hint else ""
        sys.stderr.write(f"server_stub: {failure.code}: {failure.message}{hint}\n")
        return failure.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m server_stub",
        description="A factory of pilots.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="publish the payload, show the pilots, collect their reports")
    submit = commands.add_parser("submit", help="submit pilots to an entry")
    submit.add_argument("--entry", required=True, metavar="NAME", help="to which entry of the factory's file")
    submit.add_argument("--count", type=int, default=1, metavar="N", help="how many pilots (default: %(default)s)")
    submit.add_argument("--vo", default="", metavar="NAME", help="for which VO")
    gather = commands.add_parser("collect", help="ask the batch system about the pilots and take their reports")
    gather.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait so long for all to end")
    tokens = commands.add_parser("revoke", help="let tokens of a pilot count no more")
    chosen = tokens.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--pilot", metavar="ID", help="all of its tokens")
    chosen.add_argument("--jti", metavar="JTI", help="the token with this jti")
    closing = commands.add_parser("close", help="submit nothing to an entry until it is opened")
    closing.add_argument("--entry", required=True, metavar="NAME", help="which entry")
    closing.add_argument("--reason", required=True, metavar="TEXT", help="shown to whoever looks at the entry")
    opening = commands.add_parser("open", help="submit to an entry again")
    opening.add_argument("--entry", required=True, metavar="NAME", help="which entry")
    add_command(commands)
    pilots = commands.add_parser("pilots", help="list the pilots")
    pilots.add_argument("--entry", metavar="NAME", help="only those of one entry")
    for command in (serve, submit, gather, pilots, tokens, closing, opening):
        command.add_argument("--config", required=True, metavar="FILE", help="the factory's file, YAML or JSON")
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _configure_log() -> None:
    processors: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(processors=processors, logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def _make_state(factory: Factory) -> None:
    """Nobody but the factory's account reads what pilots are given."""
    os.makedirs(os.path.join(factory.state, "pilots"), mode=0o700, exist_ok=True)
    os.chmod(factory.state, 0o700)


def _serve(parsed: argparse.Namespace, factory: Factory, store: Store) -> int:
    from server_stub.serve import serve

    serve(factory, store, HTCondor(), again=lambda: read_factory(parsed.config))
    return 0


def _submit(parsed: argparse.Namespace, factory: Factory, store: Store) -> int:
    entry = factory.entry(parsed.entry)
    _show(submit_pilots(factory, entry, parsed.count, store, HTCondor(), vo=parsed.vo), parsed.json)
    return 0


def _collect(parsed: argparse.Namespace, factory: Factory, store: Store) -> int:
    until = time.monotonic() + parsed.wait
    changed = {pilot.id: pilot for pilot in collect(factory, store, HTCondor())}
    while store.pilots(unfinished=True) and time.monotonic() < until:
        time.sleep(min(factory.collect_seconds, max(0.0, until - time.monotonic())))
        changed |= {pilot.id: pilot for pilot in collect(factory, store, HTCondor())}
    _show(list(changed.values()), parsed.json)
    return 0


def _revoke(parsed: argparse.Namespace, factory: Factory, store: Store) -> int:
    if parsed.pilot is not None and store.get(parsed.pilot) is None:
        message = f"the factory {factory.name} has no pilot {shown(parsed.pilot)!r}, so nothing is revoked"
        hint = "`python -m server_stub pilots --config FILE` lists them; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "pilot.unknown", message, hint))
    number = store.revoke(jti=parsed.jti, pilot_id=parsed.pilot)
    sys.stdout.write(json.dumps({"revoked": number}) + "\n" if parsed.json else f"{number} revoked\n")
    return 0


def _close(parsed: argparse.Namespace, factory: Factory, store: Store) -> int:
    entry = factory.entry(parsed.entry)
    reason = shown(parsed.reason) if parsed.command == "close" else ""
    store.close_entry(entry.name, reason)
    state = {"entry": entry.name, "closed": reason}
    text = f"{entry.name} is {'closed: ' + reason if reason else 'open'}\n"
    sys.stdout.write(json.dumps(state) + "\n" if parsed.json else text)
    return 0


def _pilots(parsed: argparse.Namespace, factory: Factory, store: Store) -> int:
    _show(store.pilots(entry=parsed.entry), parsed.json)
    return 0


def _show(pilots: list[Pilot], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([to_json(pilot) for pilot in pilots], indent=2) + "\n")
        return
    lines = [COLUMNS, *map(_row, pilots)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(COLUMNS))]
    for line in lines:
        columns = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(columns.rstrip() + "\n")


def _row(pilot: Pilot) -> tuple[str, ...]:
    """A pilot as the texts of ``COLUMNS``."""
    numbers = ("" if number is None else str(number) for number in (pilot.exit_code, pilot.jobs_started))
    return (pilot.id, pilot.entry, pilot.state.value, pilot.host, *numbers, pilot.outcome, pilot.message)


COMMANDS: dict[str, Callable[[argparse.Namespace, Factory, Store], int]] = {
    "serve": _serve,
    "submit": _submit,
    "collect": _collect,
    "pilots": _pilots,
    "revoke": _revoke,
    "close": _close,
    "open": _close,
}
