"""``plugin trace``: every call of a plugin's code, as the host made it."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pilot_agent.codec import to_json
from pilot_agent.config_read import command_line_layer
from pilot_agent.host import Traced
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.plugins.recordings import masked
from pilot_agent.printing import print_page, print_text
from pilot_agent.render import paragraph
from pilot_agent.sdk.distribution import install, read_distribution
from pilot_agent.sdk.rehearsal import Rehearsal, rehearse

SHOWN_LETTERS = 2000


def run_trace(parsed: argparse.Namespace) -> int:
    """Run the stages and print the calls; 0. Raises ``PilotError``."""
    found = read_distribution(Path(parsed.directory).absolute())
    if not os.path.isdir(parsed.root):
        raise PilotError(Failure(FailureKind.USAGE, "usage", f"--root {parsed.root}: there is no such directory"))
    with tempfile.TemporaryDirectory(prefix="pilot-plugin-") as place:
        install(found, Path(place))
        wish = Rehearsal(
            plugins=tuple(found.entry_points),
            directories=(place,),
            through=parsed.through,
            root=os.path.abspath(parsed.root),
            config=command_line_layer(parsed.set).document,
            trace=True,
        )
        calls = [call for call in rehearse(wish).calls if call.plugin in found.entry_points]
    if parsed.json:
        print_text(json.dumps(masked(to_json(calls)), indent=2) + "\n")
    else:
        print_page("".join(map(_shown, calls)))
    return 0


def _shown(call: Traced) -> str:
    arguments = ", ".join(_arguments(call))
    name = f"{call.what} ({call.hook})" if call.what else call.hook
    head = f"{call.plugin}: {name} in {call.seconds:.3f} s"
    lines = [head, paragraph(f"given {arguments or 'nothing'}", indent="  ")]
    if call.problem:
        lines.append(paragraph(f"failed {call.problem}", indent="  "))
    else:
        results = call.result if isinstance(call.result, list) else [call.result]
        lines += [paragraph(f"gave {_text(result)}", indent="  ") for result in results or ["nothing"]]
    return "\n".join(lines) + "\n"


def _arguments(call: Traced) -> Iterator[str]:
    for name, value in call.arguments.items():
        if name == "config":
            yield f"config (own options: {_text(_options(value, call.plugin))})"
        elif name == "context":
            told = f"{len(value['facts'])} facts, root {value['root']}, {len(value['environment'])} variables"
            yield f"context ({told}, own options: {_text(_options(value['config'], call.plugin))})"
        else:
            yield f"{name}={_text(value)}"


def _options(config: Mapping[str, Json], plugin: str) -> Json:
    return masked(config.get("plugins", {}).get("options", {}).get(plugin, {}))


def _text(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}... ({len(text)} letters)"
