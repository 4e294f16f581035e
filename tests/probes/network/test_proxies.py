"""Addresses and proxies from the forms in which people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.probes.network.targets import (
    candidate_proxies,
    clock_targets,
    configured_targets,
    parse_collector,
    parse_cvmfs_proxies,
    parse_proxy,
    parse_target,
    split_cvmfs_proxies,
)
from pilot_agent.probes.node import Node
from tests.probes.trees import write_tree


@pytest.mark.parametrize(
    ("text", "kind", "authority", "path"),
    [
        ("host.example.org:1094", "tcp", "host.example.org:1094", "/"),
        ("192.0.2.1:9618", "tcp", "192.0.2.1:9618", "/"),
        ("[2001:db8::1]:80", "tcp", "[2001:db8::1]:80", "/"),
        ("http://host", "http", "host:80", "/"),
        ("HTTPS://host:8443/a/b?c=d#e", "https", "host:8443", "/a/b?c=d"),
        ("https://[2001:db8::1]", "https", "[2001:db8::1]:443", "/"),
    ],
)
def test_an_address_is_understood(text: str, kind: str, authority: str, path: str) -> None:
    target = parse_target(text, "test")
    assert (target.kind, target.authority, target.path, target.problem) == (kind, authority, path, "")


@pytest.mark.parametrize(
    "text", ["", "host", "host:0", "host:70000", "ftp://host", "a b:1", "http://", "host:1/path", "http://h/ä", "[x]:1"]
)
def test_what_is_no_address_says_so(text: str) -> None:
    assert parse_target(text, "test").problem


@pytest.mark.parametrize(
    "text",
    [
        "http://user:open-sesame@host/path",
        "https://host/path?key=open-sesame",
        "http://user:open-sesame/1@host/path",
        "http://user:12/open-sesame@host",
        "http://host/path#open-sesame",
        "user:open-sesame@host",
        "http://user:open-sesame@ho st",
        "http://user:1?open-sesame@host",
    ],
)
def test_secrets_in_an_address_are_not_shown(text: str) -> None:
    for target in (parse_target(text, "test"), parse_proxy(text, "test"), parse_collector(text)):
        assert "sesame" not in target.shown + target.problem
        assert "open-sesame" not in repr(target).replace(repr(target.path), "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cm.example.org", "cm.example.org"),
        ("<192.0.2.1:9619?alias=cm&addrs=192.0.2.1-9619>", "192.0.2.1:9619"),
        ("[2001:db8::1]:9618?sock=collector", "[2001:db8::1]:9618"),
    ],
)
def test_a_collector_is_named_as_htcondor_names_it(text: str, shown: str) -> None:
    target = parse_collector(text)
    assert (target.shown, target.problem) == (shown, "")
    assert target.port in (9618, 9619)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("squid.example.org", "http://squid.example.org:3128"),
        ("http://squid.example.org", "http://squid.example.org:3128"),
        ("http://squid.example.org:80/", "http://squid.example.org:80"),
        ("http://me:secret@squid:8080", "http://squid:8080"),
        ("[2001:db8::1]", "http://[2001:db8::1]:3128"),
    ],
)
def test_a_proxy_is_understood(text: str, shown: str) -> None:
    proxy = parse_proxy(text, "test")
    assert (proxy.shown, proxy.problem) == (shown, "")


@pytest.mark.parametrize("text", ["socks5://a:1", "https://a:1", "a b", "http://a:0", "ftp://a"])
def test_what_is_no_http_proxy_says_so(text: str) -> None:
    assert parse_proxy(text, "test").problem


def test_cvmfs_lists_of_proxies_are_taken_apart() -> None:
    assert list(split_cvmfs_proxies("http://a:3128|http://b:3128;DIRECT")) == ["http://a:3128", "http://b:3128"]
    assert list(split_cvmfs_proxies("auto; ;$SITE_PROXY")) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("CVMFS_HTTP_PROXY=http://a:1\n", "http://a:1"),
        ('# x\n  export CVMFS_HTTP_PROXY="http://a:1|http://b:1;DIRECT" # y\n', "http://a:1|http://b:1;DIRECT"),
        ("CVMFS_HTTP_PROXY='x'\nCVMFS_HTTP_PROXY=y\n", "y"),
        ("#CVMFS_HTTP_PROXY=http://a:1\nMY_CVMFS_HTTP_PROXY=z\n", ""),
        ("", ""),
    ],
)
def test_the_cvmfs_configuration_is_read(text: str, value: str) -> None:
    assert parse_cvmfs_proxies(text) == value


def test_every_place_that_names_a_proxy_is_asked_and_each_proxy_counts_once(tmp_path: Path) -> None:
    write_tree(tmp_path, {"/etc/cvmfs/default.local": "CVMFS_HTTP_PROXY='http://a:1|http://e:5;DIRECT'\n"})
    config = {"probes": {"proxies": ["http://a:1"]}}
    environment = {
        "http_proxy": "http://u:p@b:2",
        "OSG_SQUID_LOCATION": "c",
        "CVMFS_HTTP_PROXY": "http://b:2;http://d:4",
    }
    found = candidate_proxies(config, environment, Node.of(Context(root=str(tmp_path))))
    assert [(proxy.shown, proxy.source) for proxy in found] == [
        ("http://a:1", "probes.proxies"),
        ("http://b:2", "http_proxy"),
        ("http://c:3128", "OSG_SQUID_LOCATION"),
        ("http://d:4", "CVMFS_HTTP_PROXY"),
        ("http://e:5", "/etc/cvmfs/default.local"),
    ]


def test_osgs_word_for_no_squid_is_none(tmp_path: Path) -> None:
    node = Node.of(write_tree(tmp_path, {}))
    assert candidate_proxies({}, {"OSG_SQUID_LOCATION": "UNAVAILABLE"}, node) == ()


def test_endpoints_come_before_collectors_and_each_once() -> None:
    config = {"probes": {"endpoints": ["a:1", "b:2", "a:1"]}, "pool": {"collectors": ["b:2", "c"]}}
    found = [(target.shown, target.source) for target in configured_targets(config)]
    assert found == [("a:1", "probes.endpoints"), ("b:2", "probes.endpoints"), ("c", "pool.collectors")]


@pytest.mark.parametrize(
    "config", [{}, {"probes": None}, {"probes": {"endpoints": "a:1"}}, {"probes": {"endpoints": [1]}}]
)
def test_a_partial_configuration_names_nothing(config: dict[str, object]) -> None:
    assert configured_targets(config) == ()
    assert clock_targets(config) == ()


def test_the_clock_is_compared_with_its_own_address_or_else_with_the_endpoints() -> None:
    endpoints = {"endpoints": ["a:1", "http://b", "nonsense"]}
    assert [target.shown for target in clock_targets({"probes": endpoints})] == ["http://b"]
    own = clock_targets({"probes": {**endpoints, "clock_url": "https://c/"}})
    assert [(target.shown, target.source) for target in own] == [("https://c", "probes.clock_url")]
    (wrong,) = clock_targets({"probes": {"clock_url": "c:1"}})
    assert "no http or https address" in wrong.problem
