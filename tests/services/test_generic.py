"""From an entry of the configuration to a service."""

from __future__ import annotations

import re
from pathlib import Path

from pilot_agent.config import Layer, load_config
from pilot_agent.config_read import parse_document
from pilot_agent.hookspecs import Readiness, Service
from pilot_agent.model import Json
from pilot_agent.plugins.services import pilot_services
from pilot_agent.service_entry import generic_service
from tests.services.bench import Bench

PAGE = Path(__file__).parents[2] / "docs/how-to/run-a-service.md"


def test_an_entry_with_a_command_is_enough() -> None:
    assert generic_service("squid", {"command": ["/usr/sbin/squid", "-N"]}) == Service(
        name="squid", command=("/usr/sbin/squid", "-N")
    )


def test_every_field_reaches_the_service() -> None:
    entry: dict[str, Json] = {
        "command": ["x"],
        "environment": {"A": "b"},
        "port": 8000,
        "ready_seconds": 5,
        "required": False,
        "attributes": {"HasX": True},
        "stop_signal": "int",
        "stop_seconds": 1,
        "after": ["y"],
    }
    config = load_config([Layer("vo", {"services": {"x": entry}})]).values
    assert list(pilot_services(config)) == [
        Service(
            name="x",
            command=("x",),
            environment={"A": "b"},
            readiness=Readiness(port=8000, timeout_seconds=5.0),
            attributes={"HasX": True},
            required=False,
            after=("y",),
            stop_signal="SIGINT",
            stop_seconds=1.0,
        )
    ]


def test_readiness_may_be_a_file_or_a_command() -> None:
    assert generic_service("x", {"command": ["x"], "ready_file": "up"}).readiness.file == "up"
    assert generic_service("x", {"command": ["x"], "ready_command": ["true"]}).readiness.command == ("true",)


def test_a_pilot_without_services_declares_none() -> None:
    assert list(pilot_services(load_config([]).values)) == []


def test_the_service_of_the_how_to_becomes_ready(bench: Bench) -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    document = parse_document(example[1].encode(), "services.yaml")
    [service] = pilot_services(load_config([Layer("vo", document)]).values)
    plan = bench.plan(
        name=service.name,
        argv=service.command,
        ports=service.ports,
        exports=service.exports,
        ready_way="http",
        ready_of=service.readiness.http,
    )
    bench.stage(plan)
    assert plan.state()["status"] == "ready", plan.state()
