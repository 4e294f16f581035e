"""What services of several plugins may not have in common, and what they need of each other."""

from __future__ import annotations

import pytest

from pilot_agent.collect import Declared
from pilot_agent.config import Layer, load_config
from pilot_agent.hookspecs import Service
from pilot_agent.model import PilotError
from pilot_agent.ordering import in_order
from pilot_agent.service_needs import require_known_needs


def declared(name: str, *needs: str, plugin: str = "a", builtin: bool = False) -> Declared:
    return Declared(plugin, "pilot_services", Service(name=name, command=("x",), needs=needs), builtin)


CONFIG = load_config([Layer("factory", {"services": {"front": {"command": ["x"], "needs": ["bakc"]}}})])


def test_a_service_may_need_one_of_another_plugin_and_comes_after_it() -> None:
    services = [declared("front", "back"), declared("back", plugin="b")]
    require_known_needs(services, CONFIG)
    assert [one.record.name for one in in_order(services)] == ["back", "front"]


@pytest.mark.parametrize(
    ("builtin", "layer", "code"), [(True, "factory", "config.invalid"), (False, "a", "plugin.load")]
)
def test_a_need_that_nobody_declares_is_refused_with_who_said_it_and_the_nearest_name(
    builtin: bool, layer: str, code: str
) -> None:
    with pytest.raises(
        PilotError, match=rf"services.front.needs \({layer}\): there is no service 'bakc'; did you mean back\?"
    ) as told:
        require_known_needs([declared("front", "bakc", builtin=builtin), declared("back")], CONFIG)
    assert told.value.failure.code == code


def test_two_services_whose_attributes_would_be_the_same_are_refused() -> None:
    with pytest.raises(PilotError, match="have the same attribute SERVICE_A_B_READY"):
        require_known_needs([declared("a.b"), declared("a_b", plugin="b")], CONFIG)


def test_a_service_that_needs_itself_is_refused() -> None:
    with pytest.raises(PilotError, match=r"services.a.needs .* names a itself"):
        require_known_needs([declared("a", "a", builtin=True)], CONFIG)


def test_a_need_of_the_only_service_does_not_offer_that_service_itself() -> None:
    with pytest.raises(PilotError, match="there is no service 'front1'; there are no others"):
        require_known_needs([declared("front", "front1", builtin=True)], CONFIG)


def test_a_circle_of_services_of_the_configuration_alone_is_its_fault() -> None:
    with pytest.raises(PilotError, match="form a circle") as told:
        in_order([declared("a", "b", builtin=True), declared("b", "a", builtin=True)])
    assert told.value.failure.code == "config.invalid"


def test_services_that_need_each_other_are_refused() -> None:
    with pytest.raises(PilotError, match="form a circle"):
        in_order([declared("a", "b"), declared("b", "a")])
