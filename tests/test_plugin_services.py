"""``services.NAME`` without a command: the plugin of that name, loaded with these options."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config import Config, Layer, load_config
from pilot_agent.config_read import command_line_layer
from pilot_agent.configure import load_plugins
from pilot_agent.environment import clean_environment
from pilot_agent.hookspecs import Service
from pilot_agent.host import Surroundings
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.plugin_services import with_plugin_services

CACHE = """
from pilot_agent.hookspecs import Option, Service, hookimpl

@hookimpl
def pilot_options():
    yield Option(name="repository", type="string", default="")
    yield Option(name="port", type="integer", default=0)

@hookimpl
def pilot_services(config):
    options = config["plugins"]["options"]["cache"]
    if options["port"] > 9:
        raise ValueError(f"services.cache.port is {options['port']}; 9 at most")
    yield Service(name="cache", command=("/bin/cache", options["repository"]), ports={"http": options["port"]})
"""
PROBER = "from pilot_agent.hookspecs import hookimpl\n@hookimpl\ndef pilot_probes(config):\n    return ()\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, source in (("cache", CACHE), ("prober", PROBER)):
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


def configured(directory: Path, *layers: Layer) -> Config:
    return load_config([Layer("factory", {"plugins": {"directories": [str(directory)]}}), *layers])


def loaded(config: Config) -> tuple[list[Service], Config]:
    """The services of a configuration, and it with the options of plugins."""
    directories = tuple(config.get("plugins.directories"))
    environment = clean_environment({"PATH": "/usr/bin:/bin"}, home="/", temporary="/tmp")
    around = Surroundings((sys.executable, "-B", "-m", "pilot_agent"), environment, directories)
    found, config = load_plugins(config, around)
    return [one.record for one in found.of("pilot_services")], config


def refused(config: Config) -> Failure:
    with pytest.raises(PilotError) as caught:
        loaded(config)
    return caught.value.failure


def vo(**services: Any) -> Layer:
    return Layer("vo", {"services": services})


def test_a_plugins_service_is_switched_on_and_configured_where_all_services_are(directory: Path) -> None:
    services, config = loaded(configured(directory, vo(cache={"repository": "/data"}, own={"command": ["/bin/own"]})))
    assert {service.name: service.command for service in services} == {
        "cache": ("/bin/cache", "/data"),
        "own": ("/bin/own",),
    }
    assert config.get("plugins.load") == ["cache"]
    assert config.get("plugins.options") == {"cache": {"repository": "/data", "port": 0}}
    assert list(config.get("services")) == ["own"]
    assert config.origins["plugins.options"] == ("vo",)


@pytest.mark.parametrize("nothing", [None, {}])
def test_the_bare_name_switches_it_on(directory: Path, nothing: dict[str, Any] | None) -> None:
    services, _ = loaded(configured(directory, vo(cache=nothing)))
    assert [service.name for service in services] == ["cache"]


def test_options_of_a_service_that_are_no_options_are_told(directory: Path) -> None:
    options = Layer("entry", {"plugins": {"options": {"cache": 5}}})
    failure = refused(configured(directory, options, vo(cache={"port": 8})))
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "config.invalid")
    assert "plugins.options.cache (entry): expected a mapping of options, found an integer" in failure.message


def test_layers_and_the_command_line_add_options_one_by_one(directory: Path) -> None:
    assigned = command_line_layer(["services.cache.repository=/cvmfs/x.example.org", 'plugins.load=["prober"]'])
    services, _ = loaded(configured(directory, vo(cache={"port": 8, "repository": "/data"}), assigned))
    assert services[0].command == ("/bin/cache", "/cvmfs/x.example.org")
    assert services[0].ports == {"http": 8}


def test_the_options_of_a_loaded_plugin_may_still_stand_below_plugins(directory: Path) -> None:
    old = Layer("vo", {"plugins": {"load": ["cache"], "options": {"cache": {"repository": "/data"}}}})
    services, config = loaded(configured(directory, old, command_line_layer(["plugins.options.cache.port=7"])))
    assert services[0].command == ("/bin/cache", "/data")
    assert services[0].ports == {"http": 7}
    assert config.layer_of("plugins.options.cache.port") == "command line"
    assert config.layer_of("plugins.options.cache.repository") == "vo"


def test_one_option_given_in_both_places_is_refused_with_both(directory: Path) -> None:
    other = Layer("site", {"plugins": {"options": {"cache": {"repository": "/other", "port": 3}}}})
    failure = refused(configured(directory, vo(cache={"repository": "/data"}), other))
    assert failure.kind is FailureKind.CONFIG
    assert (
        "services.cache.repository (vo): plugins.options.cache.repository (site) is given too; give only this one"
        in failure.message
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": "x"}, "services.cache.port (entry): expected integer, found str"),
        ({"repo": "/x"}, "services.cache.repo (entry): no loaded plugin declared this option"),
        ({"port": 10}, "services.cache.port (entry) is 10; 9 at most"),
    ],
)
def test_a_wrong_option_is_told_where_it_stands_and_by_which_layer(
    directory: Path, options: dict[str, Any], said: str
) -> None:
    failure = refused(configured(directory, Layer("entry", {"services": {"cache": options}}), vo(cache={})))
    assert failure.kind is FailureKind.CONFIG
    assert said in failure.message


def test_in_the_other_form_the_same_mistake_is_told_in_that_form(directory: Path) -> None:
    old = Layer("site", {"plugins": {"load": ["cache"], "options": {"cache": {"port": 10}}}})
    assert refused(configured(directory, old)).message == "plugins.options.cache.port (site) is 10; 9 at most"


def test_what_is_neither_a_whole_service_nor_a_plugin_is_told_as_both(directory: Path) -> None:
    failure = refused(configured(directory, vo(cahce={"comand": ["x"], "log_mib": 1})))
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "config.invalid")
    assert "services.cahce.command (vo): missing; and there is no plugin cahce" in failure.message
    assert "services.cahce.comand (vo): unknown key; did you mean command?" in failure.message
    assert "log_mib" not in failure.message


def test_a_plugin_without_services_is_no_service(directory: Path) -> None:
    message = refused(configured(directory, vo(prober={}))).message
    assert "services.prober (vo): the plugin prober declares no services" in message


def test_a_plugin_that_is_named_to_be_loaded_and_missing_is_told_as_before(directory: Path) -> None:
    failure = refused(configured(directory, Layer("vo", {"plugins": {"load": ["cahce"]}})))
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "plugin.load")


# ---- merging -----------------------------------------------------------------------------------------------------


def test_without_a_command_a_stronger_layer_adds_to_a_service_and_with_one_it_replaces_it() -> None:
    own = Layer("factory", {"services": {"own": {"command": ["x"], "port": 1, "log_mib": 4}}})
    config = load_config([own, vo(own={"log_mib": 8})])
    assert config.get("services") == {"own": {"command": ["x"], "port": 1, "log_mib": 8}}
    assert [config.layer_of(f"services.own.{field}") for field in ("port", "log_mib", "cores")] == [
        "factory",
        "vo",
        "vo",
    ]
    assert load_config([own, vo(own={"command": ["y"]})]).get("services") == {"own": {"command": ["y"]}}
    assert with_plugin_services(config) == (config, ())


def test_what_two_layers_say_of_one_service_must_fit_together() -> None:
    own = Layer("factory", {"services": {"own": {"command": ["x"], "ready_http": "http/", "ports": {"http": 0}}}})
    with pytest.raises(PilotError) as caught:
        load_config([own, vo(own={"live_http": "htp/", "log_mib": "8"})])
    message = caught.value.failure.message
    assert "services.own.log_mib (vo): expected an integer, found a string" in message
    with pytest.raises(PilotError) as caught:
        load_config([own, vo(own={"live_http": "htp/"})])
    assert "services.own.live_http (vo): 'htp' is none of its ports; did you mean http?" in caught.value.failure.message


def test_members_and_the_whole_of_a_key_cannot_both_be_assigned() -> None:
    with pytest.raises(PilotError, match=r"services\.cache\.port and cache are both given"):
        command_line_layer(["services.cache=3", "services.cache.port=3"])


def test_the_layers_of_members_survive_a_cut(directory: Path) -> None:
    from pilot_agent.codec import from_json, to_json

    config = configured(directory, vo(cache={"port": 8}))
    again = from_json(Config, json.loads(json.dumps(to_json(config))))
    assert again.layer_of("services.cache.port") == "vo"
