"""The facts of what was reached, by which way, and through which proxies."""

from __future__ import annotations

from collections.abc import Iterator

from pilot_agent.model import Fact, Json
from pilot_agent.probes.network.attempts import Attempt
from pilot_agent.probes.network.endpoints import Connections, Tried
from pilot_agent.probes.network.interfaces import scope_of
from pilot_agent.probes.network.reachability import explain, reached, refused_by_proxy
from pilot_agent.probes.network.untried import NO_PROXY, untried_facts, with_look_ups

_SOURCE = "connections made"
_ACTIVE = ("endpoints", "outbound", "proxies", "proxy", "address_seen", "nat")


def reach_facts(found: Connections | None, problem: str, resolver: Fact) -> Iterator[Fact]:
    """``network.endpoints``, ``outbound``, ``proxies``, ``proxy``, ``address_seen``, ``nat``, and ``dns`` with the
    look-ups added; unknown with ``problem`` where no connection was tried."""
    if found is None:
        yield resolver
        for name in _ACTIVE:
            yield Fact.unknown(f"network.{name}", problem, source=_SOURCE)
        return
    if not found.targets:
        yield from untried_facts([(proxy.shown, proxy.source, proxy.problem) for proxy in found.proxies], resolver)
        return
    yield _dns(found, resolver)
    yield from _endpoints(found)
    yield from _proxies(found)
    yield from _seen(found)


def _dns(found: Connections, resolver: Fact) -> Fact:
    look_ups: dict[str, dict[str, Json]] = {}
    for target in (*found.targets, *found.proxies):
        for attempt in target.attempts:
            # No name server is asked for an address or for localhost, and through a proxy only for the proxy's name.
            if not attempt.via and target.host != "localhost" and scope_of(target.host) is None:
                look_ups.setdefault(target.host, _look_up(target, attempt))
    return with_look_ups(resolver, look_ups)


def _look_up(target: Tried, attempt: Attempt) -> dict[str, Json]:
    works = attempt.step != "look-up"
    reason = "" if works else explain(attempt, target.host, target.port)
    return {"name": target.host, "works": works, "milliseconds": attempt.look_up_milliseconds, "reason": reason}


def _endpoints(found: Connections) -> Iterator[Fact]:
    entries = [_endpoint(target, found) for target in found.targets]
    missing = [f"{entry['endpoint']}: {entry['reason']}" for entry in entries if not entry["reachable"]]
    detail = "; ".join(missing)
    yield Fact("network.endpoints", entries, source=_SOURCE, detail=detail)
    yield Fact("network.outbound", len(missing) < len(entries), source=_SOURCE, detail=detail)


def _endpoint(target: Tried, found: Connections) -> dict[str, Json]:
    entry: dict[str, Json] = {"endpoint": target.shown, "source": target.source, "reachable": False}
    best = next((attempt for attempt in target.attempts if reached(attempt)), None)
    if best is None:
        reasons = [_reason(target, attempt, found) for attempt in target.attempts]
        return entry | {"reason": "; ".join(reasons) or target.problem or "it was not tried"}
    entry["reachable"] = True
    entry["via"] = best.via or "direct"
    entry["milliseconds"] = best.milliseconds
    if best.status:
        entry["status"] = best.status
    if not best.via:
        entry |= {"family": best.family, "address": best.address}
    entry["reason"] = _reason(target, best, found)
    if best.via and target.attempts[0] is not best:
        entry["reason"] = f"not directly: {_reason(target, target.attempts[0], found)}"
    return entry


def _reason(target: Tried, attempt: Attempt, found: Connections) -> str:
    """Why an attempt failed, with the proxy's name before it where there was one."""
    proxy = next((proxy for proxy in found.proxies if attempt.via and proxy.shown == attempt.via), None)
    if proxy is None:
        return explain(attempt, target.host, target.port)
    text = explain(attempt, proxy.host, proxy.port)
    return f"through {proxy.shown}: {text}" if text else ""


def _proxies(found: Connections) -> Iterator[Fact]:
    if not found.proxies:
        for name in ("proxies", "proxy"):
            yield Fact.absent(f"network.{name}", NO_PROXY)
        return
    entries = [_proxy(proxy, found) for proxy in found.proxies]
    faulty = [f"{entry['proxy']} ({entry['source']}): {entry['reason']}" for entry in entries if not entry["works"]]
    detail = "; ".join(faulty)
    yield Fact("network.proxies", entries, source=_SOURCE, detail=detail)
    working = next((entry["proxy"] for entry in entries if entry["works"]), None)
    if working is not None:
        yield Fact("network.proxy", working, source=_SOURCE, detail=detail)
    elif all(entry["works"] is False for entry in entries):
        yield Fact.absent("network.proxy", f"no proxy works: {detail}", source=_SOURCE)
    else:
        yield Fact.unknown("network.proxy", detail, source=_SOURCE)


def _proxy(proxy: Tried, found: Connections) -> dict[str, Json]:
    """One proxy: it works when it fetched an address; one that only accepted a connection may work (null)."""
    entry: dict[str, Json] = {"proxy": proxy.shown, "source": proxy.source, "works": None, "milliseconds": None}
    if proxy.problem:
        return entry | {"works": False, "reason": proxy.problem}
    if not proxy.attempts:
        return entry | {"reason": "it was not tried"}
    fetched = [attempt for attempt in proxy.attempts if attempt.via]
    best = next((attempt for attempt in fetched if reached(attempt)), None)
    if best is not None:
        return entry | {"works": True, "milliseconds": best.milliseconds, "reason": ""}
    attempt = (fetched or proxy.attempts)[0]
    entry["milliseconds"] = attempt.milliseconds
    if not fetched and attempt.answered:
        why = "it accepts connections; what it fetches was not tried, as no http or https endpoint is configured"
        return entry | {"reason": why}
    # Behind the proxy something else is at fault when nothing but the address itself failed there.
    blameless = any(_fault_of_address(attempt) for attempt in fetched)
    return entry | {"works": None if blameless else False, "reason": explain(attempt, proxy.host, proxy.port)}


def _fault_of_address(attempt: Attempt) -> bool:
    return attempt.step == "tls" and attempt.problem == "certificate" and not refused_by_proxy(attempt)


def _seen(found: Connections) -> Iterator[Fact]:
    """The node's end of a connection; whether it is translated on the way can only be guessed from the two ends."""
    direct = [attempt for target in found.targets for attempt in target.attempts if attempt.local and not attempt.via]
    if not direct:
        for name in ("address_seen", "nat"):
            yield Fact.unknown(f"network.{name}", "no endpoint was reached directly")
        return
    best = min(direct, key=lambda attempt: scope_of(attempt.address) != "global")
    seen = "the node's own end of a connection; nobody outside was asked what arrives there"
    yield Fact("network.address_seen", best.local, source=_SOURCE, detail=seen)
    ends = f"from {best.local} to {best.address}"
    if scope_of(best.address) != "global":
        yield Fact.unknown("network.nat", f"no endpoint outside was reached ({ends})", source=_SOURCE)
    elif scope_of(best.local) == "global":
        yield Fact("network.nat", False, source=_SOURCE, detail=f"a guess: a public address is used ({ends})")
    else:
        why = f"a guess: a private address reaches a public one ({ends})"
        yield Fact("network.nat", True, source=_SOURCE, detail=why)
