"""From a VO's wheel to a fact of the pilot, by the commands that people use; and what keeps an altered byte out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.trust.conftest import Repository

PROJECT = Path(__file__).resolve().parents[2]
NAME = "plugin/atlas/atlas_pilot-1.0-py3-none-any.whl"
HOOKS = """
from pilot_agent.hookspecs import Probe, hookimpl
from pilot_agent.model import Fact

def find(context):
    with open({mark!r}, "w") as file:
        file.write("ran")
    yield Fact("atlas.answer", 42)

@hookimpl
def pilot_probes(config):
    yield Probe(name="atlas", run=f"{{__name__}}:find", gives=("atlas.answer",))
"""


class Signed:
    """A VO's plugin in a repository that is served, and a pilot's command line."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.mark = repository.operator.place / "ran"
        operator = repository.operator
        operator.do("add", "plugin", self.wheel(), "--vo", "atlas", keys=operator.place / "atlas")
        repository.publish()
        self.settings: dict[str, Any] = {
            "plugins": {"signed": [NAME], "load": ["atlas"]},
            "artifacts": {"mirrors": [repository.address], "bundle": str(repository.bundle)},
        }

    def wheel(self) -> Path:
        path = self.repository.operator.place / NAME.rpartition("/")[2]
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("atlas_pilot/__init__.py", "")
            archive.writestr("atlas_pilot/hooks.py", HOOKS.format(mark=str(self.mark)))
            archive.writestr("atlas_pilot-1.0.dist-info/METADATA", "Name: atlas_pilot\nVersion: 1.0\n")
            archive.writestr("atlas_pilot-1.0.dist-info/entry_points.txt", "[pilot_agent]\natlas = atlas_pilot.hooks\n")
        return path

    def run(self, *words: str, layer: str = "factory", settings: Mapping[str, Any] | None = None) -> Any:
        place = self.repository.operator.place
        document = place / "settings.json"
        document.write_text(json.dumps(settings or self.settings))
        # As the payload has it: what the pilot imports is beside it, wherever this Python finds that.
        program = (
            f"import sys; sys.path[:0] = {sys.path!r}; from pilot_agent.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", program, *words, "--config", f"{layer}={document}"]
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(place)}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=PROJECT, timeout=120, check=False
        )


@pytest.fixture
def signed(repository: Repository) -> Signed:
    """One that is published."""
    return Signed(repository)


def test_a_signed_plugin_finds_its_fact(signed: Signed) -> None:
    done = signed.run("probe", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["node"]["atlas"]["answer"]["value"] == 42
    assert signed.mark.read_text() == "ran"
    assert not list(signed.repository.operator.place.glob("pilot-*"))


def test_its_hooks_are_listed(signed: Signed) -> None:
    done = signed.run("plugins", "--json")
    assert done.returncode == 0, done.stderr
    (listed,) = [plugin for plugin in json.loads(done.stdout) if plugin["name"] == "atlas"]
    assert listed["hooks"] == ["pilot_probes"]
    assert "plugin--atlas--atlas_pilot-1.0-py3-none-any" in listed["source"]


def test_one_altered_byte_and_nothing_of_it_runs(signed: Signed) -> None:
    published = signed.repository.operator.published / "targets/plugin/atlas"
    (artifact,) = [path for path in published.iterdir() if path.name.endswith("-py3-none-any.whl")]
    content = bytearray(artifact.read_bytes())
    content[content.index(b"42")] ^= 1
    artifact.write_bytes(content)
    done = signed.run("probe", "--json")
    assert done.returncode == 68
    assert "artifact.digest" in done.stderr
    assert not signed.mark.exists()


def test_a_plugin_that_nobody_signed_does_not_run(signed: Signed) -> None:
    signed.settings["plugins"]["signed"] = ["plugin/cms/probe-1.0-py3-none-any.whl"]
    done = signed.run("probe", "--json")
    assert done.returncode == 66
    assert "artifact.missing" in done.stderr


@pytest.mark.parametrize("name", ["plugin/atlas/x.tar.gz", "../x.whl", "plugin//x.whl", "/x.whl"])
def test_a_name_that_is_no_wheel_is_refused(signed: Signed, name: str) -> None:
    signed.settings["plugins"]["signed"] = [name]
    done = signed.run("probe", "--json")
    assert done.returncode == 66
    assert "which is no wheel" in done.stderr


def test_a_vo_does_not_say_whom_to_believe(signed: Signed) -> None:
    done = signed.run("probe", "--json", layer="vo")
    assert done.returncode == 66
    assert "artifacts.bundle (vo): only factory, entry, site, command line may say it" in done.stderr
    assert "artifacts.mirrors (vo)" in done.stderr


def test_without_a_bundle_nothing_is_fetched(signed: Signed) -> None:
    del signed.settings["artifacts"]["bundle"]
    done = signed.run("probe", "--json")
    assert done.returncode == 66
    assert "nothing says whose signatures to believe" in done.stderr


def test_a_bundle_that_others_can_change_is_not_believed(signed: Signed) -> None:
    place = Path("/tmp") / f"trust-{os.urandom(6).hex()}.json"
    shutil.copyfile(signed.repository.bundle, place)
    try:
        place.chmod(0o666)
        signed.settings["artifacts"]["bundle"] = str(place)
        done = signed.run("probe", "--json")
    finally:
        place.unlink()
    assert done.returncode == 68
    assert "may be written by everybody" in done.stderr


def test_a_server_that_is_not_there_is_the_networks_fault(signed: Signed) -> None:
    signed.settings["artifacts"] |= {"mirrors": ["http://127.0.0.1:9"], "seconds": 2}
    done = signed.run("probe", "--json")
    assert done.returncode == 65
    assert not signed.mark.exists()
