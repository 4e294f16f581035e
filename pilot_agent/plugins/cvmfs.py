"""CVMFS for the mount stage: what the site mounts itself, and which other way there would be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.codec import to_json
from pilot_agent.facts import known_value
from pilot_agent.hookspecs import Context, Mount, Service, hookimpl
from pilot_agent.model import Fact, Failure, FailureKind, Json, Limit, PilotError, worst_failure
from pilot_agent.workspace import Workspace

if TYPE_CHECKING:
    from pilot_agent.cvmfs.distribution import Distribution
    from pilot_agent.cvmfs.ladder import Ladder
    from pilot_agent.cvmfs.namespace import Namespaces
    from pilot_agent.cvmfs.namespace_rung import InNamespace
    from pilot_agent.cvmfs.own_rung import Tell, Wish
    from pilot_agent.cvmfs.supply import Client
    from pilot_agent.cvmfs.taking import Way
    from pilot_agent.lifecycle.journal import Journal
    from pilot_agent.process import WakeUp

DISK = "disk.workspace_free_mib"
CACHE_SOURCE = "cvmfs.cache_mib, kept free for the cache of the pilot's CVMFS client"
CACHE = "cache"
"""Where the client keeps its files, in the directory of its distribution."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The ladder as the report has it, the facts of what is mounted now, and the namespaces that the pilot must join to
    see it, where it is to be seen there; ``limits`` are what the client's cache leaves. The failure is that of wishes
    that contradict each other, or of CVMFS that is required and that no way gave."""

    ladder: Json = None
    facts: tuple[Fact, ...] = ()
    failure: Failure | None = None
    namespaces: Namespaces | None = None
    limits: tuple[Limit, ...] = ()


@hookimpl
def pilot_mounts(config: Mapping[str, Json]) -> Iterable[Mount]:
    """The native CVMFS, unless the configuration wants none."""
    if "never" not in wishes(config) and native_allowed(config):
        yield Mount(
            name="cvmfs",
            run="pilot_agent.cvmfs.native:find_native",
            gives=("cvmfs.repositories", "cvmfs.refused", "cvmfs.revisions", "cvmfs.mount_point"),
        )


def wishes(config: Mapping[str, Json]) -> frozenset[str]:
    """What VO and site say of CVMFS, in lower case. Never in it means that there is none, else required in it that
    there must be: enough for what is declared, and without loading the table."""
    return frozenset((config["cvmfs"]["use"].lower(), config["site"]["cvmfs"].lower()))


def decide(context: Context) -> tuple[Json, Failure | None]:
    """The ladder as the report has it, from facts alone, and the failure of wishes that contradict each other.

    None where nobody asks for CVMFS (no repository is named and none is required): then nothing is loaded.
    """
    if not _asked_for(context.config):
        return None, None
    from pilot_agent.cvmfs.ladder import climb, failure_of

    ladder = climb(context.facts, context.config, workspace=_workspace(context))
    # That something is missing is for the check to say, which knows what each repository answered.
    return to_json(ladder), failure_of(ladder) if ladder.decision == "FAIL" else None


def take(
    context: Context,
    *,
    environment: Mapping[str, str],
    journal: Journal | None,
    tell: Tell,
    enters: bool = True,
    services: Sequence[Service] = (),
    wake: WakeUp | None = None,
) -> Taken:
    """As ``decide``, and the pilot's own rungs are taken.

    ``environment`` is that of the pilot's children, ``tell`` writes an event, ``enters`` says whether this process may
    join namespaces, ``services`` will run beside the jobs. Raises ``Interrupted``.
    """
    if not _asked_for(context.config):
        return Taken()
    from pilot_agent.cvmfs.ladder import OWN, climb, failure_of

    workspace = _workspace(context)
    ladder = climb(context.facts, context.config, workspace=workspace)
    if ladder.taken is None or ladder.taken.name not in OWN:
        # That something is missing is for the check to say, which knows what each repository answered.
        return Taken(to_json(ladder), failure=failure_of(ladder) if ladder.decision == "FAIL" else None)
    from pilot_agent.cvmfs.own_rung import Wish
    from pilot_agent.cvmfs.rungs import Judged
    from pilot_agent.cvmfs.supply import without_client
    from pilot_agent.cvmfs.taking import climb_up

    client = _client(context, ladder, wake)
    without = without_client(ladder, client.failure)
    if not enters:
        reason = "one process cannot go into the namespaces of several VOs; check each alone"
        without["namespace"] = Judged(False, reason)
    configured = _Configured(context, tell, services)
    wish = Wish(
        source=client.source,
        workspace=workspace or "",
        repositories=tuple(context.config["cvmfs"]["repositories"]),
        configure=configured,
        environment=environment,
        tell=tell,
        wake=wake,
    )
    inside, ways = _rungs(wish, journal)
    refused = {entry["repository"]: entry["reason"] for entry in context.value("cvmfs.refused", [])}
    climbed = climb_up(
        lambda tried: climb(context.facts, context.config, workspace=workspace, tried={**without, **tried}),
        ways,
        refused,
    )
    client.discard()
    ladder, failure = climbed.ladder, failure_of(climbed.ladder)
    if failure is not None:
        failure = _whose(failure, client, [way.fault for way in ways.values() if way.fault is not None])
    namespaces = inside.namespaces if inside is not None else None
    own = ladder.taken is not None and ladder.taken.name in ways
    limits = configured.limits() if own else ()
    return Taken(to_json(ladder), (*client.facts, *climbed.facts), failure, namespaces, limits)


def _whose(failure: Failure, client: Client, faults: list[Failure]) -> Failure:
    """The failure of who must act: of a rung that was tried, else of who publishes the clients, else of the site."""
    worst = worst_failure(faults)
    if worst is not None:
        return worst
    return client.failure if client.failure and client.failure.kind != FailureKind.NODE_RESOURCE else failure


def _client(context: Context, ladder: Ladder, wake: WakeUp | None) -> Client:
    """What the pilot's own rungs mount with. Raises ``Interrupted``."""
    from pilot_agent.cvmfs.supply import Client, published_client

    settings, workspace = context.config["cvmfs"], _workspace(context)
    if settings["distribution"]:
        # Relative to the start directory, into which a batch system puts a job's files.
        return Client(os.path.abspath(settings["distribution"]))
    if not settings["distributions"] or workspace is None:
        return Client()
    artifacts = Workspace(workspace).artifacts
    return published_client(ladder, context.config, context.facts, context.environment, artifacts, wake=wake)


