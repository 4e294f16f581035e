"""Squid's configuration from the plugin's options and from the proxies that the pilot found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.model import Json

PORT = "@PORT@"
DIRECTORY = "@DIRECTORY@"
VISIBLE_NAME = "pilot-cache"
PICTURE = "/squid-internal-static/icons/SN.png"
"""Squid's own, with which it answers where the cache manager is closed."""
DIRECT = ("never", "fallback", "only")
SMALLEST_MEMORY_MIB = 96
# What squid 6 takes for itself, seen with an empty cache, and what its index of the files on disk takes for each GiB.
OWN_MEMORY_MIB = 64
INDEX_MIB_OF_GIB = 15
PEER_CONNECT_SECONDS = 5

_PEER = re.compile(r"http://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):(?P<port>[0-9]{1,5})/?")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_HERE = ("localhost", "127.", "[::1]")
_OWN_ADDRESSES = "127.0.0.0/8 0.0.0.0 ::1 169.254.0.0/16 fe80::/10"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cache may take: memory and disk in MiB, and the largest object that is kept."""

    memory_mib: int
    disk_mib: int
    object_mib: int


def upstream(options: Mapping[str, Json], found: Sequence[Mapping[str, Json]]) -> tuple[str, ...]:
    """The proxies behind the cache, in order: those of the option, else those that the pilot found, first those through
    which something was fetched, then those that were not tried.

    A proxy on this node is left out: it may be this one. Raises ``ValueError`` for what is no ``http://host:port``, and
    where ``direct`` is never and no proxy is known.
    """
    direct = options["direct"]
    if direct not in DIRECT:
        raise ValueError(f"direct is {direct!r}; one of {', '.join(DIRECT)} is needed")
    if direct == "only":
        return ()
    wrong = [proxy for proxy in options["proxies"] if not (isinstance(proxy, str) and _PEER.fullmatch(proxy))]
    if wrong:
        raise ValueError(f"proxies has {wrong[0]!r}; http://host:port without an account is needed")
    known = list(options["proxies"])
    if not known:
        known = [str(entry["proxy"]) for works in (True, None) for entry in found if entry.get("works") is works]
        known = [proxy for proxy in known if _PEER.fullmatch(proxy)]
    known = [proxy for proxy in known if not proxy.removeprefix("http://").startswith(_HERE)]
    if direct == "never" and not known:
        raise ValueError("direct is never, and no proxy of the site is known: name one in proxies")
    return tuple(known)


def limits(options: Mapping[str, Json]) -> Limits:
    """What the cache may take. Raises ``ValueError`` for less memory than squid itself and its index need."""
    memory, disk, largest = (options[name] for name in ("memory_mib", "disk_mib", "object_mib"))
    needed = max(SMALLEST_MEMORY_MIB, OWN_MEMORY_MIB + disk * INDEX_MIB_OF_GIB // 1024 + 16)
    if memory < needed:
        raise ValueError(f"memory_mib is {memory}; a cache with disk_mib {disk} needs {needed} at least")
    if disk < 0 or largest < 1:
        raise ValueError("disk_mib must be 0 (memory only) or more, and object_mib 1 or more")
    return Limits(memory, disk, largest)


def configuration(options: Mapping[str, Json], proxies: Sequence[str]) -> str:
    """The text of squid's configuration file, in which ``@PORT@`` and ``@DIRECTORY@`` are to be filled in.

    Raises ``ValueError`` as ``limits``, and for a destination that is no domain.
    """
    lines = [
        f"http_port 127.0.0.1:{PORT}",
        f"visible_hostname {VISIBLE_NAME}",
        "pid_filename none",
        "coredump_dir none",
        "netdb_filename none",
        "pinger_enable off",
        "access_log none",
        "cache_log /dev/null",
        "shutdown_lifetime 0 seconds",
        *_access(options["destinations"], resolves=not proxies),
        *_peers(options["direct"], proxies),
        *_storage(limits(options)),
        # The field's repositories say themselves how long a file is good; a name with a question mark is an answer.
        "refresh_pattern -i (/cgi-bin/|\\?) 0 0% 0",
        "refresh_pattern . 0 20% 4320",
    ]
    return "\n".join(lines) + "\n"


def _access(destinations: Sequence[Json], *, resolves: bool) -> list[str]:
    """Who may ask for what: no tunnels, no management, nothing on this node, and only what is allowed.

    Behind a proxy names are not looked up for that: a node may have nobody to ask for them, and would wait for it.
    """
    wrong = [name for name in destinations if not (isinstance(name, str) and _DOMAIN.fullmatch(name))]
    if wrong:
        raise ValueError(f"destinations has {wrong[0]!r}; a host, or .example.org for all of a domain, is needed")
    allowed = [f"acl allowed dstdomain -n {' '.join(map(str, destinations))}"] if destinations else []
    return [
        "acl refused_methods method CONNECT PURGE TRACE",
        f"acl this_node dst {'' if resolves else '-n '}{_OWN_ADDRESSES}",
        "acl this_node_by_name dstdomain -n localhost",
        *allowed,
        # Squid asks its own rules about its own picture too, under its own name.
        f"acl own_name dstdomain -n {VISIBLE_NAME} 127.0.0.1",
        f"acl own_picture urlpath_regex ^{PICTURE.replace('.', '[.]')}$",
        "http_access deny manager",
        "http_access allow own_name own_picture",
        "http_access deny refused_methods",
        "http_access deny this_node_by_name",
        "http_access deny this_node",
        f"http_access allow {'allowed' if allowed else 'all'}",
        "http_access deny all",
    ]


def _peers(direct: str, proxies: Sequence[str]) -> list[str]:
    lines = []
    for number, proxy in enumerate(proxies):
        parts = _PEER.fullmatch(proxy)
        if parts is not None:
            way = f"no-query no-digest no-netdb-exchange connect-timeout={PEER_CONNECT_SECONDS} name=upstream{number}"
            lines.append(f"cache_peer {parts['host'].strip('[]')} parent {parts['port']} 0 {way}")
    if not lines:
        return ["always_direct allow all"]
    # What cannot be kept goes the same way: a site that has a proxy may let nothing else out.
    return [*lines, "nonhierarchical_direct off", *(["never_direct allow all"] if direct == "never" else [])]


def _storage(limits: Limits) -> list[str]:
    index = limits.disk_mib * INDEX_MIB_OF_GIB // 1024
    # Half of what is left: squid counts objects and not what it takes to hand them out.
    memory = (limits.memory_mib - OWN_MEMORY_MIB - index) // 2
    lines = [
        f"cache_mem {memory} MB",
        f"maximum_object_size {limits.object_mib} MB",
        "maximum_object_size_in_memory 1 MB",
        "memory_pools off",
    ]
    if limits.disk_mib:
        lines.append(f"cache_dir ufs {DIRECTORY}/cache {limits.disk_mib} 8 32")
    return lines
