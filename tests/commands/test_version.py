"""`version` says which payload this is; a checkout says what it cannot know."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

import pilot_agent
from pilot_agent import cli
from pilot_agent.carried import FILE_VARIABLE, MANIFEST, Carried, carried
from pilot_agent.commands.version import SCHEMAS, about_this, version_page
from pilot_agent.model import FailureKind, PilotError


def archive(path: Path, content: bytes) -> Path:
    """A payload with this manifest."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(MANIFEST, content)
    return path


def test_a_checkout_knows_its_versions_and_no_payload(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["version"] == pilot_agent.__version__
    assert about["contract"] == 1
    assert about["schemas"]["report"] == 1
    assert [about[name] for name in ("build", "commit", "digest", "file")] == [None] * 4
    assert cli.main(["version"]) == 0
    page = capsys.readouterr().out
    assert "a checkout or an installed package" in page
    assert max(map(len, page.splitlines())) <= 80
    assert all(f"{schema.split('/')[1]} " in " ".join(page.split()) for schema in SCHEMAS)


def test_every_schema_is_named_once() -> None:
    names = [schema.split("/")[1] for schema in SCHEMAS]
    assert sorted(set(names)) == sorted(names)


def test_a_payload_says_what_it_was_made_from(tmp_path: Path) -> None:
    told = {"build": "b" * 64, "commit": "c" * 40, "committed": "2026-01-02T03:04:05+00:00", "modified": True}
    pyz = archive(tmp_path / "pilot.pyz", json.dumps(told).encode())
    sent = tmp_path / "pilot.sh"
    sent.write_bytes(b"abc")
    about = about_this(Carried(str(sent), str(pyz), str(tmp_path)))
    assert {name: about[name] for name in told} == told
    assert about["digest"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert about["python"]["carried"] is True
    page = version_page(about)
    assert f"{'c' * 40}, with changes, 2026-01-02" in page
    assert "ba7816bf" in page
    sent.unlink()
    assert "not known" in version_page(about_this(Carried(str(sent), str(pyz), None)))


@pytest.mark.parametrize("content", [b"[]", b"{"])
def test_a_damaged_manifest_is_corruption(tmp_path: Path, content: bytes) -> None:
    pyz = archive(tmp_path / "pilot.pyz", content)
    with pytest.raises(PilotError) as error:
        about_this(Carried(str(pyz), str(pyz), None))
    assert error.value.failure.kind is FailureKind.CORRUPTION
    assert str(pyz) in error.value.failure.message


def test_a_missing_file_of_the_payload_is_corruption(tmp_path: Path) -> None:
    pyz = archive(tmp_path / "pilot.pyz", b"{}")
    payload = Carried(str(pyz), str(pyz), None)
    with pytest.raises(PilotError, match="absent"):
        payload.member("absent")
    pyz.write_bytes(b"no zip")
    with pytest.raises(PilotError, match="damaged"):
        payload.manifest()


def test_only_the_python_that_pilot_sh_brought_believes_which_file_was_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pilot_agent.carried.payload_archive", lambda: "/job/pilot.pyz")
    monkeypatch.setenv(FILE_VARIABLE, "/job/pilot.sh")
    assert carried() == Carried("/job/pilot.pyz", "/job/pilot.pyz", None)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pilot-python").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert carried() == Carried("/job/pilot.sh", "/job/pilot.pyz", str(tmp_path))
