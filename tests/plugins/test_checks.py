"""The checks of clock, network and GPUs: what they judge by, and what they say must change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pilot_agent.config import load_config
from pilot_agent.hookspecs import Context
from pilot_agent.model import CheckStatus, Fact, FailureKind, Json
from pilot_agent.plugins.checks import check_clock, check_condor, check_cvmfs, check_gpu, check_network, pilot_checks
from tests.startd.published import install


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


def test_collectors_that_are_not_reached_are_a_warning_as_the_pool_may_be_late() -> None:
    collector = {"endpoint": "cm:9618", "source": "pool.collectors", "reachable": False, "reason": "refused"}
    facts = Fact("network.endpoints", [collector])
    result = check_network(context(facts, probes={"endpoints": []}, pool={"collectors": ["cm:9618"]}))
    assert (result.status, result.code) == (CheckStatus.WARN, "collector.unreachable")
    assert "cm:9618: refused" in result.message


def test_a_clock_that_should_have_been_compared_and_was_not_is_a_warning() -> None:
    unknown = Fact.unknown("clock.offset_seconds", "the server did not answer")
    assert check_clock(context(unknown, probes={"clock_url": "https://x"})).status is CheckStatus.WARN


GOOD = {"name": "H100", "uuid": "GPU-1", "state": "usable"}
BROKEN = {"name": "H100", "uuid": "GPU-2", "state": "unusable", "reason": "row remapping failed"}


def test_a_gpu_that_is_there_and_broken_is_named_whether_they_compute_or_not() -> None:
    for tested in (True, False):
        result = check_gpu(context(Fact("gpu.devices", [GOOD, BROKEN]), probes={"gpu_test": tested}))
        assert (result.status, result.code) == (CheckStatus.FAIL, "gpu.unusable")
        assert "GPU-2: row remapping failed" in result.message
        assert "GPU-1" not in result.message


def test_gpus_that_work_pass_and_it_is_said_whether_they_computed() -> None:
    computed = {**GOOD, "tested": True}
    fact = Fact("gpu.devices", [computed, {**GOOD, "tested": False}])
    assert "1 GPU computed what it should; 1 cannot" in check_gpu(context(fact, probes={"gpu_test": True})).message
    assert "none was asked to compute" in check_gpu(context(Fact("gpu.devices", [GOOD]))).message
    assert check_gpu(context()).status is CheckStatus.SKIP


def test_mounts_that_do_not_answer_are_told_also_where_no_repository_is_asked_for() -> None:
    config = {"cvmfs": {"repositories": [], "use": "preferred", "rungs": None}, "site": {"cvmfs": "optional"}}
    refused = [{"repository": "dead.example.org", "reason": "Transport endpoint is not connected"}]
    broken = check_cvmfs(context(Fact("cvmfs.refused", refused), **config))
    assert (broken.status, broken.code) == (CheckStatus.WARN, "cvmfs.broken")
    assert "dead.example.org: Transport endpoint" in broken.message
    assert check_cvmfs(context(Fact("cvmfs.repositories", ["good.example.org"]), **config)).status is CheckStatus.PASS
    assert check_cvmfs(context(**config)).status is CheckStatus.SKIP


@pytest.mark.parametrize(
    ("use", "site", "rungs", "hint"),
    [
        ("REQUIRED", "optional", None, "the site mounts CVMFS at /cvmfs"),
        ("optional", "required", None, "the site mounts CVMFS at /cvmfs"),
        (
            "required",
            "preferred",
            ["namespace"],
            "whoever set cvmfs.rungs adds native, namespace or fusermount, the ways that this version takes",
        ),
    ],
)
def test_where_cvmfs_is_required_a_node_without_any_does_not_pass(
    use: str, site: str, rungs: list[str] | None, hint: str
) -> None:
    layers: Json = rungs and [{"layer": "site", "value": rungs}]
    result = check_cvmfs(context(cvmfs={"repositories": [], "use": use, "rungs": layers}, site={"cvmfs": site}))
    assert (result.status, result.code) == (CheckStatus.FAIL, "cvmfs.broken")
    assert result.hint.startswith(f"{hint}, or the ")
    assert result.hint.endswith(f"{'site sets site.cvmfs' if site == 'required' else 'VO sets cvmfs.use'} to preferred")


def test_what_the_pilots_own_ways_did_not_give_is_not_told_to_allow_them() -> None:
    own = {"repositories": ["a.example.org"], "use": "preferred", "rungs": [{"layer": "vo", "value": ["Namespace"]}]}
    facts = (Fact("cvmfs.repositories", []), Fact("cvmfs.refused", []))
    result = check_cvmfs(context(*facts, cvmfs=own, site={"cvmfs": "optional"}))
    assert result.hint.startswith("who named the repositories or made the client corrects what the reason says")
    nothing = [{"layer": "vo", "value": ["namespace"]}, {"layer": "site", "value": ["container"]}]
    result = check_cvmfs(context(*facts, cvmfs={**own, "rungs": nothing}, site={"cvmfs": "optional"}))
    assert result.hint.startswith("whoever set cvmfs.rungs adds native, namespace or fusermount")


@pytest.mark.parametrize("use", ["preferred", "required"])
def test_repositories_of_which_nobody_knows_whether_they_answer_are_not_told_to_be_silent(use: str) -> None:
    wanted: dict[str, Json] = {
        "cvmfs": {"repositories": ["images.example.org"], "use": use, "rungs": None},
        "site": {"cvmfs": "optional"},
    }
    result = check_cvmfs(context(Fact.unknown("cvmfs.repositories", "not recorded"), **wanted))
    assert (result.status, result.code) == (CheckStatus.FAIL, "cvmfs.broken")
    assert result.message == "it is not known whether images.example.org answer: not recorded"
    assert result.hint == "look on the node itself; the site repairs what cannot be looked at there"


def test_checks_are_declared_only_where_the_configuration_gives_them_something_to_judge() -> None:
    config = dict(load_config([]).values)
    plain = {check.name: check for check in pilot_checks(config)}
    assert {"network", "token"}.isdisjoint(plain)
    assert plain["clock"].kind is FailureKind.NETWORK
    assert not plain["gpu"].required
    config["probes"] = {**config["probes"], "endpoints": ["a:1"], "gpu_test": True}
    more = {check.name: check for check in pilot_checks(config)}
    assert more["network"].kind is FailureKind.NETWORK
    assert more["gpu"].required


def test_collectors_and_endpoints_of_another_vo_are_not_judged() -> None:
    theirs = {"endpoint": "cm.other.org:9618", "source": "pool.collectors", "reachable": False, "reason": "refused"}
    ours = [{"endpoint": "a:1", "reachable": True}, {"endpoint": "b:2", "reachable": True}]
    result = check_network(network(*ours, theirs, {"endpoint": "c:3", "reachable": True}))
    assert (result.status, result.message) == (CheckStatus.PASS, "reached: a:1, b:2")


def test_an_endpoint_is_found_again_however_it_was_written() -> None:
    facts = Fact("network.endpoints", [{"endpoint": "https://a.example.org/x", "reachable": True}])
    result = check_network(context(facts, probes={"endpoints": ["HTTPS://me:secret@a.example.org/x?key=1"]}))
    assert (result.status, result.message) == (CheckStatus.PASS, "reached: https://a.example.org/x")


def test_a_required_repository_that_does_not_answer_has_the_code_of_the_documentation() -> None:
    wanted = {
        "cvmfs": {"repositories": ["images.example.org"], "use": "required", "rungs": None},
        "site": {"cvmfs": "optional"},
    }
    refused = Fact("cvmfs.refused", [{"repository": "images.example.org", "reason": "this node has no /cvmfs"}])
    result = check_cvmfs(context(refused, **wanted))
    assert (result.status, result.code) == (CheckStatus.FAIL, "cvmfs.broken")


def htcondor(monkeypatch: pytest.MonkeyPatch, path: str = "/nonexistent", **startd: Json) -> Context:
    monkeypatch.setattr("pilot_agent.startd.discovery.USUAL_SBIN", ("/nonexistent/sbin",))
    config: dict[str, Json] = dict(load_config([]).values)
    return Context(config=config | {"startd": config["startd"] | startd}, environment={"PATH": path})


def test_an_htcondor_that_is_there_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(tmp_path)
    result = check_condor(htcondor(monkeypatch, f"{tmp_path}/sbin", condor_directory="/opt/none"))
    assert (result.status, result.message) == (CheckStatus.PASS, f"HTCondor 23.9.6 in {tmp_path}/sbin")


def test_where_there_is_no_htcondor_all_that_was_looked_at_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check_condor(htcondor(monkeypatch, condor_directory="/opt/none"))
    assert (result.status, result.code) == (CheckStatus.FAIL, "condor.missing")
    assert "/opt/none/sbin" in result.message
    assert "search path" in result.message
    nowhere = check_condor(htcondor(monkeypatch, condor_source=["directory"]))
    assert (nowhere.code, nowhere.status) == ("condor.missing", CheckStatus.FAIL)


def test_another_version_than_the_wanted_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(tmp_path)
    result = check_condor(htcondor(monkeypatch, f"{tmp_path}/sbin", condor_version="24"))
    assert (result.status, result.code) == (CheckStatus.FAIL, "condor.version")


def test_an_htcondor_that_the_pilot_brings_is_not_tried_by_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check_condor(htcondor(monkeypatch, condor_tarballs="https://example.org/index.json"))
    assert result.status is CheckStatus.SKIP
    assert "https://example.org/index.json" in result.message
