"""What the pilot's own CVMFS client is configured with, from configuration and facts: pure, so that it can be shown for
a recorded node.

The names are those of the CernVM-FS documentation, "Client Configuration"; the order in which the client reads its
files makes what stands here weaker than what the configuration repository says of its own domains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pilot_agent.config_cvmfs import KEYS_DIRECTORY, direct_policy
from pilot_agent.cvmfs.node_caches import NodeCache
from pilot_agent.cvmfs.rungs import Grounds
from pilot_agent.model import Fact, FactStatus, Failure, FailureKind, Json, PilotError
from pilot_agent.probes.redaction import redact_json

RESERVE_MIB = 1000
SURPLUS = 1.2
"""A cache needs a fifth more than its quota, and 1000 MB beside it (README of cvmfsexec): it is cleaned up only after
it has grown too large, and a full disk ends every mount."""
LEAST_MIB = 500
"""With less a client fetches the same files again and again."""

LOOK_AGAIN_SECONDS = 60
"""How long a client goes on with the proxies of the site before it asks that of the node again, which starts later."""

_MOVED = re.compile(r"/(?:var|etc|cvmfs)")
_DIRECT = "DIRECT"


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter of the client with its value, and in words where it comes from."""

    name: str
    value: str
    origin: str

    @property
    def shown(self) -> str:
        """The value as it may be printed."""
        if self.name == "CVMFS_HTTP_PROXY":
            return re.sub(r"(://)[^/@|;]*@", r"\1(removed)@", self.value)
        return str(redact_json({self.name: self.value})[self.name])

    @property
    def line(self) -> str:
        """Its line in the client's file, with the end of the line: mountrepo drops a last line without."""
        return f'{self.name}="{self.value}"\n'


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie: the ``distribution``'s directory, the ``cache`` directory of this pilot and how much is free
    there (None: not known), and the HTTP caches that will run on the node."""

    distribution: str
    cache: str
    free_mib: int | None = None
    node_caches: tuple[NodeCache, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Everything for the client: ``settings`` for all repositories, ``repositories`` for one each, ``keys`` are files
    to be put into the distribution. ``notes`` say what was left out or could not be found out."""

    settings: tuple[Setting, ...]
    repositories: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The lines of ``default.local``; they may hold passwords of proxies."""
        return "".join(setting.line for setting in self.settings)

    def text_of(self, repository: str) -> str:
        """The lines of ``config.d/REPOSITORY.local``."""
        return "".join(setting.line for setting in self.repositories.get(repository, ()))

    def value(self, name: str) -> str | None:
        """The value for all repositories."""
        return next((setting.value for setting in self.settings if setting.name == name), None)


def client_settings(config: Mapping[str, Json], facts: Mapping[str, Fact], places: Places) -> ClientSettings:
    """What the client of a pilot gets. Raises ``PilotError``: cvmfs.no_proxy (network) where it must not go without one
    and none is known, cvmfs.cache_too_small (node), config.invalid for a cache without its directory."""
    wanted = config["cvmfs"]
    notes: list[str] = []
    settings = [*_ways(config, facts, places.node_caches, notes), *_cache(wanted, places, notes)]
    settings += _parameters(wanted["parameters"], "cvmfs.parameters", places)
    repositories = {
        name: tuple(_parameters(values, f"cvmfs.repository_parameters.{name}", places))
        for name, values in wanted["repository_parameters"].items()
    }
    return ClientSettings(tuple(settings), repositories, tuple(wanted["keys"]), tuple(notes))


def settings_problem(config: Mapping[str, Json], facts: Mapping[str, Fact], places: Places) -> Failure | None:
    """Why a client could not be configured on this node, where that is known: whether a proxy works cannot be told of a
    recorded node."""
    try:
        client_settings(config, facts, places)
    except PilotError as error:
        proxy = facts.get("network.proxy")
        untold = proxy is None or proxy.status is FactStatus.UNKNOWN
        return None if error.failure.kind == FailureKind.NETWORK and untold else error.failure
    return None


def unmoved(path: str) -> str:
    """A path of the node as mountrepo leaves it alone: a value that begins with /var, /etc or /cvmfs would become one
    in its distribution, one that begins with // would not."""
    return f"/{path}" if _MOVED.match(path) else path


def _ways(
    config: Mapping[str, Json], facts: Mapping[str, Fact], caches: Sequence[NodeCache], notes: list[str]
) -> Iterator[Setting]:
    direct, origin = direct_policy(config)
    groups, source = ([], "") if direct == "only" else _groups(config, facts, direct, notes)
    if not groups and direct == "never":
        fact = facts.get("network.proxy")
        known = f": {fact.detail}" if fact is not None and fact.detail else ""
        message = f"no proxy for CVMFS is known to work, and it may not be fetched without one ({origin}){known}"
        hint = "the site names a working squid in cvmfs.proxies, or lets cvmfs.direct be fallback"
        raise PilotError(Failure(FailureKind.NETWORK, "cvmfs.no_proxy", message, hint, retry=True))
    if direct == "fallback" or not groups:
        groups = [*groups, _DIRECT]
        source = f"{source}, then {origin}" if source else f"no proxy is known to work, {origin}"
    near = _near(caches, notes) if direct != "only" else []
    if near:
        source = f"{' and '.join(f'the service {cache.service}' for cache in near)}, then {source}"
    addresses = [cache.address for cache in near]
    chain = [*addresses, *(group for group in groups if group not in addresses)]
    yield Setting("CVMFS_HTTP_PROXY", ";".join(chain), origin if direct == "only" else source)
    if near:
        reason = "services begin after CVMFS is mounted, and until then the client goes another way"
        yield Setting("CVMFS_PROXY_RESET_AFTER", str(LOOK_AGAIN_SECONDS), reason)
    if groups == [_DIRECT]:
        yield Setting("CVMFS_CLIENT_PROFILE", "single", "there is no proxy: servers for single clients are asked")


