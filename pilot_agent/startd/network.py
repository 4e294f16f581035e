"""Whether names can be looked up on this node: HTCondor's daemons hang for minutes on names nobody answers for."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from pilot_agent.process import Runner
from pilot_agent.startd.plan import NetworkPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot_agent.model import Json
    from pilot_agent.process import WakeUp

LOOKUP_SECONDS = 2.0
NO_DOMAIN = "localdomain"


def plan_network(
    no_dns: bool | str, domain: str, collectors: Sequence[str], *, ccb: bool, wake: WakeUp | None = None
) -> tuple[NetworkPlan, tuple[str, ...]]:
    """The daemons' naming, and the collectors' addresses to use with it.

    ``no_dns`` "auto" asks once for the names that HTCondor will ask for. With NO_DNS HTCondor resolves no name at
    all, so collectors given by name are replaced by their addresses where one can be had.
    Raises ``Interrupted`` when ``wake`` becomes readable meanwhile.
    """
    name = socket.gethostname()
    hosts = [split_address(address)[0] for address in collectors]
    asked = str(no_dns).lower()
    found = {} if asked == "false" else _ask(name, hosts, wake)
    decided = asked == "true" or (asked == "auto" and not found.get("usable", False))
    if decided:
        known = found.get("addresses", {})
        collectors = [
            _with_host(address, known.get(host, host)) for address, host in zip(collectors, hosts, strict=True)
        ]
    own_domain = name.split(".", 1)[1] if "." in name else ""
    return NetworkPlan(no_dns=decided, domain=domain or own_domain or NO_DOMAIN, ccb=ccb), tuple(collectors)


def split_address(address: str) -> tuple[str, str]:
    """``host[:port][?...]`` as host (an IPv6 address without its brackets) and all the rest."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, rest
    end = min((address.index(mark) for mark in ":?" if mark in address), default=len(address))
    return address[:end], address[end:]


def _with_host(address: str, host: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown + split_address(address)[1]


def _ask(name: str, hosts: Sequence[str], wake: WakeUp | None) -> dict[str, Json]:
    """A resolver cannot be given a deadline: it runs in a child that can."""
    with Runner(wake) as runner:
        child = runner.start_call(
            lambda: json.dumps(_look_up(name, hosts)).encode(), name="look up names", deadline_seconds=LOOKUP_SECONDS
        )
        result = runner.wait(child)
    if not result.ok:
        return {}
    answer: dict[str, Json] = json.loads(result.answer)
    return answer


def _look_up(name: str, hosts: Sequence[str]) -> dict[str, Json]:
    """The collectors' addresses, and whether every name and address gave its counterpart: HTCondor asks both ways.

    A loopback address of the host itself is of no use to anybody else.
    """
    import ipaddress  # late: in the child that looks names up

    addresses = {host: found for host in hosts if (found := _address(host)) is not None}
    own = _address(name)
    usable = own is not None and not ipaddress.ip_address(own).is_loopback and len(addresses) == len(set(hosts))
    for address in (own, *addresses.values()):
        usable = usable and _has_name(address)
    return {"usable": usable, "addresses": addresses}


def _address(host: str) -> str | None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    # The first is the one that a connection would try first.
    return str(found[0][4][0]) if found else None


def _has_name(address: str | None) -> bool:
    try:
        return address is not None and bool(socket.gethostbyaddr(address)[0])
    except (OSError, UnicodeError):
        return False
