"""``pilot-factory`` as a whole."""

from __future__ import annotations

from server_stub.commands.factory import entries, pilots, serving, setup, sites, status
from server_stub.commands.factory.common import PROGRAM
from server_stub.commands.tree import Program

FACTORY = Program(
    PROGRAM,
    "A factory of pilots.",
    (*setup.COMMANDS, *serving.COMMANDS, *status.COMMANDS, *entries.COMMANDS, *pilots.COMMANDS, *sites.COMMANDS),
    "docs/how-to/run-a-factory.md",
    (
        "init /etc/pilot-factory --collector cm.example.org",
        "check",
        "run --config factory.yaml",
        "status",
        "submit --entry el9-nodes --count 2",
        "pilots list --entry el9-nodes",
        "entries close --entry el9-nodes --reason 'the site is down'",
        "entries import cric queues.json > imported.yaml",
    ),
)
