"""The checks of clock, network and GPUs: what they judge by, and what they say must change."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pilot_agent.config import load_config
from pilot_agent.hookspecs import Context
from pilot_agent.model import CheckStatus, Fact, FailureKind, Json
from pilot_agent.plugins.checks import check_clock, check_gpu, check_network, pilot_checks


def context(*facts: Fact, **config: Json) -> Context:
    return Context(facts={fact.name: fact for fact in facts}, config=config)


@pytest.mark.parametrize(
    ("offset", "status", "said"),
    [
        (0.4, CheckStatus.PASS, "0.4 s ahead of"),
        (-59, CheckStatus.PASS, "59.0 s behind"),
        (61, CheckStatus.WARN, "61.0 s ahead of"),
        (-301, CheckStatus.FAIL, "301.0 s behind"),
    ],
)
def test_the_clock_is_judged_by_its_offset(offset: float, status: CheckStatus, said: str) -> None:
    result = check_clock(context(Fact("clock.offset_seconds", offset, "s", source="https://www.example.org")))
    assert result.status is status
    assert said in result.message
    assert (result.code == "clock.skew") is (status is not CheckStatus.PASS)


def test_a_clock_that_was_compared_with_nothing_is_not_judged() -> None:
    result = check_clock(context(Fact.unknown("clock.offset_seconds", "no address is configured")))
    assert result.status is CheckStatus.SKIP
    assert "no address is configured" in result.message
    assert check_clock(context()).status is CheckStatus.SKIP


def network(*endpoints: Mapping[str, Json], proxies: Json = None) -> Context:
    facts = [Fact("network.endpoints", list(endpoints)), Fact("network.proxies", proxies or [])]
    return context(*facts, probes={"endpoints": ["a:1", "b:2"]})


def test_endpoints_that_are_reached_pass_and_others_are_named_with_the_reason() -> None:
    reached = {"endpoint": "a:1", "reachable": True}
    assert check_network(network(reached, {"endpoint": "b:2", "reachable": True})).status is CheckStatus.PASS
    result = check_network(network(reached, {"endpoint": "b:2", "reachable": False, "reason": "refused"}))
    assert (result.status, result.code) == (CheckStatus.FAIL, "endpoint.unreachable")
    assert "b:2: refused" in result.message
    assert "a:1" not in result.message
    assert "b:2: not tried" in check_network(network(reached)).message


def test_proxies_that_are_all_broken_are_what_must_change() -> None:
    proxies = [{"proxy": "http://squid:3128", "works": False, "reason": "no route"}]
    result = check_network(network({"endpoint": "a:1", "reachable": True}, proxies=proxies))
    assert result.code == "proxy.unreachable"
    assert "http://squid:3128: no route" in result.message


def test_a_gpu_that_cannot_compute_is_named() -> None:
    good = {"name": "H100", "uuid": "GPU-1", "state": "usable"}
    broken = {"name": "H100", "uuid": "GPU-2", "state": "unusable", "reason": "wrong numbers"}
    assert check_gpu(context(Fact("gpu.devices", [good]))).status is CheckStatus.PASS
    result = check_gpu(context(Fact("gpu.devices", [good, broken])))
    assert (result.status, result.code) == (CheckStatus.FAIL, "gpu.unusable")
    assert "GPU-2: wrong numbers" in result.message
    assert "GPU-1" not in result.message


def test_checks_are_declared_only_where_the_configuration_gives_them_something_to_judge() -> None:
    config = dict(load_config([]).values)
    plain = {check.name: check for check in pilot_checks(config)}
    assert {"network", "gpu", "token", "cvmfs"}.isdisjoint(plain)
    assert plain["clock"].kind is FailureKind.NETWORK
    config["probes"] = {**config["probes"], "endpoints": ["a:1"], "gpu_test": True}
    more = {check.name: check for check in pilot_checks(config)}
    assert more["network"].kind is FailureKind.NETWORK
    assert "gpu" in more
