"""The facts of a network where no connection was tried: little to load, as most pilots configure no endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pilot_agent.model import Fact, Json

NO_ENDPOINT = "no endpoint is configured: name some as probes.endpoints"
NO_PROXY = "neither probes.proxies, nor http_proxy, OSG_SQUID_LOCATION, CVMFS_HTTP_PROXY or CVMFS name one"


def idle_answer(proxies: Sequence[Mapping[str, Json]]) -> Json:
    """The answer of a trial that had nothing to reach, in the form of ``endpoints.Connections``."""
    return {"targets": [], "proxies": list(proxies), "full_name": ""}


def untried_facts(proxies: Sequence[tuple[str, str, str]], resolver: Fact) -> Iterator[Fact]:
    """The same facts as ``reached.reach_facts``; of each proxy there are its address, source and problem."""
    yield with_look_ups(resolver, {})
    for name in ("endpoints", "outbound", "address_seen", "nat"):
        yield Fact.unknown(f"network.{name}", NO_ENDPOINT)
    if not proxies:
        for name in ("proxies", "proxy"):
            yield Fact.absent(f"network.{name}", NO_PROXY)
        return
    entries = [
        {
            "proxy": shown,
            "source": source,
            "works": False if problem else None,
            "milliseconds": None,
            "reason": problem or NO_ENDPOINT,
        }
        for shown, source, problem in proxies
    ]
    yield Fact("network.proxies", entries, source="configuration", detail=NO_ENDPOINT)
    yield Fact.unknown("network.proxy", NO_ENDPOINT)


def with_look_ups(resolver: Fact, look_ups: Mapping[str, Mapping[str, Json]]) -> Fact:
    """``network.dns``: the resolver's settings, each name that was looked up, and whether any look-up worked."""
    if not resolver.known:
        return resolver
    works = any(entry["works"] for entry in look_ups.values()) if look_ups else None
    value = {**resolver.value, "works": works, "look_ups": list(look_ups.values())}
    failed = [entry["reason"] for entry in look_ups.values() if entry["reason"]]
    detail = "; ".join(failed) or ("" if look_ups else "not tried: no endpoint with a name is configured")
    return Fact(resolver.name, value, source=resolver.source, detail=detail)