def _rungs(wish: Wish, journal: Journal | None) -> tuple[InNamespace | None, dict[str, Way]]:
    """The rung whose namespaces the pilot joins, and all of the pilot's own by name: none without a client to mount
    with, or a place for its copy."""
    if not wish.source or not wish.workspace:
        return None, {}
    from pilot_agent.cvmfs.fusermount import Fusermount
    from pilot_agent.cvmfs.namespace_rung import InNamespace

    inside = InNamespace(wish)
    return inside, {"namespace": inside, "fusermount": Fusermount(wish, journal=journal)}


def unseen(facts: Mapping[str, Fact], *, contained: bool) -> list[Fact]:
    """The facts that are true instead where the pilot mounted CVMFS for containers, and no job gets into one."""
    answering = facts.get("cvmfs.repositories")
    elsewhere = known_value(facts, "cvmfs.mount_point", CVMFS) != CVMFS
    if contained or not elsewhere or answering is None or not answering.value:
        return []
    why = "only jobs in containers would see it, and there are none here; the site installs Apptainer, or mounts it"
    refused = list(known_value(facts, "cvmfs.refused", []))
    refused += [{"repository": repository, "reason": why} for repository in answering.value]
    return [replace(answering, value=[], detail=why), Fact("cvmfs.refused", refused, source=answering.source)]


class _Configured:
    """Configures the clients of private distributions, and knows what the last one's cache takes."""

    def __init__(self, context: Context, tell: Tell, services: Sequence[Service]) -> None:
        self._context = context
        self._tell = tell
        self._services = services
        self._room_mib = 0

    def __call__(self, distribution: Distribution) -> None:
        """Write the settings. Raises ``PilotError`` as ``client_files.install``."""
        from pilot_agent.cvmfs.client_files import install, room_in
        from pilot_agent.cvmfs.node_caches import node_caches

        cache = os.path.join(distribution.root, CACHE)
        settings = install(
            distribution,
            self._context.config,
            self._context.facts,
            workspace_cache=cache,
            node_caches=node_caches(self._services),
        )
        self._room_mib = room_in(self._context.workspace or "", settings)
        shown = {setting.name: setting.shown for setting in settings.settings}
        self._tell("cvmfs.configured", settings=shown, notes=list(settings.notes))

    def limits(self) -> tuple[Limit, ...]:
        """What is left of the workspace's disk once the cache is full; nothing where the cache lies elsewhere."""
        free = known_value(self._context.facts, DISK)
        if free is None or not self._room_mib:
            return ()
        return (Limit(DISK, max(0, int(free) - self._room_mib), "MiB", CACHE_SOURCE),)


def go_inside(namespaces: Namespaces) -> str:
    """Move this process to the namespaces for good; the name of its mounts. Raises ``PilotError`` (cvmfs.join), after
    which it cannot go on: a child was able to."""
    from pilot_agent.cvmfs.namespace import StepError, join, own_mounts

    try:
        join(namespaces)
    except StepError as error:
        message = f"the pilot could not follow a child of its own into the namespace for CVMFS: {error}"
        hint = "the site looks what limits the pilot's process (seccomp, AppArmor), or cvmfs.rungs leaves namespace out"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "cvmfs.join", message, hint, retry=True)) from error
    finally:
        namespaces.close()
    return own_mounts()


def _asked_for(config: Mapping[str, Json]) -> bool:
    return bool(config["cvmfs"]["repositories"]) or "required" in wishes(config)


def _workspace(context: Context) -> str | None:
    """None on a recording, for which this machine's says nothing."""
    return None if context.root.strip("/") else context.workspace


def native_allowed(config: Mapping[str, Json]) -> bool:
    """Whether every layer lets jobs have what the site has mounted."""
    return "native" in _allowed(config, ("native",))


def own_rungs_allowed(config: Mapping[str, Json]) -> bool:
    """Whether every layer lets the pilot mount itself in one of its ways."""
    from pilot_agent.cvmfs.ladder import OWN

    return bool(_allowed(config, OWN))


def _allowed(config: Mapping[str, Json], names: Iterable[str]) -> set[str]:
    """Those of the rungs that no layer leaves out."""
    layers = [set(map(str.lower, entry["value"])) for entry in config["cvmfs"]["rungs"] or ()]
    return set(names).intersection(*layers)
