"""What jobs are told of services while the pilot runs: the ad at once, the environment of the jobs that begin from then
on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle import service_telling
from pilot_agent.lifecycle.plan import ServiceVariablesPlan
from pilot_agent.lifecycle.service_telling import ServiceTelling
from pilot_agent.services.variables import variables
from pilot_agent.startd.service_environment import write_service_environment
from tests.lifecycle.bench import Bench

PORTS = {"http": 8000}


def telling(bench: Bench, directory: Path, **exports: dict[str, str]) -> ServiceTelling:
    """Services of these names, each with a port."""
    wanted = {name: variables(name, PORTS, own) for name, own in exports.items()}
    plan = ServiceVariablesPlan(directory=str(directory), variables=wanted)
    return ServiceTelling(plan, bench.loop, bench.ad, bench.events)  # type: ignore[arg-type]


def written(bench: Bench, directory: Path, text: str) -> None:
    """Wait until the file of the configuration is this."""
    path = directory / "services"
    bench.until(f"{text!r} was written", lambda: path.exists() and path.read_text() == text)


def test_a_ready_service_is_in_the_ad_with_its_place_and_one_that_is_not_loses_all_but_the_no(
    bench: Bench, tmp_path: Path
) -> None:
    told = telling(bench, tmp_path)
    told.changed("triton", "ready", PORTS, {"HasTriton": True})
    place = {
        "SERVICE_TRITON_HOST": "127.0.0.1",
        "SERVICE_TRITON_PORT": 8000,
        "SERVICE_TRITON_PORT_HTTP": 8000,
        "SERVICE_TRITON_URL": "http://127.0.0.1:8000",
    }
    ready = {"Triton_Ready": True, "SERVICE_TRITON_READY": True, "PilotReadyServices": "triton"}
    assert bench.ad.now == {"HasTriton": True, **place, **ready}
    assert bench.ad.states == set(bench.ad.now)
    told.changed("triton", "backoff", PORTS, {"HasTriton": True})
    gone = dict.fromkeys(("HasTriton", *place, "PilotReadyServices"))
    assert bench.ad.now == {**gone, "Triton_Ready": False, "SERVICE_TRITON_READY": False}


def test_an_attribute_that_a_restarted_service_no_longer_gives_is_gone(bench: Bench, tmp_path: Path) -> None:
    told = telling(bench, tmp_path)
    told.changed("a", "ready", {"old": 1}, {"A": 1})
    told.changed("a", "ready", {"new": 2}, {"B": 2})
    assert bench.ad.now["A"] is bench.ad.now["SERVICE_A_PORT_OLD"] is None
    assert (bench.ad.now["B"], bench.ad.now["SERVICE_A_PORT"]) == (2, 2)


def test_the_names_of_all_that_are_ready_are_in_the_ad_also_of_those_of_another_pilot(
    bench: Bench, tmp_path: Path
) -> None:
    told = telling(bench, tmp_path)
    for name, status in (("a", "ready"), ("b", "shared"), ("c", "starting"), ("a", "unhealthy"), ("b", "shared")):
        told.changed(name, status, {}, {})
    assert bench.ad.now["PilotReadyServices"] == "b"


def test_jobs_get_the_variables_from_the_first_ready_on_and_keep_them_while_it_is_started_again(
    bench: Bench, tmp_path: Path
) -> None:
    told = telling(bench, tmp_path, a={"EXPORTED": 'it\'s {port}; "x"'})
    told.changed("a", "starting", PORTS, {})
    written(bench, tmp_path, "PILOT_SERVICE_ENVIRONMENT =\n")
    told.changed("a", "ready", PORTS, {})
    words = "SERVICE_A_HOST='127.0.0.1' SERVICE_A_PORT='{0}' SERVICE_A_URL='http://127.0.0.1:{0}' "
    words += "SERVICE_A_PORT_HTTP='{0}' EXPORTED='it''s {0}; \"\"x\"\"'"
    line = f"PILOT_SERVICE_ENVIRONMENT = {words}\n"
    written(bench, tmp_path, line.format(8000))
    told.changed("a", "backoff", PORTS, {})
    told.changed("a", "starting", {"http": 8001}, {})
    written(bench, tmp_path, line.format(8001))
    told.changed("a", "failed", {"http": 8001}, {})
    written(bench, tmp_path, "PILOT_SERVICE_ENVIRONMENT =\n")
    assert bench.names() == []


def test_the_file_is_for_nobody_else_and_written_once_for_all_that_changed_together(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def write(directory: str, variables: dict[str, str]) -> None:
        calls.append(variables)
        write_service_environment(directory, variables)

    monkeypatch.setattr(service_telling, "write_service_environment", write)
    told = telling(bench, tmp_path, a={}, b={})
    told.changed("a", "ready", PORTS, {})
    told.changed("b", "ready", {"http": 8001}, {})
    bench.until("the file is there", (tmp_path / "services").exists)
    assert [min(call) for call in calls] == ["SERVICE_A_HOST"]
    assert "SERVICE_B_PORT" in calls[0]
    assert (tmp_path / "services").stat().st_mode & 0o777 == 0o600
    told.changed("b", "unhealthy", {"http": 8001}, {})
    bench.loop.turn()
    assert len(calls) == 1


def test_a_file_that_cannot_be_written_is_told_once_and_written_when_it_can_be(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_telling, "RETRY_SECONDS", 0.01)
    place = tmp_path / "later"
    told = telling(bench, place, a={})
    told.changed("a", "ready", PORTS, {})
    bench.until("it was told", lambda: "service.variables_not_written" in bench.names())
    told.changed("a", "ready", {"http": 8001}, {})
    bench.loop.turn()
    place.mkdir()
    bench.until("the file is there", (place / "services").exists)
    assert "SERVICE_A_PORT='8001'" in (place / "services").read_text()
    assert bench.names() == ["service.variables_not_written"]


def test_without_variables_there_is_no_file(bench: Bench, tmp_path: Path) -> None:
    telling(bench, tmp_path).changed("a", "ready", {}, {})
    bench.loop.call_later(0, lambda: bench.calls.append("later"))
    bench.until("a turn is over", lambda: "later" in bench.calls)
    assert not (tmp_path / "services").exists()
