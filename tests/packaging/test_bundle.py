"""A factory's bundle in the payload: pilots use it without being told, and the launcher's digest covers it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import add_bundle
import pytest

from tests.packaging.conftest import LAUNCHER, PROJECT, Built, forms, start
from tests.packaging.signing import Operator
from tests.probes.servers import TLS
from tests.trust.conftest import Repository, served
from tests.trust.test_signed_plugins import NAME, Signed


class Factory:
    """One that signs, and gives its payloads a bundle."""

    def __init__(self, repository: Repository, built: Built, capture: pytest.CaptureFixture[str]) -> None:
        self.signed = Signed(repository)
        repository.give_bundle()
        self.repository = repository
        self.place = repository.operator.place
        self.built = built
        self._capture = capture
        settings = {"artifacts": {"mirrors": [repository.address]}, "plugins": {"signed": [NAME], "load": ["atlas"]}}
        self.words: list[object] = ["--trust", repository.bundle, "--authorities", TLS / "ca.pem"]
        self.words += ["--config", f"factory={self.file('factory.yaml', json.dumps(settings))}"]

    def file(self, name: str, text: str) -> Path:
        path = self.place / name
        path.write_text(text)
        return path

    def bundled(self, *forms: str, output: str = "own") -> Built:
        """Both payloads, or those of ``forms``, with the bundle in them."""
        told = self.add(*(getattr(self.built, form) for form in forms or ("pyz", "sh")), output=output)
        assert told == ""
        directory = self.place / output
        return Built(directory / "pilot.pyz", directory / "pilot.sh")

    def add(self, *words: object, output: str = "own", bundle: Sequence[object] | None = None) -> str:
        """What is said on standard error; then nothing was made."""
        given = [*words, "--output", self.place / output, *(self.words if bundle is None else bundle)]
        code = add_bundle.main([str(word) for word in given])
        told = self._capture.readouterr().err
        assert code == (1 if told else 0)
        assert not told or not (self.place / output).exists()
        return told


@pytest.fixture
def factory(tmp_path: Path, built: Built, capsys: pytest.CaptureFixture[str]) -> Iterator[Factory]:
    """Whose server has a certificate that only the bundle's authority vouches for."""
    with served(Operator(tmp_path, capsys), secure=True) as repository:
        yield Factory(repository, built, capsys)


def run(command: Sequence[str | Path], factory: Factory, *words: str) -> subprocess.CompletedProcess[str]:
    return start([*command, *words], {"TMPDIR": str(factory.place), "HOME": "/nonexistent"}, cwd=factory.place)


