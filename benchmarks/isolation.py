"""The figure of isolation: what each plugin that is not the pilot's own costs at load, beside the least of Python."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.estimate import differences
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import HOME, PYZ, Place
from benchmarks.probing import LEAST

NAME = "isolation"
ROUNDS = 20
WARMUP = 2
MORE = 8
"""How many plugins one of the sides loads beyond the first."""
GOAL = 2
DIRECTORY = f"{HOME}/isolation-plugins"
PLUGIN = '''"""A probe as VOs write them."""

from pilot_agent.hookspecs import Probe, hookimpl


@hookimpl
def pilot_probes():
    """One fact."""
    return [Probe(name="{name}", gives=("{name}.fact",), run=f"{{__name__}}:look")]


def look(context):
    """Nothing: only the declaration is measured."""
    return {{}}
'''


def measure(place: Place, say: Callable[[str], None]) -> list[Figure]:
    """What one more plugin costs: its fork, its import, the call of its hooks, and the check of what it declared.

    `pilot.pyz plugin list --json` with no, one and nine plugins of a directory, as the pilot's account on wn1. What the
    first of them costs, which starts the interpreter that the others are forked from, stands beside it.
    """
    names = [f"measured_{number}" for number in range(MORE + 1)]
    _lay_out(place, names)
    commands = [_listing(place, chosen) for chosen in ([], names[:1], names)]
    say(f"isolation: {ROUNDS} rounds with {len(names)} plugins")
    none, one, all_of_them, least = place.time_commands([*commands, LEAST], rounds=ROUNDS, warmup=WARMUP).seconds
    more = tuple(seconds / MORE for seconds in differences(all_of_them, one))
    return [
        Figure(
            NAME,
            "s",
            Samples("each plugin after the first", more),
            Samples(" ".join(LEAST), tuple(least)),
            Goal(GOAL, "ratio"),
            method=f"per-round difference of `plugin list` with {len(names)} plugins and with one, divided by {MORE}, "
            "wall time, on wn1, alternating",
            beside={
                "the first plugin, with the interpreter for all": statistics.median(differences(one, none)),
                "plugin list without plugins": statistics.median(none),
            },
        )
    ]


def _lay_out(place: Place, names: list[str]) -> None:
    directory = place.worker.path(DIRECTORY)
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{name}.py").write_text(PLUGIN.format(name=name), encoding="utf-8")


def _listing(place: Place, names: list[str]) -> tuple[str, ...]:
    document: dict[str, Any] = {"plugins": {"directories": [DIRECTORY], "load": names}}
    file = f"{DIRECTORY}/{len(names)}.json"
    place.worker.path(file).write_text(json.dumps(document), encoding="utf-8")
    return (PYZ, "plugin", "list", "--json", "--config", file)
