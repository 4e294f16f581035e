"""From what the caller gave to a state: layers, the site's own file, the workspace."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pilot_agent import configure
from pilot_agent.config import Config, Layer, load_config
from pilot_agent.config_read import command_line_layer
from pilot_agent.configure import Given, explained, load_plugins, make_workspace, new_state, read_layers
from pilot_agent.host import Surroundings
from pilot_agent.lifecycle.lock import release
from pilot_agent.model import FailureKind, PilotError
from pilot_agent.workspace import Workspace


def read(tmp_path: Path, *files: str, assignments: tuple[str, ...] = (), **environment: str) -> Config:
    """The effective configuration with a site file that is the test's own."""
    given = Given(files, assignments, site_file=str(tmp_path / "site.yaml"))
    return read_layers(given, environment)


def write(path: Path, text: str, mode: int = 0o644) -> str:
    """A file with this text."""
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_files_environment_and_command_line_come_together(tmp_path: Path) -> None:
    factory = write(tmp_path / "factory.yaml", "site: {name: F, cpus: 8}\nfactory: {name: F}\n")
    vo = write(tmp_path / "vo.json", '{"vo": {"name": "V"}, "site": {"cpus": 4}}')
    config = read(
        tmp_path,
        f"vo={vo}",
        f"factory={factory}",
        assignments=("site.name=C",),
        PILOT_AGENT_VO__NAME="E",
    )
    assert [config.get(path) for path in ("site.name", "site.cpus", "vo.name", "factory.name")] == ["C", 4, "E", "F"]
    assert config.layers == (f"factory:{factory}", f"vo:{vo}", "environment", "command line")


def test_a_bare_path_is_the_sites_file(tmp_path: Path) -> None:
    path = write(tmp_path / "mine=odd.yaml", "site: {name: X}\n")
    assert read(tmp_path, path).origins["site.name"] == ("site",)


def test_the_sites_own_file_is_read_without_being_named(tmp_path: Path) -> None:
    write(tmp_path / "site.yaml", "site: {name: own}\n")
    assert read(tmp_path).get("site.name") == "own"


def test_a_named_site_file_takes_the_place_of_the_sites_own(tmp_path: Path) -> None:
    write(tmp_path / "site.yaml", "site: {name: own, cpus: 1}\n")
    named = write(tmp_path / "named.yaml", "site: {name: named}\n")
    config = read(tmp_path, f"site={named}")
    assert (config.get("site.name"), config.get("site.cpus")) == ("named", "auto")


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
@pytest.mark.parametrize("name", ["site", "vo"])
def test_a_file_that_others_may_write_is_refused_and_not_passed_over(open_path: Path, mode: int, name: str) -> None:
    path = write(open_path / f"{name}.yaml", "site: {name: own}\n", mode)
    with pytest.raises(PilotError) as caught:
        read(open_path, *([f"vo={path}"] if name == "vo" else []))
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "config.exposed")
    assert f"the {name} configuration is not read: {path} may be written by everybody" in failure.message
    assert "chmod go-w" in failure.hint


def test_a_plugin_directory_that_is_not_there_is_named_with_the_one_that_is(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    text = json.dumps({"plugins": {"directories": [str(tmp_path), str(tmp_path / "plugin")]}})
    config = read(tmp_path, f"vo={write(tmp_path / 'vo.yaml', text)}")
    with pytest.raises(PilotError) as caught:
        load_plugins(config, Surroundings((), {}))
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "config.invalid")
    expected = f"plugins.directories[1] (vo): there is no directory {tmp_path}/plugin; did you mean {tmp_path}/plugins?"
    assert expected in failure.message


@pytest.mark.parametrize("layer", ["vo", "site"])
def test_under_a_factory_local_plugins_need_its_leave(tmp_path: Path, layer: str) -> None:
    own = write(tmp_path / "own.yaml", json.dumps({"plugins": {"directories": [str(tmp_path)]}}))
    closed = write(tmp_path / "factory.yaml", "site: {name: S}\n")
    with pytest.raises(PilotError) as caught:
        load_plugins(read(tmp_path, f"factory={closed}", f"{layer}={own}"), Surroundings((), {}))
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "plugin.local")
    assert f"plugins.directories is given by {layer}, and the factory does not allow" in failure.message
    assert "plugins.local: true" in failure.hint

    opened = write(tmp_path / "open.yaml", "plugins: {local: true}\n")
    for layers in ((f"entry={opened}", f"{layer}={own}"), (f"factory={own}",), (f"{layer}={own}",)):
        load_plugins(read(tmp_path, *layers), Surroundings((), {}))


