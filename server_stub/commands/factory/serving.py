"""``run``: the factory itself."""

from __future__ import annotations

import argparse

from server_stub.commands.factory.common import opened, take_config
from server_stub.commands.tree import Command


def run_factory(parsed: argparse.Namespace) -> int:
    """Publish, collect and answer until a signal ends it."""
    from server_stub.condor.system import HTCondor
    from server_stub.entries import read_factory
    from server_stub.serve import serve

    with opened(parsed) as (factory, store):
        serve(factory, store, HTCondor(), again=lambda: read_factory(parsed.config))
    return 0


HELP = "publish the payload, take and show what pilots send, submit what frontends ask for"
COMMANDS = (
    Command("run", HELP, run_factory, take_config, ("run --config factory.yaml",)),
    Command("serve", HELP, run_factory, take_config, hidden=True),
)
