"""``cvmfs plan``: by which way jobs get CVMFS on a node, and why not by another. ``cvmfs config``: what the pilot's own
client would be configured with there."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from tempfile import TemporaryDirectory

from pilot_agent import configure
from pilot_agent.codec import to_json
from pilot_agent.configure import Given
from pilot_agent.cvmfs.client_files import public_keys
from pilot_agent.cvmfs.client_settings import ClientSettings, Places, Setting, client_settings, settings_problem
from pilot_agent.cvmfs.ladder import Ladder, climb, failure_of
from pilot_agent.cvmfs.node_caches import node_caches
from pilot_agent.cvmfs.obtaining import DistributionVerdict
from pilot_agent.cvmfs.supply import Considered, considered, named_client, needs_client, without_client
from pilot_agent.facts import known_value
from pilot_agent.hookspecs import Service
from pilot_agent.model import Fact, FailureKind, Json, PilotError
from pilot_agent.ordering import in_order
from pilot_agent.printing import print_page, print_text
from pilot_agent.progress import Progress
from pilot_agent.render import cvmfs, paragraph, table
from pilot_agent.stages import Session
from pilot_agent.standalone import PROBE_STAGES, View, look
from pilot_agent.state import State

PROBES = frozenset(("batch", "cvmfs", "disk", "fuse", "network", "os", "software", "userns"))
"""The probes whose facts decide."""
CONFIG_PROBES = frozenset(("batch", "disk", "network"))
"""Those from which proxies and the size of the cache follow."""
WORKSPACE = "pilot-ID"
"""In the place of the directory that a pilot makes for itself."""


def run_plan(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Print the ladder. Raises ``PilotError`` with the failure with which a pilot would end, after printing."""
    config = configure.read_layers(given, environment)
    state = look(config, environment, stages=PROBE_STAGES, view=View(parsed.root, PROBES))
    values, recorded = state.config.values, bool(parsed.root.strip("/"))
    ladder = climb(state.facts, values)
    clients, published = None if recorded else named_client(values), needs_client(ladder, values)
    if published:
        with TemporaryDirectory(prefix="pilot-plan-") as directory:
            clients = considered(values, state.facts, environment, directory, fetch=parsed.fetch and not recorded)
    # What a pilot would find out when it configures its client comes first: without a proxy no client is of use.
    fault = settings_problem(values, state.facts, _places(values, state.facts)) or (
        clients.failure if clients is not None else None
    )
    without = without_client(ladder, fault)
    ladder = climb(state.facts, values, tried=without)
    if parsed.json:
        more = {"distributions": to_json(clients.why)} if clients is not None and published else {}
        print_text(json.dumps(to_json(ladder) | more, indent=2) + "\n")
    else:
        print_page(page(ladder) + (distributions(clients) if clients is not None and published else ""))
    failure = failure_of(ladder)
    if failure is not None:
        # Where the node allows a way, whoever named or published the client must act, or who looks after the network.
        decisive = without and fault is not None and fault.kind != FailureKind.NODE_RESOURCE
        raise PilotError(fault if decisive and fault is not None else failure)
    return 0


def page(ladder: Ladder) -> str:
    """The page of the ways, for people."""
    wanted = ", ".join(ladder.repositories) or "none is named: what the site has mounted"
    return f"{paragraph(f'Repositories: {wanted}')}\n\n{cvmfs(to_json(ladder))}\n"


def distributions(clients: Considered) -> str:
    """What became of every published client, for people."""
    rows = [
        (f"  {one.state}", one.machine_type or one.source, one.reason if one.file == clients.place else _told(one))
        for one in clients.why
    ]
    return f"\n{paragraph(f'Clients in {clients.place}')}\n{table(rows)}\n"


def _told(one: DistributionVerdict) -> str:
    """The file in one piece, with which its line in the index is found again, and the reason after it."""
    return f"{one.file}: {one.reason}" if one.reason else one.file


def run_config(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Print the client's settings with where they come from; nothing is written. Raises ``PilotError`` as
    ``client_settings``, and cvmfs.keys for a key that a pilot would refuse."""
    config = configure.read_layers(given, environment)
    services: list[Service] = []

    def note(session: Session, state: State, progress: Progress) -> None:
        services.extend(declared.record for declared in in_order(session.loaded.of("pilot_services")))

    state = look(config, environment, stages=PROBE_STAGES, view=View(parsed.root, CONFIG_PROBES), act=note)
    places = replace(_places(state.config.values, state.facts), node_caches=node_caches(services))
    settings = client_settings(state.config.values, state.facts, places)
    if not parsed.root.strip("/"):
        public_keys(settings)  # a pilot would read them now; a recording has none
    if parsed.json:
        print_text(json.dumps(_as_json(settings), indent=2) + "\n")
    else:
        print_text("\n".join(_lines(settings)) + "\n")
    return 0


def _places(config: Mapping[str, Json], facts: Mapping[str, Fact]) -> Places:
    """Where a pilot would put distribution and cache on this node."""
    entries = known_value(facts, "disk.candidates", [])
    scratch = next((str(entry["path"]) for entry in entries if entry.get("usable") is True), "/SCRATCH")
    distribution = f"{scratch.rstrip('/')}/{WORKSPACE}/cvmfs"
    named = config["cvmfs"]["cache_directory"]
    if named:
        own = f"{named}/pilot-cache-0" if config["cvmfs"]["cache"].lower() == "private" else f"{distribution}/cache"
        return Places(distribution, own)
    free = known_value(facts, "disk.workspace_free_mib")
    return Places(distribution, f"{distribution}/cache", int(free) if free is not None else None)


def _lines(settings: ClientSettings) -> Iterator[str]:
    """As the files would have it, a comment with its origin before each line."""
    yield "# dist/etc/cvmfs/default.local, after what the distribution has there"
    yield from _shown(settings.settings)
    for repository, own in settings.repositories.items():
        yield from ("", f"# dist/etc/cvmfs/config.d/{repository}.local", *_shown(own))
    if settings.keys:
        yield from ("", "# dist/etc/cvmfs/keys: " + ", ".join(settings.keys))
    if settings.notes:
        yield from ("", *(f"# note: {note}" for note in settings.notes))


def _shown(settings: tuple[Setting, ...]) -> Iterator[str]:
    for setting in settings:
        yield f"# {setting.origin}"
        yield f'{setting.name}="{setting.shown}"'


def _as_json(settings: ClientSettings) -> Json:
    def listed(some: tuple[Setting, ...]) -> Json:
        return [{"name": one.name, "value": one.shown, "origin": one.origin} for one in some]

    return {
        "settings": listed(settings.settings),
        "repositories": {name: listed(own) for name, own in settings.repositories.items()},
        "keys": list(settings.keys),
        "notes": list(settings.notes),
    }
