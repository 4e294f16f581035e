"""The network: what the node has (read from files and the kernel), and what it reaches where addresses are configured.

Without ``probes.endpoints`` and ``pool.collectors`` no packet is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json
from pilot_agent.probes.network.interfaces import (
    Route,
    ask_addresses,
    parse_hosts,
    parse_resolver,
    parse_routes,
    parse_routes6,
    scope_of,
)
from pilot_agent.probes.network.targets import candidate_proxies, configured_targets
from pilot_agent.probes.network.untried import idle_answer, untried_facts
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

_ROUTES = {4: "/proc/net/route", 6: "/proc/net/ipv6_route"}
_TEST = "network connections"
_RESOLVER = "/etc/resolv.conf"
_EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range"


def probe_network(context: Context) -> Iterator[Finding]:
    """``network.hostname``, ``fqdn``, ``addresses``, ``ipv4``, ``ipv6``, ``default_route``, ``mtu``, ``ports``, and of
    what is configured ``dns``, ``endpoints``, ``outbound``, ``proxies``, ``proxy``, ``address_seen`` and ``nat``."""
    node = Node.of(context)
    addresses = _addresses(node)
    yield addresses
    routes = _routes(node)
    for family in (4, 6):
        yield _family(family, addresses, routes.get(family))
    yield from _default_route(node, routes)
    yield _ports(node)
    yield from _reached(node, context)


def _reached(node: Node, context: Context) -> Iterator[Fact]:
    targets = configured_targets(context.config, context.pilot_id)
    proxies = candidate_proxies(context.config, context.environment, node)
    if node.live and not targets:
        idle = [
            {"shown": proxy.shown, "source": proxy.source, "kind": "http", "problem": proxy.problem}
            for proxy in proxies
        ]
        node.ask(_TEST, lambda: idle_answer(idle), here=True)
        yield from _names(node, "")
        yield from untried_facts([(proxy.shown, proxy.source, proxy.problem) for proxy in proxies], _resolver(node))
        return
    from pilot_agent.probes.network.endpoints import ask_connections
    from pilot_agent.probes.network.reached import reach_facts

    found, problem = ask_connections(node, _TEST, targets, proxies, context.environment)
    yield from _names(node, found.full_name if found else "")
    yield from reach_facts(found, problem, _resolver(node))


def _addresses(node: Node) -> Fact:
    name, source = "network.addresses", "rtnetlink"
    answer = node.ask("network addresses", ask_addresses, here=True)
    if answer.problem:
        return Fact.unknown(name, f"the kernel does not list addresses: {answer.problem}", source=source)
    found = []
    for entry in answer.value if isinstance(answer.value, list) else []:
        address = entry.get("address") if isinstance(entry, dict) else None
        scope = scope_of(address) if isinstance(address, str) else None
        if scope is not None:
            kept = {key: entry.get(key) for key in ("interface", "address", "family", "prefix")}
            found.append(kept | {"scope": scope})
    return Fact(name, found, source=source)


def _routes(node: Node) -> dict[int, list[Route]]:
    """Family -> default routes; without the families whose list cannot be read."""
    texts = {family: node.read(path) for family, path in _ROUTES.items()}
    parsers = {4: parse_routes, 6: parse_routes6}
    return {family: parsers[family](text) for family, text in texts.items() if text is not None}


def _family(family: int, addresses: Fact, routes: Sequence[Route] | None) -> Fact:
    """Whether packets of this family have a way out as far as the node's own settings say."""
    name, source = f"network.ipv{family}", f"rtnetlink, {_ROUTES[family]}"
    if not addresses.known:
        return Fact.unknown(name, addresses.detail, source=source)
    own = [entry for entry in addresses.value if entry["family"] == family and entry["scope"] in ("global", "private")]
    if not own:
        return Fact(name, False, source=source, detail="no interface has a global or private address")
    if routes is None:
        return Fact.unknown(name, f"{_ROUTES[family]} cannot be read", source=source)
    if not routes:
        return Fact(name, False, source=source, detail="there is no default route; the site gives the node one")
    return Fact(name, True, source=source)


def _default_route(node: Node, routes: dict[int, list[Route]]) -> Iterator[Fact]:
    """The preferred default route, that of IPv4 where there is one, and the MTU of its interface."""
    best = next((found[0] for _, found in sorted(routes.items()) if found), None)
    if best is None:
        files = " and ".join(_ROUTES.values())
        for name in ("network.default_route", "network.mtu"):
            if routes:
                yield Fact.absent(name, "neither IPv4 nor IPv6 has a default route", source=files)
            else:
                yield Fact.unknown(name, f"{files} cannot be read", source=files)
        return
    source = _ROUTES[best.family]
    value = {"interface": best.interface, "gateway": best.gateway or None, "family": best.family}
    yield Fact("network.default_route", value, source=source)
    path = f"/sys/class/net/{best.interface}/mtu"
    mtu = node.read_integer(path) if "/" not in best.interface else None
    if mtu is None:
        yield Fact.unknown("network.mtu", f"{path} cannot be read", source=path)
    else:
        yield Fact("network.mtu", mtu, "bytes", source=path)


def _ports(node: Node) -> Fact:
    """The ports that the kernel gives out, and whether a program of this account may listen on one of them."""
    name, source = "network.ports", _EPHEMERAL
    words = (node.read_line(_EPHEMERAL) or "").split()
    answer = node.ask("listening", _listen, here=True)
    bounds = [number for number in map(parse_integer, words) if number is not None]
    if len(bounds) != 2:
        return Fact.unknown(name, f"{_EPHEMERAL} cannot be read", source=source)
    listens = None if not answer.recorded else not answer.problem
    detail = f"no port can be listened on: {answer.problem}" if answer.problem else ""
    return Fact(name, {"first": bounds[0], "last": bounds[1], "listen": listens}, source=source, detail=detail)


def _listen() -> Json:
    import socket

    with socket.create_server(("", 0)) as server:
        return {"port": server.getsockname()[1]}


def _names(node: Node, full_name: str) -> Iterator[Fact]:
    source = "/proc/sys/kernel/hostname"
    name = node.read_line(source)
    if name is None:
        for fact in ("network.hostname", "network.fqdn"):
            yield Fact.unknown(fact, f"{source} cannot be read", source=source)
        return
    yield Fact("network.hostname", name, source=source)
    in_hosts = parse_hosts(node.read("/etc/hosts") or "", name)
    known = {source: name if "." in name else "", "/etc/hosts": in_hosts, "name service": full_name}
    for place, full in known.items():
        if full:
            yield Fact("network.fqdn", full, source=place)
            return
    looked_for = "neither the host name nor /etc/hosts has a domain, and name servers told none or were not asked"
    yield Fact.absent("network.fqdn", looked_for, source=source)


def _resolver(node: Node) -> Fact:
    """``network.dns`` as far as the configuration of the resolver says it."""
    content = node.read(_RESOLVER)
    if content is None:
        looked_for = f"{_RESOLVER} is missing: names are asked of this node itself"
        return node.absence("network.dns", looked_for, _RESOLVER, source=_RESOLVER)
    servers, search = parse_resolver(content)
    return Fact("network.dns", {"nameservers": servers, "search": search}, source=_RESOLVER)
