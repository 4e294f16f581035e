"""What the plugin declares follows from its options."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from pilot_node_exporter.plugin import NAME, pilot_options, pilot_services, program_is_there

from pilot_agent.hookspecs import Context, Service
from pilot_agent.model import CheckStatus


def config(**given: Any) -> dict[str, Any]:
    """A configuration with these options, and the defaults of the others."""
    return {"plugins": {"options": {NAME: {option.name: option.default for option in pilot_options()} | given}}}


def service(**given: Any) -> Service:
    """The service as it is declared with these options."""
    [found] = pilot_services(config(**given))
    return found


def context(program: str, path: str) -> Context:
    """What the check is given."""
    return Context(config=config(program=program), environment={"PATH": path})


def test_a_node_without_the_program_is_told_what_to_install(tmp_path: Path) -> None:
    found = program_is_there(context("prometheus-node-exporter", str(tmp_path)))
    assert found.status is CheckStatus.FAIL
    assert "no program prometheus-node-exporter on this node" in found.message
    assert "services.node_exporter.program" in found.hint


def test_a_program_is_found_by_its_name_and_by_its_path(tmp_path: Path) -> None:
    program = tmp_path / "prometheus-node-exporter"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in (program.name, str(program)):
        found = program_is_there(context(name, str(tmp_path)))
        assert (found.status, found.message) == (CheckStatus.PASS, f"the node exporter is {program}")


@pytest.mark.parametrize(
    ("address", "listened", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"], "127.0.0.1"),
        ("192.0.2.7", ["127.0.0.1", "192.0.2.7"], "192.0.2.7"),
        ("0.0.0.0", ["0.0.0.0"], socket.gethostname()),
    ],
)
def test_it_answers_on_the_loopback_device_and_where_the_site_wants_it(
    address: str, listened: list[str], reached: str
) -> None:
    found = service(address=address)
    said = [word for word in found.command if word.startswith("--web.listen-address=")]
    assert said == [f"--web.listen-address={where}:{{port:metrics}}" for where in listened]
    assert found.attributes == {"NodeExporterUrl": f"http://{reached}:{{port:metrics}}/metrics"}


def test_it_measures_only_what_was_chosen() -> None:
    command = service(collectors=["cpu", "meminfo"]).command
    assert command[-3:] == ("--collector.disable-defaults", "--collector.cpu", "--collector.meminfo")
    assert service(families=[]).metrics is None


@pytest.mark.parametrize(
    ("given", "said"),
    [({"per": "nod"}, r"node_exporter\.per is 'nod'"), ({"port": 99999}, r"node_exporter\.port is 99999; 1 to 65535")],
)
def test_an_option_that_makes_no_sense_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"^services\.{said}"):
        service(**given)
