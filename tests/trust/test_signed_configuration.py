"""Configuration and image dictionaries among the signed artifacts become layers, each of who may sign it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config import Config
from pilot_agent.configure import Given, read_layers
from pilot_agent.model import Failure, FailureKind, PilotError
from tests.trust.conftest import Repository

# The server is a thread of the process that forks; no child touches it.
pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")

FACTORY, VO, IMAGES = "config/base.yaml", "config/atlas/pilot.yaml", "images/atlas/images-7.yaml"


class Shop:
    """A factory and a VO that sign configuration, and a pilot that names it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.place = repository.operator.place
        self.scratch = self.place / "scratch"
        self.scratch.mkdir(mode=0o700)

    def sign(self, name: str, text: str) -> str:
        """The artifact's name, once it is published."""
        kind, *vo, file = name.split("/")
        operator = self.repository.operator
        words = ["--vo", vo[0]] if vo else []
        keys = self.place / vo[0] if vo else operator.keys
        operator.do("add", kind, operator.file(file, text), *words, keys=keys)
        self.repository.publish()
        return name

    def read(self, *names: str, layer: str = "factory", **more: Any) -> Config:
        settings = {"mirrors": [self.repository.address], "bundle": str(self.repository.bundle), "config": list(names)}
        path = self.place / "settings.json"
        path.write_text(json.dumps({"artifacts": settings | more.pop("artifacts", {})} | more))
        given = Given(files=(f"{layer}={path}",), site_file=str(self.place / "absent"))
        try:
            return read_layers(given, {"TMPDIR": str(self.scratch), "PATH": "/usr/bin:/bin"})
        finally:
            assert not list(self.scratch.iterdir())

    def refused(self, *names: str, **more: Any) -> Failure:
        with pytest.raises(PilotError) as caught:
            self.read(*names, **more)
        return caught.value.failure


@pytest.fixture
def shop(repository: Repository) -> Shop:
    """One whose pilots find room in a directory of its own."""
    return Shop(repository)


def test_what_was_signed_is_a_layer_of_who_may_sign_it(shop: Shop) -> None:
    names = [
        shop.sign(FACTORY, "startd: {idle_shutdown_seconds: 77}\nvo: {name: nobody}"),
        shop.sign(VO, "vo: {name: atlas}\nrequirements: ['cpu.usable >= 4']"),
        shop.sign(IMAGES, "el9: [/cvmfs/images.example.org/el9]"),
    ]
    config = shop.read(*names)
    assert config.get("startd.idle_shutdown_seconds") == 77
    assert (config.get("vo.name"), config.origins["vo.name"]) == ("atlas", ("vo",))
    assert config.get("images") == {"el9": ["/cvmfs/images.example.org/el9"]}
    assert {f"factory:{FACTORY}", f"vo:{VO}", f"vo:{IMAGES}"} <= set(config.layers)


def test_a_file_of_the_same_layer_is_stronger(shop: Shop) -> None:
    name = shop.sign(FACTORY, "startd: {idle_shutdown_seconds: 77}\nsite: {name: Signed}")
    config = shop.read(name, startd={"idle_shutdown_seconds": 5})
    assert (config.get("startd.idle_shutdown_seconds"), config.get("site.name")) == (5, "Signed")


def test_a_vo_says_nothing_that_only_the_factory_may_say(shop: Shop) -> None:
    failure = shop.refused(shop.sign(VO, "artifacts: {mirrors: ['http://evil.example.org']}"))
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "config.invalid")
    assert "artifacts.mirrors (vo)" in failure.message
    failure = shop.refused(VO, layer="vo")
    assert "artifacts.config (vo)" in failure.message


def test_what_was_altered_is_refused(shop: Shop) -> None:
    name = shop.sign(VO, "vo: {name: atlas}")
    (published,) = (shop.repository.operator.published / "targets/config/atlas").iterdir()
    published.write_text("vo: {name: evil_}")
    failure = shop.refused(name)
    assert (failure.kind, failure.code, failure.stage) == (FailureKind.CORRUPTION, "artifact.digest", "")


def test_what_is_signed_and_no_configuration_is_told_with_its_name(shop: Shop) -> None:
    failure = shop.refused(shop.sign(VO, "vo: {name: atlas"))
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "config.syntax")
    assert failure.message.startswith(f"{VO} is not valid")
    failure = shop.refused(shop.sign("config/large.yaml", "a" * (1 << 20) + "b"))
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.too_large")


@pytest.mark.parametrize(
    "name", ["plugin/atlas/x.whl", "config/../x", "config/a/b/c", "/etc/passwd", "config/", "config/A/x", "x", ""]
)
def test_a_name_that_is_no_configuration_is_refused_before_anything_is_fetched(shop: Shop, name: str) -> None:
    failure = shop.refused(name, artifacts={"mirrors": ["http://127.0.0.1:9"]})
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "config.invalid")
    assert repr(name) in failure.message


def test_a_server_that_is_not_there_is_the_networks_fault(shop: Shop, tmp_path: Path) -> None:
    failure = shop.refused(VO, artifacts={"mirrors": ["http://127.0.0.1:9"], "seconds": 1})
    assert (failure.kind, failure.code) == (FailureKind.NETWORK, "artifact.unreachable")