@pytest.mark.parametrize("form", ["pyz", "sh"])
def test_a_pilot_uses_what_its_payload_carries_without_being_told(factory: Factory, form: str) -> None:
    """Over HTTPS by the bundle's authority, with the bundle's root, from the mirror that its configuration names."""
    bundled = factory.bundled(form)
    done = run(forms(bundled)[form], factory, "probe", "atlas", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["node"]["atlas"]["answer"]["value"] == 42
    shown = run(forms(bundled)[form], factory, "config", "show", "--json")
    told: dict[str, Any] = json.loads(shown.stdout)
    assert told["artifacts.mirrors"] == {"value": [factory.repository.address], "from": ["factory"]}


def test_the_generic_payload_stays_as_it_is_and_knows_nobody(factory: Factory) -> None:
    before = factory.built.pyz.read_bytes()
    factory.bundled("pyz")
    assert factory.built.pyz.read_bytes() == before
    settings = factory.place / "factory.yaml"
    done = run(forms(factory.built)["pyz"], factory, "probe", "atlas", "--config", f"factory={settings}")
    assert done.returncode == 66
    assert "packaging/add_bundle.py" in done.stderr


def test_the_same_bundle_gives_the_same_bits_and_another_digest_than_the_payload_had(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time by the command of the how-to page."""
    first = factory.bundled(output="first")
    monkeypatch.chdir(factory.place)
    (factory.place / "build").symlink_to(factory.built.pyz.parent)
    shutil.copy(TLS / "ca.pem", factory.place)
    page = (PROJECT / "docs/how-to/sign-artifacts.md").read_text()
    (command,) = [line for line in page.splitlines() if line.startswith("python packaging/add_bundle.py ")]
    assert add_bundle.main(command.split()[2:]) == 0
    for name in ("pilot.pyz", "pilot.sh"):
        assert (factory.place / "own" / name).read_bytes() == (factory.place / "first" / name).read_bytes()
    shutil.copy(LAUNCHER, factory.place / "launcher.sh")
    for payload, generic in ((first.pyz, factory.built.pyz), (first.sh, factory.built.sh)):
        for source, code in ((payload, 0), (generic, 68)):
            digest = hashlib.sha256(source.read_bytes()).hexdigest()
            words = ["--payload", str(payload), "--sha256", digest, "--", "--version"]
            assert start(["/bin/sh", "launcher.sh", *words], cwd=factory.place).returncode == code


def test_a_fresh_pilot_refuses_what_is_older_than_its_submission(factory: Factory) -> None:
    """It never saw the repository: what its payload carries is the floor."""
    timestamp = factory.repository.metadata / "timestamp.json"
    old = timestamp.read_bytes()
    factory.repository.publish()
    factory.repository.give_bundle()
    bundled = factory.bundled("pyz")
    timestamp.write_bytes(old)
    done = run(forms(bundled)["pyz"], factory, "probe", "atlas", "--json")
    assert done.returncode == 68
    assert "artifact.rollback" in done.stderr
    assert not factory.signed.mark.exists()


def test_a_file_of_the_same_layer_is_stronger_than_what_the_payload_carries(factory: Factory) -> None:
    bundled = factory.bundled("pyz")
    other = factory.file("other.yaml", "artifacts: {seconds: 7, mirrors: ['http://other.example.org']}")
    done = run(forms(bundled)["pyz"], factory, "config", "show", "--json", "--config", f"factory={other}")
    told = json.loads(done.stdout)
    assert (told["artifacts.mirrors"]["value"], told["artifacts.seconds"]["value"]) == (["http://other.example.org"], 7)
    assert told["plugins.load"]["value"] == ["atlas"]


def test_what_no_pilot_could_use_is_not_added(factory: Factory) -> None:
    bundle = json.loads(factory.repository.bundle.read_text())
    bundle["timestamp"]["signed"]["version"] += 1
    refused: dict[str, tuple[list[object], str]] = {
        "unsigned.json": (
            ["--trust", factory.file("unsigned.json", json.dumps(bundle))],
            "no bundle that pilots would",
        ),
        "empty": (["--trust", factory.file("empty", "")], "no bundle that pilots would believe"),
        "wrong.yaml": (["--config", f"factory={factory.file('wrong.yaml', 'artifact: 1')}"], "did you mean artifacts"),
        "vo.yaml": (["--config", f"vo={factory.file('vo.yaml', 'artifacts: {bundle: x}')}"], "only factory, entry"),
        "site.yaml": (["--config", f"site={factory.file('site.yaml', '{}')}"], "LAYER is one of factory, entry, vo"),
        "key.pem": (["--authorities", TLS / "server_key.pem"], "holds a private key"),
        "no.pem": (["--authorities", factory.file("no.pem", "text")], "holds no certificates"),
        "absent": (["--trust", factory.place / "absent"], "No such file"),
        "nothing": ([], "a bundle holds something"),
    }
    for words, reason in refused.values():
        assert reason in factory.add(factory.built.pyz, bundle=words)


def test_only_a_payload_that_was_built_and_given_nothing_yet_gets_a_bundle(factory: Factory) -> None:
    bundled = factory.bundled()
    assert "holds a bundle already" in factory.add(bundled.pyz, output="twice")
    assert "holds a bundle already" in factory.add(bundled.sh, output="twice")
    damaged = factory.place / "pilot.sh"
    content = bytearray(factory.built.sh.read_bytes())
    content[-1000] ^= 1
    damaged.write_bytes(content)
    assert "is damaged" in factory.add(damaged, output="never")
    assert "neither pilot.pyz nor pilot.sh" in factory.add(factory.file("pilot.pyz", "text"), output="never")
    assert "is no pilot.sh" in factory.add(factory.file("launcher.sh", "#!/bin/sh\nexit 0\n"), output="never")
    assert "holds no pilot" in factory.add(factory.file("cut.pyz", "#!/usr/bin/env python3\n"), output="never")


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        add_bundle.main(["--help"])
    told = capsys.readouterr().out
    assert "  add_bundle.py " in told
    assert max(map(len, told.splitlines())) <= 80
