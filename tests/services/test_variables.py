"""What jobs are told of a service: names that users can rely on, values with the ports of the moment."""

from __future__ import annotations

from pilot_agent.services.variables import filled, place_attributes, ready_attributes, told_variables, variables


def test_every_service_with_ports_gives_host_port_and_url_of_its_first_and_the_number_of_each() -> None:
    wanted = variables("triton", ("http", "grpc-2"), {})
    assert told_variables({"triton": wanted}, {"triton": {"http": 8000, "grpc-2": 8001}}) == {
        "SERVICE_TRITON_HOST": "127.0.0.1",
        "SERVICE_TRITON_PORT": "8000",
        "SERVICE_TRITON_URL": "http://127.0.0.1:8000",
        "SERVICE_TRITON_PORT_HTTP": "8000",
        "SERVICE_TRITON_PORT_GRPC_2": "8001",
    }


def test_a_service_without_ports_gives_what_it_exports_and_no_more() -> None:
    assert variables("beat.er", (), {"BEAT": "yes"}) == {"BEAT": "yes"}
    assert place_attributes("beat.er", {}) == {}


def test_what_a_service_exports_may_hold_its_ports_and_come_in_place_of_a_usual_name() -> None:
    exports = {"http_proxy": "http://{host}:{port}/", "SERVICE_CACHE_URL": "cache:{port:http}", "ODD": "{port:x} {"}
    told = told_variables({"cache": variables("cache", ("http",), exports)}, {"cache": {"http": 3128}})
    assert told["http_proxy"] == "http://127.0.0.1:3128/"
    assert told["SERVICE_CACHE_URL"] == "cache:3128"
    assert told["ODD"] == "{port:x} {"


def test_the_port_without_a_name_is_that_of_a_service_with_one() -> None:
    assert filled("{port}", {"a": 1}) == "1"
    assert filled("{port} {port:b}", {"a": 1, "b": 2}) == "{port} 2"


def test_jobs_hear_nothing_of_a_service_whose_ports_are_not_known() -> None:
    wanted = {"a": variables("a", ("http",), {}), "b": {"B": "{port}"}}
    assert told_variables(wanted, {"b": {"http": 2}}) == {"B": "2"}


def test_the_attributes_have_the_names_of_the_variables() -> None:
    assert place_attributes("my.cache", {"http": 3128, "admin": 3129}) == {
        "SERVICE_MY_CACHE_HOST": "127.0.0.1",
        "SERVICE_MY_CACHE_PORT": 3128,
        "SERVICE_MY_CACHE_URL": "http://127.0.0.1:3128",
        "SERVICE_MY_CACHE_PORT_HTTP": 3128,
        "SERVICE_MY_CACHE_PORT_ADMIN": 3129,
    }
    assert ready_attributes("my.cache") == ("My_cache_Ready", "SERVICE_MY_CACHE_READY")