@pytest.mark.parametrize("layer", ["vo", "site"])
def test_no_other_layer_gives_the_factorys_leave(tmp_path: Path, layer: str) -> None:
    own = write(tmp_path / "own.yaml", "plugins: {local: true}\n")
    with pytest.raises(PilotError, match=r"plugins\.local"):
        read(tmp_path, f"{layer}={own}")


def test_problems_of_all_sources_are_reported_together(tmp_path: Path) -> None:
    vo = write(tmp_path / "vo.yaml", "vo: {nam: x}\n")
    with pytest.raises(PilotError) as caught:
        read(tmp_path, f"vo={vo}", assignments=("site.cpus=many",), PILOT_AGENT_POOL__CBB="true")
    message = caught.value.failure.message
    assert "vo.nam (vo): unknown key; did you mean vo.name?" in message
    assert "pool.cbb (environment): unknown key; did you mean pool.ccb?" in message
    assert "site.cpus (command line): 'many' is none of slot, auto, node, and no integer" in message


def test_a_layer_that_does_not_exist_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(PilotError) as caught:
        read(tmp_path, "wms=/etc/hostname")
    assert caught.value.failure.kind is FailureKind.USAGE


def test_a_new_state_knows_its_configuration_and_no_more(tmp_path: Path) -> None:
    config = load_config([])
    one, two = (new_state(config, {"A": "1"}, output=".") for _ in range(2))
    assert one.pilot_id != two.pilot_id
    assert one.environment == {"A": "1"}
    assert os.path.isabs(one.output)
    assert (one.facts, one.failures, one.workspace) == ({}, (), None)


def test_an_account_without_a_name_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    state = new_state(load_config([]), {}, output=".")
    assert state.user == str(os.geteuid())


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_workspace_is_private_and_announced_before_it_exists(tmp_path: Path, umask: int) -> None:
    workspace = Workspace(str(tmp_path / "pilot-1"))
    announced: list[tuple[str, bool]] = []
    before = os.umask(umask)
    try:
        make_workspace(workspace, lambda path: announced.append((path, os.path.exists(path))))
    finally:
        os.umask(before)
        release()
    assert announced == [(workspace.root, False)]
    assert stat.S_IMODE(os.stat(workspace.root).st_mode) == 0o700
    assert os.path.isdir(workspace.tokens)


def test_a_workspace_that_cannot_be_made_is_the_sites_to_mend(tmp_path: Path) -> None:
    (tmp_path / "pilot-1").mkdir()
    (tmp_path / "pilot-1" / "kept").touch()
    with pytest.raises(PilotError) as caught:
        make_workspace(Workspace(str(tmp_path / "pilot-1")), lambda path: None)
    assert (caught.value.failure.code, caught.value.failure.exit_code) == ("scratch.failed", 64)
    assert [path.name for path in tmp_path.iterdir()] == ["pilot-1"]
    assert (tmp_path / "pilot-1" / "kept").exists()


def test_a_configured_scratch_directory_is_taken_first(tmp_path: Path) -> None:
    config = load_config([command_line_layer([f'site.scratch=["{tmp_path}"]'])])
    workspace = configure.choose_workspace(new_state(config, {}, output="."))
    assert Path(workspace.root).parent == tmp_path
    assert not os.path.exists(workspace.root)


def test_a_node_without_any_scratch_names_every_candidate_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configure, "WORKSPACE_MINIMUM_MIB", 1 << 40)
    config = load_config([command_line_layer([f'site.scratch=["{tmp_path}", "/nowhere"]'])])
    with pytest.raises(PilotError) as caught:
        configure.choose_workspace(new_state(config, {}, output="."))
    failure = caught.value.failure
    assert (failure.code, failure.kind) == ("scratch.none", FailureKind.NODE_RESOURCE)
    assert f"{tmp_path}: " in failure.message
    assert "/nowhere: " in failure.message


def test_what_a_layer_gives_jobs_in_secret_is_not_shown() -> None:
    document = {"startd": {"job_environment": {"API_TOKEN": "very-secret", "SITE": "T2"}}}
    shown = explained(load_config([Layer("vo", document)]))["startd.job_environment"]
    assert shown["value"][0]["value"]["SITE"] == "T2"
    assert "very-secret" not in str(shown)
