from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_agent.probes.kernel.namespaces import enter_user_namespace
from pilot_agent.probes.network import interfaces
from pilot_agent.probes.network.interfaces import (
    Route,
    ask_addresses,
    parse_hosts,
    parse_resolver,
    parse_routes,
    parse_routes6,
    scope_of,
)
from tests.probes.namespaced import in_namespace

CLONE_NEWNET = 0x40000000
HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
ZERO = "0" * 32


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("8.8.8.8", "global"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("172.32.0.1", "global"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("169.254.1.1", "link"),
        ("127.0.1.1", "loopback"),
        ("2001:db8::1", "global"),
        ("fd00::1", "private"),
        ("fe80::1", "link"),
        ("::1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("example.org", None),
        ("", None),
    ],
)
def test_the_scope_of_an_address(address: str, scope: str | None) -> None:
    assert scope_of(address) == scope


def test_the_preferred_default_route_comes_first() -> None:
    lines = (
        "eth1\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        "eth0\t00000000\t0101000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "eth0\t0000000A\t00000000\t0001\t0\t0\t100\t000000FF\t0\t0\t0\n"
    )
    assert parse_routes(HEADER + lines) == [Route("eth0", "10.0.1.1", 100, 4), Route("eth1", "192.168.0.1", 600, 4)]


def test_a_route_without_a_gateway_leads_on_by_its_interface() -> None:
    line = "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
    assert parse_routes(HEADER + line) == [Route("tun0", "", 0, 4)]


def test_a_rejecting_route_is_none() -> None:
    assert parse_routes(HEADER + "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n") == []
    rejecting = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"
    assert parse_routes6(rejecting) == []


def test_a_default_route_of_ipv6_is_read() -> None:
    line = f"{ZERO} 00 {ZERO} 00 fe80000000000000000000000000000a 00000400 00000002 00000000 00000003     eth0\n"
    assert parse_routes6(line) == [Route("eth0", "fe80::a", 1024, 6)]


def test_the_resolvers_settings_are_read() -> None:
    text = "# c\n;nameserver 9.9.9.9\nnameserver 10.0.0.1\ndomain a.org\nsearch b.org c.org\n" + "nameserver ::1\n" * 4
    assert parse_resolver(text) == (["10.0.0.1", "::1", "::1"], ["b.org", "c.org"])
    assert parse_resolver("") == ([], [])


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("10.0.0.1 n1.example.org n1\n", "n1.example.org"),
        ("10.0.0.1 n1 n1.example.org # n1.other.org\n", "n1.example.org"),
        ("127.0.0.1 localhost n1\n", None),
        ("10.0.0.1 n11.example.org n11\n", None),
        ("# 10.0.0.1 n1.example.org n1\n", None),
    ],
)
def test_the_full_name_in_hosts(text: str, full: str | None) -> None:
    assert parse_hosts(text, "n1") == full


def test_the_kernel_lists_this_machines_addresses() -> None:
    found = ask_addresses()
    assert {"interface": "lo", "address": "127.0.0.1", "family": 4, "prefix": 8} in found
    listed = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    settled = [words for words in listed if not int(words[4], 16) & 0x48]
    assert {entry["interface"] for entry in found if entry["family"] == 6} == {words[5] for words in settled}


def test_a_namespace_without_a_network_has_no_address() -> None:
    def work() -> object:
        enter_user_namespace(CLONE_NEWNET)
        return ask_addresses()

    assert in_namespace(work) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"", b"\x20\0\0\0\x14\0", b"\x02\x18\x80\0\x01\0\0\0"]))
def test_damaged_messages_of_the_kernel_are_left_out(content: bytes, begin: bytes) -> None:
    for _, body in interfaces._messages(begin + content):
        interfaces._address(body)
    interfaces._address(begin + content)
