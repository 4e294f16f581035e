"""Which variables of services jobs get, beside what others want them to have."""

from __future__ import annotations

from typing import Any

from pilot_agent.config import Layer, load_config
from pilot_agent.containers.inside import JobContainer
from pilot_agent.hookspecs import Service
from pilot_agent.model import JobSurroundings, VariableVerdict
from pilot_agent.plugins.services import sent_attributes, settle_variables, wanted_variables


def service(name: str, **fields: Any) -> Service:
    return Service(name=name, command=("/bin/true",), **fields)


def settled(*services: Service, others: tuple[VariableVerdict, ...] = (), **startd: Any) -> JobSurroundings:
    config = load_config([Layer("site", {"startd": startd})])
    return settle_variables(JobSurroundings(environment=others), services, config.values)


def test_what_a_service_gives_waits_for_its_ports_and_is_not_among_the_constants() -> None:
    found = settled(service("cache", ports={"http": 0}, exports={"http_proxy": "http://{host}:{port}"}))
    assert wanted_variables(found)["cache"]["http_proxy"] == "http://{host}:{port}"
    assert {"SERVICE_CACHE_HOST", "SERVICE_CACHE_PORT"} <= set(wanted_variables(found)["cache"])
    assert {one.asked_by for one in found.environment} == {"service cache"}
    assert JobContainer.of(found).environment == {}


def test_the_policy_for_jobs_variables_holds_for_services_too() -> None:
    exports = {"LD_PRELOAD": "x", "MINE": "1", "OURS": "a\nb"}
    found = settled(service("cache", exports=exports), allowed_environment=["LD_*", "OURS", "SERVICE_*"])
    reasons = {one.name: (one.given, one.reason) for one in found.environment}
    assert reasons["MINE"] == (False, "startd.allowed_environment allows LD_*, OURS, SERVICE_* (site layer)")
    assert reasons["LD_PRELOAD"][0] is reasons["OURS"][0] is False
    assert wanted_variables(found) == {}


def test_a_constant_of_that_name_stays_for_the_time_without_the_service_and_the_report_says_so() -> None:
    constant = VariableVerdict("http_proxy", "http://site:3128", "configuration (site)", given=True)
    found = settled(service("cache", exports={"http_proxy": "{host}"}), others=(constant,))
    assert JobContainer.of(found).environment == {"http_proxy": "http://site:3128"}
    first = found.environment[0]
    assert (first.given, first.reason) == (True, "the service cache gives it another value while it is up")


def test_of_two_services_that_export_a_name_the_last_counts() -> None:
    found = settled(service("a", exports={"X": "1"}), service("b", exports={"X": "2"}))
    assert wanted_variables(found) == {"b": {"X": "2"}}
    assert found.environment[0].reason == "service b gives it a value after this"


def test_settling_again_forgets_a_service_that_was_given_up() -> None:
    both = settled(service("a", exports={"X": "1"}), service("b", exports={"X": "2"}))
    config = load_config([])
    again = settle_variables(both, [service("a", exports={"X": "1"})], config.values)
    assert wanted_variables(again) == {"a": {"X": "1"}}


def test_the_attributes_that_say_where_services_are_belong_to_them() -> None:
    owners = sent_attributes([service("cache", ports={"http": 0}, attributes={"HasCache": True})])
    assert set(owners.values()) == {"cache"}
    assert {"Cache_Ready", "SERVICE_CACHE_READY", "SERVICE_CACHE_PORT_HTTP"} <= set(owners)
    assert "HasCache" not in owners
