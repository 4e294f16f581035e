"""What a plugin declares is taken record by record, and one that declares badly is refused with the reason."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest

from pilot_agent.codec import CodecError
from pilot_agent.collect import Declared, declarations, declared_from_json, declared_to_json, implemented_hooks
from pilot_agent.hookspecs import Attribute, Check, Option, Probe, Service, hookimpl
from pilot_agent.model import Failure, FailureKind, PilotError


def plugin(**hooks: Callable[..., Any]) -> types.ModuleType:
    """A plugin module with these hooks."""
    module = types.ModuleType("example")
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function))
    return module


def collect(**hooks: Callable[..., Any]) -> list[Declared]:
    """What a plugin with these hooks declares."""
    return declarations("example", plugin(**hooks), {"site": {"name": "A"}}, builtin=False)


def refused(**hooks: Callable[..., Any]) -> Failure:
    """Why a plugin with these hooks is refused."""
    with pytest.raises(PilotError) as caught:
        collect(**hooks)
    failure = caught.value.failure
    assert (failure.kind, failure.code, failure.plugin) == (FailureKind.CORRUPTION, "plugin.load", "example")
    assert "whoever publishes the plugin" in failure.hint
    return failure


def test_every_record_keeps_its_plugin_and_its_hook() -> None:
    found = collect(
        pilot_probes=lambda config: [Probe(name=config["site"]["name"], run="m:f")],
        pilot_checks=lambda: [Check(name="c", run="m:g"), Check(name="d", run="m:h")],
    )
    assert [(one.plugin, one.hook, one.record.name) for one in found] == [
        ("example", "pilot_probes", "A"),
        ("example", "pilot_checks", "c"),
        ("example", "pilot_checks", "d"),
    ]


def test_a_hook_may_declare_nothing() -> None:
    assert collect(pilot_probes=lambda config: None, pilot_checks=lambda config: []) == []


def test_declarations_survive_the_way_through_plain_data() -> None:
    service = Service(name="s", command=("sleep", "1"), attributes={"HasS": True})
    found = collect(pilot_services=lambda: [service], pilot_attributes=lambda: [Attribute(name="A", value=[1])])
    assert declared_from_json(declared_to_json(found)) == found


def test_the_hooks_of_a_plugin_are_listed_in_the_contracts_order() -> None:
    module = plugin(pilot_event=lambda events: None, pilot_checks=lambda config: [], pilot_options=lambda config: [])
    assert implemented_hooks(module) == ("pilot_options", "pilot_checks", "pilot_event")


def test_an_unknown_hook_is_refused_by_its_name() -> None:
    assert "pilot_proves" in refused(pilot_proves=lambda config: []).message


def test_an_argument_the_hook_does_not_have_is_refused() -> None:
    failure = refused(pilot_probes=lambda configuration: [])
    assert "pilot_probes" in failure.message
    assert "configuration" in failure.message


def test_an_exception_in_a_hook_is_told() -> None:
    def raises(config: object) -> list[Probe]:
        raise KeyError("missing")

    assert "pilot_probes raised KeyError: 'missing'" in refused(pilot_probes=raises).message


def test_an_exception_after_some_records_refuses_the_whole_plugin() -> None:
    def stops() -> Any:
        yield Probe(name="a", run="m:f")
        raise RuntimeError("halfway")

    assert "halfway" in refused(pilot_probes=stops).message


def test_a_record_of_another_type_is_refused() -> None:
    failure = refused(pilot_probes=lambda config: [Check(name="c", run="m:f")])
    assert "pilot_probes yielded a Check where a Probe is needed" in failure.message


def test_a_function_given_itself_is_told_how_to_be_named() -> None:
    run: Any = test_a_function_given_itself_is_told_how_to_be_named
    failure = refused(pilot_probes=lambda: [Probe(name="a", run=run)])
    assert (
        f"pilot_probes, 'a': run is the function {run.__name__}; name it instead: run=f\"{{__name__}}:{run.__name__}\""
        in (failure.message)
    )


@pytest.mark.parametrize("answer", [3, "probe", Probe(name="a", run="m:f")])
def test_an_answer_that_is_no_sequence_of_records_is_refused(answer: object) -> None:
    assert "pilot_probes" in refused(pilot_probes=lambda: answer).message


def test_a_name_that_two_records_share_is_refused() -> None:
    failure = refused(pilot_probes=lambda: [Probe(name="a", run="m:f"), Probe(name="a", run="m:g")])
    assert "pilot_probes yielded two records with the name 'a'" in failure.message


def test_the_same_name_in_two_hooks_is_fine() -> None:
    found = collect(
        pilot_probes=lambda: [Probe(name="a", run="m:f")], pilot_checks=lambda: [Check(name="a", run="m:g")]
    )
    assert len(found) == 2


@pytest.mark.parametrize(
    "item",
    [
        {"plugin": "p", "hook": "pilot_unheard", "record": {}, "builtin": False},
        {"plugin": "p", "hook": "pilot_probes", "record": {"name": 1, "run": "m:f"}, "builtin": False},
        {"plugin": "p", "hook": "pilot_probes", "builtin": False},
    ],
)
def test_plain_data_that_declares_nothing_known_is_refused(item: dict[str, object]) -> None:
    with pytest.raises(CodecError):
        declared_from_json([item])


def test_hooks_find_the_defaults_of_their_plugins_options() -> None:
    def options() -> list[Option]:
        return [Option(name="colour", type="string", default="red"), Option(name="size", type="integer", default=1)]

    seen: list[object] = []
    module = plugin(pilot_options=options, pilot_checks=lambda config: seen.append(config["plugins"]["options"]))
    given = {"plugins": {"options": {"example": {"size": 2}, "other": {"x": 1}}}}
    declarations("example", module, given, builtin=False)
    assert seen == [{"example": {"colour": "red", "size": 2}, "other": {"x": 1}}]
    assert given == {"plugins": {"options": {"example": {"size": 2}, "other": {"x": 1}}}}


@pytest.mark.parametrize("given", [{"size": "two"}, {"size": True}, "two"])
def test_a_plugin_whose_options_were_given_wrongly_is_asked_for_nothing_else(given: object) -> None:
    module = plugin(
        pilot_options=lambda: [Option(name="size", type="integer", default=1)], pilot_checks=lambda config: 1 / 0
    )
    found = declarations("example", module, {"plugins": {"options": {"example": given}}}, builtin=False)
    assert [one.hook for one in found] == ["pilot_options"]
