"""Addresses to reach and proxies to reach them through, from the forms in which people write them.

What a user name, a password or a query holds may be a secret: ``shown`` never has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pilot_agent.config_collectors import drawn
from pilot_agent.model import Json
from pilot_agent.probes.node import Node

HTTP_KINDS = ("http", "https")
COLLECTOR_PORT = 9618
_SQUID_PORT = 3128
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ADDRESS = (
    r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?(?:([^/?#@]*)@)?(\[[0-9A-Fa-f:.]+\]|[^/?#@\[\]:]+)(?::([0-9]{1,5}))?([/?#].*)?"
)
_HOST = r"[A-Za-z0-9_.:-]{1,253}"
_CVMFS_CONFIGURATION = "/etc/cvmfs/default.local"
# A shell reads the file (CVMFS documentation, "Client Configuration"), so quotes may be there.
_CVMFS_LINE = r"""(?m)^[ \t]*(?:export[ \t]+)?CVMFS_HTTP_PROXY=(?:"([^"\n]*)"|'([^'\n]*)'|([^\s"'#]*))"""
_PROXY_VARIABLES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Target:
    """One address: ``kind`` is tcp, http or https; ``problem`` says why it cannot be used. ``source`` is the
    configuration key, variable or file that names it, ``credentials`` the ``user:password`` in it."""

    shown: str
    source: str
    kind: str = "tcp"
    host: str = ""
    port: int = 0
    path: str = "/"
    credentials: str = field(default="", repr=False)
    problem: str = ""

    @property
    def authority(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return f"{_bracketed(self.host)}:{self.port}"


def parse_target(text: str, source: str, *, default_port: int | None = None, wanted: str = "") -> Target:
    """The address in ``host:port`` or ``http(s)://host[:port][/path]``; one with a ``problem`` for anything else.

    ``default_port`` is that of a plain host without one; ``wanted`` says in the problem what was expected.
    """
    wanted = wanted or "neither host:port nor an http or https address"
    match = re.fullmatch(_ADDRESS, text.strip())
    if match is None:
        return Target(_harmless(text), source, problem=f"it is {wanted}")
    if "@" in (match[5] or ""):
        # Either that, or a password with a slash: then all before the @ is secret.
        return Target(_harmless(text), source, problem="an @ in a path, and a / in a password, are written as %XX")
    scheme, credentials, host, digits, rest = match.groups(default="")
    kind, host = scheme.lower() or "tcp", host.strip("[]")
    port = int(digits) if digits else _DEFAULT_PORTS.get(kind, default_port or 0)
    path = (rest if rest.startswith("/") else f"/{rest}").partition("#")[0]
    shown = f"{scheme.lower()}://" if scheme else ""
    shown += _bracketed(host) + (f":{digits}" if digits else "") + _without_query(rest if scheme else "")
    problem = ""
    plain_host = re.fullmatch(_HOST, host) and not (kind == "tcp" and rest and default_port is None)
    if kind not in ("tcp", *HTTP_KINDS) or not plain_host:
        problem = f"it is {wanted}"
    elif not 0 < port < 65536:
        problem = "its port is not between 1 and 65535" if digits else f"it is {wanted}: the port is missing"
    elif not path.isascii() or not path.isprintable() or " " in path:
        problem = "its path has characters that must be written as %XX"
    return Target(_harmless(shown), source, kind, host, port, path, credentials, problem)


def parse_collector(text: str) -> Target:
    """The address of a collector, ``host[:port][?...]``, as HTCondor's COLLECTOR_HOST has it."""
    plain = text.strip().strip("<>").partition("?")[0]
    return parse_target(plain, "pool.collectors", default_port=COLLECTOR_PORT, wanted="no host[:port] of a collector")


def parse_proxy(text: str, source: str) -> Target:
    """An HTTP proxy, ``[http://][user:password@]host[:port]``; port 3128 where none is given."""
    target = parse_target(text, source, default_port=_SQUID_PORT, wanted="no HTTP proxy http://host:port")
    scheme = text.strip().partition("://")[0].lower() if "://" in text else ""
    port = target.port
    if scheme == "http" and not re.search(r":[0-9]{1,5}/?$", text.strip()):
        port = _SQUID_PORT
    problem = target.problem
    if scheme.startswith("socks"):
        problem = "a SOCKS proxy is no HTTP proxy"
    elif scheme == "https":
        problem = "a proxy that itself speaks TLS is not supported"
    shown = target.shown
    if not problem:
        shown = f"http://{_bracketed(target.host)}:{port}"
    return Target(shown, source, "http", target.host, port, "/", target.credentials, problem)


def configured_targets(config: Mapping[str, Json], pilot_id: str = "") -> tuple[Target, ...]:
    """What must be reached: ``probes.endpoints``, then those of ``pool.collectors`` that this pilot draws, each
    once."""
    found = [parse_target(text, "probes.endpoints") for text in _texts(config, "probes", "endpoints")]
    found += [parse_collector(text) for text in drawn(_texts(config, "pool", "collectors"), pilot_id)]
    return _each_once(found)


def clock_targets(config: Mapping[str, Json]) -> tuple[Target, ...]:
    """Whose Date is compared with the clock: ``probes.clock_url``, or else the http(s) addresses of the endpoints."""
    section = config.get("probes")
    url = section.get("clock_url") if isinstance(section, Mapping) else None
    if isinstance(url, str) and url:
        target = parse_target(url, "probes.clock_url", wanted="no http or https address")
        if target.kind == "tcp" and not target.problem:
            target = Target(target.shown, target.source, problem="it is no http or https address")
        return (target,)
    found = (parse_target(text, "probes.endpoints") for text in _texts(config, "probes", "endpoints"))
    return tuple(target for target in found if target.kind in HTTP_KINDS and not target.problem)


def candidate_proxies(config: Mapping[str, Json], environment: Mapping[str, str], node: Node) -> tuple[Target, ...]:
    """Every HTTP proxy that the configuration, the site's variables or the CVMFS configuration name, each once."""
    found = [parse_proxy(text, "probes.proxies") for text in _texts(config, "probes", "proxies")]
    for group in _texts(config, "cvmfs", "proxies"):
        found += [parse_proxy(proxy, "cvmfs.proxies") for proxy in split_cvmfs_proxies(group)]
    for variable in _PROXY_VARIABLES:
        if environment.get(variable):
            found.append(parse_proxy(environment[variable], variable))
    squid = environment.get("OSG_SQUID_LOCATION", "")
    # OSG's convention for "there is none".
    if squid and squid.upper() not in ("UNAVAILABLE", "NONE"):
        found.append(parse_proxy(squid, "OSG_SQUID_LOCATION"))
    for text, source in (
        (environment.get("CVMFS_HTTP_PROXY", ""), "CVMFS_HTTP_PROXY"),
        (parse_cvmfs_proxies(node.read(_CVMFS_CONFIGURATION, limit_bytes=64 << 10) or ""), _CVMFS_CONFIGURATION),
    ):
        found += [parse_proxy(proxy, source) for proxy in split_cvmfs_proxies(text)]
    return _each_once(found)


def parse_cvmfs_proxies(text: str) -> str:
    """The value of CVMFS_HTTP_PROXY in a CVMFS configuration file, the last one; empty when it has none."""
    found = ""
    for match in re.finditer(_CVMFS_LINE, text):
        found = match[1] or match[2] or match[3] or ""
    return found


def split_cvmfs_proxies(text: str) -> Iterator[str]:
    """The proxies of a value like ``http://a:3128|http://b:3128;DIRECT``; ``DIRECT``, ``auto`` and what only a shell
    could expand are no proxies."""
    for part in re.split(r"[;|]", text):
        proxy = part.strip()
        if proxy and proxy.upper() not in ("DIRECT", "AUTO") and "$" not in proxy:
            yield proxy


def _each_once(found: Sequence[Target]) -> tuple[Target, ...]:
    """In the order found; the first place that names a target is its source."""
    kept: dict[str, Target] = {}
    for target in found:
        kept.setdefault(target.shown, target)
    return tuple(kept.values())


def _texts(config: Mapping[str, Json], group: str, key: str) -> Sequence[str]:
    section = config.get(group)
    values = section.get(key) if isinstance(section, Mapping) else None
    return [text for text in values if isinstance(text, str)] if isinstance(values, list | tuple) else []


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _without_query(rest: str) -> str:
    """A path as it may be shown: queries and fragments carry tokens."""
    path = re.split(r"[?#]", rest, maxsplit=1)[0]
    return "" if path == "/" else path


def _harmless(text: str) -> str:
    """A text nobody could read as an address, short and without what stands before an ``@`` or after a ``?``."""
    plain = re.sub(r"(?s).*@", "", text.strip())
    return re.split(r"[?#]", plain, maxsplit=1)[0][:200]