def _near(caches: Sequence[NodeCache], notes: list[str]) -> list[NodeCache]:
    """The node's own caches that the client can be told of. A probe finds them dead, as they do not run yet; to be
    refused by the loopback device costs the client nothing."""
    notes += [
        f"the service {cache.service} has no fixed port, so that the client is not told of it: give it one"
        for cache in caches
        if not cache.address
    ]
    return [cache for cache in caches if cache.address]


def _groups(
    config: Mapping[str, Json], facts: Mapping[str, Fact], direct: str, notes: list[str]
) -> tuple[list[str], str]:
    """The groups of proxies in order, and where they come from. A proxy that a probe has found dead is left out where
    another way is left: the client would wait for it at each failover."""
    tried = {str(entry.get("proxy")): entry for entry in Grounds(facts, config).entries("network.proxies")}
    dead = {address: str(entry.get("reason")) for address, entry in tried.items() if entry.get("works") is False}
    configured: Sequence[str] = config["cvmfs"]["proxies"]
    if not configured:
        # Known to work first, then what may work.
        able = [address for address, entry in tried.items() if entry.get("works") is True]
        able += [address for address, entry in tried.items() if entry.get("works") is None]
        return able, "network.proxies"
    alive = []
    for group in configured:
        kept = [proxy for proxy in group.split("|") if _address(proxy) not in dead]
        alive += ["|".join(kept)] if kept else []
    named = [_address(proxy) for group in configured for proxy in group.split("|")]
    lost = [f"{address} ({dead[address]})" for address in named if address in dead]
    if lost and (alive or direct == "fallback"):
        notes.append(f"left out of cvmfs.proxies, as a probe found them not to work: {', '.join(lost)}")
        return alive, "cvmfs.proxies"
    if lost:
        notes.append(
            f"no proxy of cvmfs.proxies worked when it was tried, and there is no other way: {', '.join(lost)}"
        )
    return list(configured), "cvmfs.proxies"


def _address(proxy: str) -> str:
    """A proxy as the facts show it: without its account."""
    scheme, mark, rest = proxy.rstrip("/").partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else proxy


def _cache(wanted: Mapping[str, Json], places: Places, notes: list[str]) -> Iterator[Setting]:
    kind, directory = wanted["cache"].lower(), wanted["cache_directory"]
    if kind != "private" and not directory:
        message = f"cvmfs.cache is {kind}, and no cvmfs.cache_directory says where it lies"
        hint = "whoever set cvmfs.cache names its directory, or says private"
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    origin = f"cvmfs.cache: {kind}"
    if kind == "alien":
        quota_mib(wanted, places, notes)
        yield Setting("CVMFS_ALIEN_CACHE", unmoved(directory), "cvmfs.cache_directory")
        yield Setting("CVMFS_CACHE_BASE", unmoved(places.cache), "the pilot's workspace")
        yield Setting("CVMFS_SHARED_CACHE", "no", origin)
        yield Setting("CVMFS_QUOTA_LIMIT", "-1", f"{origin}, in which nothing is ever removed")
        return
    quota, reason = quota_mib(wanted, places, notes)
    where = "cvmfs.cache_directory" if directory else "the pilot's workspace"
    yield Setting("CVMFS_CACHE_BASE", unmoved(directory if kind == "shared" else places.cache), where)
    # One cache manager for all repositories of this client; without it each would get the whole quota.
    yield Setting("CVMFS_SHARED_CACHE", "yes", origin)
    yield Setting("CVMFS_QUOTA_LIMIT", str(quota), reason)


def quota_mib(wanted: Mapping[str, Json], places: Places, notes: list[str]) -> tuple[int, str]:
    """The quota of the cache in MiB, and what it follows from. Raises ``PilotError`` (cvmfs.cache_too_small)."""
    most, share, free = int(wanted["cache_mib"]), float(wanted["cache_share"]), places.free_mib
    if free is None:
        notes.append(f"how much is free in {places.cache} is not known: the quota is that of cvmfs.cache_mib")
        return most, "cvmfs.cache_mib"
    fits = int((free * share - RESERVE_MIB) / SURPLUS)
    if fits >= most:
        return most, "cvmfs.cache_mib"
    least = min(LEAST_MIB, most)
    if fits < least:
        needed = int((least * SURPLUS + RESERVE_MIB) / share) + 1
        message = (
            f"the cache of CVMFS has no room: {free} MiB are free for {places.cache}, and {needed} MiB are needed for "
            f"{least} MiB of files (a fifth and {RESERVE_MIB} MiB more, and only the share {share:g} of the disk)"
        )
        hint = (
            "the site gives pilots more scratch space, or whoever set cvmfs.cache_share or cvmfs.cache_mib changes it"
        )
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "cvmfs.cache_too_small", message, hint, retry=True))
    return fits, f"the share {share:g} of {free} free MiB, less {RESERVE_MIB} MiB and a sixth"


def _parameters(values: Mapping[str, str], origin: str, places: Places) -> Iterator[Setting]:
    keys = unmoved(f"{places.distribution}/dist{KEYS_DIRECTORY}")
    for name, value in values.items():
        inside = [f"{keys}{part.removeprefix(KEYS_DIRECTORY)}" if part.startswith(KEYS_DIRECTORY) else part
                  for part in value.split(":")]  # fmt: skip
        yield Setting(name, ":".join(inside), origin)
