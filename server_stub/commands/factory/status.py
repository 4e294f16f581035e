"""``status``: how it goes, on one screen."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from server_stub.commands.factory.common import opened, take_config
from server_stub.commands.tables import print_json, print_table
from server_stub.commands.tree import Command

if TYPE_CHECKING:
    from server_stub.entries import Factory
    from server_stub.factory.entry_view import EntryView
    from server_stub.running import Running

COLUMNS = ("entry", "site", "queued", "running", "held", "of", "asked", "failed", "wasted", "why not more")


def _status(parsed: argparse.Namespace) -> int:
    from server_stub.factory.entry_view import entry_views
    from server_stub.running import read_running

    with opened(parsed) as (factory, store):
        views = entry_views(factory, store)
        running = read_running(factory.state)
    if parsed.json:
        server = asdict(running) if running else None
        print_json({"factory": factory.name, "server": server, "entries": [asdict(view) for view in views]})
        return 0
    sys.stdout.write(f"{server_line(factory, running, time.time())}\n\n")
    print_table(COLUMNS, [_row(view) for view in views])
    return 0


def server_line(factory: Factory, running: Running | None, now: float) -> str:
    """One sentence about the server."""
    if running is None:
        return f"{factory.name}: the server does not run"
    up = f"{factory.name}: running for {ago(now - running.started)} as process {running.pid}"
    if running.problem:
        return f"{up}; the batch system: {running.problem}"
    if running.answered is None:
        return f"{up}; the batch system has not answered yet"
    return f"{up}; the batch system answered {ago(now - running.answered)} ago"


def ago(seconds: float) -> str:
    """A time span in the unit that fits."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _row(view: EntryView) -> tuple[str, ...]:
    numbers = (view.waiting, view.running, view.held, view.limit)
    asked = str(sum(one.queued for one in view.asked)) if view.asked else ""
    # The reason comes first: a narrow terminal shows little more of the last column.
    limits = [f"{one.limited_by} ({one.frontend}, {one.vo})" for one in view.asked if one.limited_by]
    why = "; ".join([f"closed: {view.closed}"] if view.closed else limits)
    return (view.name, view.site, *map(str, numbers), asked, _part(view.failed), _part(view.wasted), why)


def _part(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


HELP = "show each entry's pilots, what frontends ask for, failures and waste of seven days, and whether the server runs"
COMMANDS = (Command("status", HELP, _status, take_config, ("status", "status --json")),)
