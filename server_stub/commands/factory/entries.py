"""``entries``: opened, closed, and made of what others know of sites."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pilot_agent.codec import to_json
from pilot_agent.usage import Parser
from server_stub.commands.factory.common import opened, take_config, take_entry
from server_stub.commands.tables import print_json, print_table
from server_stub.commands.tree import Command, Group

if TYPE_CHECKING:
    from server_stub.factory.entry import Entry

COLUMNS = ("entry", "site", "type", "contact", "cores", "MiB", "GPUs", "most", "VOs", "state")
SOURCES = ("cric", "osg", "glideinwms")


def _list(parsed: argparse.Namespace) -> int:
    now = time.time()
    with opened(parsed) as (factory, store):
        by_hand = store.closed_entries()
    closed = {entry.name: by_hand.get(entry.name, "") or entry.closed(now) for entry in factory.entries}
    if parsed.json:
        print_json([{**to_json(entry), "closed": closed[entry.name]} for entry in factory.entries])
    else:
        print_table(COLUMNS, [_row(entry, closed[entry.name]) for entry in factory.entries])
    return 0


def _row(entry: Entry, closed: str) -> tuple[str, ...]:
    sizes = ["auto" if size is None else str(size) for size in (entry.cores, entry.memory_mib)]
    where = entry.contact or "here"
    vos = ",".join(entry.vos) or "all"
    state = f"closed: {closed}" if closed else "open"
    return (entry.name, entry.site, entry.type, where, *sizes, str(entry.gpus), str(entry.limits.total), vos, state)


def _show_arguments(parser: Parser) -> None:
    parser.add_argument("entry", metavar="NAME", help="which entry of the factory's file")
    take_config(parser)


def _show(parsed: argparse.Namespace) -> int:
    import yaml

    with opened(parsed) as (factory, store):
        entry = factory.entry(parsed.entry)
        states = {state.value: number for state, number in store.states(entry.name).items()}
        closed = store.closed_entries().get(entry.name, "") or entry.closed(time.time())
    told = {**to_json(entry), "closed": closed, "pilots": states}
    if parsed.json:
        print_json(told)
    else:
        sys.stdout.write(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
    return 0


def _close_arguments(parser: Parser) -> None:
    take_entry(parser, required=True)
    parser.add_argument("--reason", required=True, metavar="TEXT", help="shown to whoever looks at the entry")
    take_config(parser)


def _open_arguments(parser: Parser) -> None:
    take_entry(parser, required=True)
    take_config(parser)


def _change(parsed: argparse.Namespace, reason: str) -> int:
    from server_stub.factory.texts import shown

    told = shown(reason)
    with opened(parsed) as (factory, store):
        entry = factory.entry(parsed.entry)
        store.close_entry(entry.name, told)
    if parsed.json:
        print_json({"entry": entry.name, "closed": told})
    else:
        sys.stdout.write(f"{entry.name} is {'closed: ' + told if told else 'open'}\n")
    return 0


def _close(parsed: argparse.Namespace) -> int:
    return _change(parsed, parsed.reason)


def _open(parsed: argparse.Namespace) -> int:
    return _change(parsed, "")


def _import_arguments(parser: Parser) -> None:
    parser.add_argument("source", choices=SOURCES, help="what FILE is: CRIC's queues, OSG's ads, glideinWMS.xml")
    parser.add_argument("file", metavar="FILE|URL", help="what the source says; an address begins with https://")
    parser.add_argument("--authorities", metavar="FILE", help="who may have signed the address's certificate, PEM")
    parser.add_argument("--overrides", metavar="FILE", help="defaults and corrections by name, YAML")
    parser.add_argument("--against", metavar="FILE", help="print what changed from the entries of this file")
    parser.add_argument("--json", action="store_true", help="print JSON: entries, notes, problems, changes")


def _import(parsed: argparse.Namespace) -> int:
    from server_stub.factory.importing.command import import_entries

    return import_entries(parsed)


IMPORT_EXAMPLES = (
    "entries import cric queues.json > imported.yaml",
    "entries import cric \\\n      'https://cric.example.org/api/atlas/pandaqueue/query/?json'",
    "entries import glideinwms glideinWMS.xml \\\n      --overrides overrides.yaml --against imported.yaml",
)
CLOSE_EXAMPLES = ("entries close --entry el9-nodes \\\n      --reason 'the site replaces its switches'",)


def _old(name: str, run: Callable[[argparse.Namespace], int], arguments: Callable[[Parser], None]) -> Command:
    return Command(name, "the same below entries", run, arguments, hidden=True)


COMMANDS = (
    Group(
        "entries",
        "list, open, close and import the site queues",
        (
            Command("list", "list the entries of the file", _list, take_config, ("entries list --json",)),
            Command("show", "show one entry with all its keys", _show, _show_arguments, ("entries show el9-nodes",)),
            Command("close", "submit nothing to an entry until it is opened", _close, _close_arguments, CLOSE_EXAMPLES),
            Command("open", "submit to an entry again", _open, _open_arguments, ("entries open --entry el9-nodes",)),
            Command("import", "print entries as a file for entries_files", _import, _import_arguments, IMPORT_EXAMPLES),
        ),
        ("entries", *CLOSE_EXAMPLES, *IMPORT_EXAMPLES),
        default="list",
    ),
    _old("close", _close, _close_arguments),
    _old("open", _open, _open_arguments),
)
