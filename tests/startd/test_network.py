"""Names are asked for once, with a deadline, and collectors keep what stands after their names."""

from __future__ import annotations

import pytest

from pilot_agent.startd.network import plan_network, split_address


@pytest.mark.parametrize(
    ("address", "host", "rest"),
    [
        ("cm.example.org:9618", "cm.example.org", ":9618"),
        ("cm.example.org", "cm.example.org", ""),
        ("cm:9618?sock=collector", "cm", ":9618?sock=collector"),
        ("cm?sock=a:b", "cm", "?sock=a:b"),
        ("[2001:db8::1]:9618", "2001:db8::1", ":9618"),
    ],
)
def test_an_address_is_a_host_and_the_rest(address: str, host: str, rest: str) -> None:
    assert split_address(address) == (host, rest)


def test_without_look_ups_collectors_become_addresses() -> None:
    network, collectors = plan_network(True, "d", ("localhost:9618", "192.0.2.7:1", "[2001:db8::1]:2"), ccb=True)
    assert network.no_dns
    assert collectors[0] in ("127.0.0.1:9618", "[::1]:9618")
    assert collectors[1:] == ("192.0.2.7:1", "[2001:db8::1]:2")


def test_with_look_ups_nothing_is_asked_or_changed() -> None:
    network, collectors = plan_network(False, "", ("localhost:9618",), ccb=False)
    assert (network.no_dns, network.ccb, collectors) == (False, False, ("localhost:9618",))
    assert network.domain
