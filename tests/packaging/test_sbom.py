"""The bill of materials names what is really inside, and the licence of each part is inside too."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from collections.abc import Mapping
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.packaging.conftest import CACHE, Built, forms, start

LIMIT_BYTES = 25 << 20
ALWAYS_BESIDE = {"SIZES", "ALL", "ALL.b2", "CHECK", "pilot.pyz"}


def told(built: Built, form: str, option: str, environment: Mapping[str, str]) -> str:
    done = start([*forms(built)[form], "version", option], environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def alone(output_dir: Path) -> dict[str, str]:
    """Environment with which only this payload is unpacked; others keep theirs beside each other."""
    return {"PILOT_AGENT_RUNTIME_DIR": str(output_dir / "alone")}


@pytest.fixture(scope="session")
def bill(built: Built, alone: dict[str, str]) -> dict[str, Any]:
    """What pilot.sh says it carries, the Python too."""
    document: dict[str, Any] = json.loads(told(built, "sh", "--sbom", alone))
    return document


@pytest.fixture(scope="session")
def unpacked(bill: dict[str, Any], alone: dict[str, str]) -> Path:
    """The directory that pilot.sh unpacks."""
    (directory,) = Path(alone["PILOT_AGENT_RUNTIME_DIR"]).iterdir()
    return directory


def platform(bill: dict[str, Any]) -> dict[str, Any]:
    (found,) = [part for part in bill["components"] if part["type"] == "platform"]
    return dict(found)


def values(part: dict[str, Any], name: str) -> list[str]:
    return [item["value"] for item in part["properties"] if item["name"] == f"pilot-agent:{name}"]


def owners(name: str, parts: list[dict[str, Any]]) -> list[str]:
    """The components that a file belongs to."""
    return [
        part["name"]
        for part in parts
        if any(name == file or (file.endswith("/") and name.startswith(file)) for file in values(part, "file"))
    ]


@pytest.mark.parametrize("form", ["pyz", "sh"])
def test_it_is_valid(built: Built, form: str, kept: dict[str, str]) -> None:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(told(built, form, "--sbom", kept))
    assert problem is None


def test_every_file_of_the_archive_belongs_to_one_component(built: Built, bill: dict[str, Any]) -> None:
    parts = [bill["metadata"]["component"], *(part for part in bill["components"] if part["type"] == "library")]
    with zipfile.ZipFile(built.pyz) as archive:
        found = {name: owners(name.removeprefix("cp311/"), parts) for name in archive.namelist()}
    assert {name: who for name, who in found.items() if len(who) != 1} == {}
    assert {who[0] for who in found.values()} == {part["name"] for part in parts}


def test_versions_are_those_of_the_packages_inside(built: Built, bill: dict[str, Any]) -> None:
    inside = {}
    with zipfile.ZipFile(built.pyz) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", name):
                fields = HeaderParser().parsestr(archive.read(name).decode())
                inside[fields["Name"]] = fields["Version"]
        native = {name: archive.read(name) for name in archive.namelist() if name.endswith(".so")}
    libraries = [part for part in bill["components"] if part["type"] == "library"]
    assert {part["name"]: part["version"] for part in libraries} == inside
    files = [inner for part in libraries for inner in part.get("components", [])]
    assert {inner["name"]: inner["hashes"][0]["content"] for inner in files} == {
        name: hashlib.sha256(data).hexdigest() for name, data in native.items()
    }


def test_every_file_beside_it_belongs_to_one_package_and_is_that_package_s(
    bill: dict[str, Any], unpacked: Path, tmp_path: Path
) -> None:
    runtime = platform(bill)
    parts = [runtime, *runtime["components"]]
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    found = {name: owners(name, parts) for name in names - ALWAYS_BESIDE}
    assert {name: who for name, who in found.items() if len(who) != 1} == {}
    assert {who[0] for who in found.values()} == {part["name"] for part in parts}
    for part in runtime["components"]:
        (package,) = [
            path
            for path in (CACHE / "debs/trixie").glob(f"{part['name']}_*.deb")
            if hashlib.sha256(path.read_bytes()).hexdigest() == part["hashes"][0]["content"]
        ]
        subprocess.run(["dpkg-deb", "-x", package, tmp_path / part["name"]], check=True)
        theirs = {digest(path) for path in (tmp_path / part["name"]).rglob("*") if path.is_file()}
        binary = [file for file in values(part, "file") if not file.endswith(".pyc")]
        assert [file for file in binary if digest(unpacked / file) not in theirs] == []


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_part_has_the_text_of_its_licence(built: Built, bill: dict[str, Any], unpacked: Path) -> None:
    runtime = platform(bill)
    with zipfile.ZipFile(built.pyz) as archive:
        names = set(archive.namelist())
    for part in (bill["metadata"]["component"], *bill["components"]):
        if part is not runtime and part["type"] != "platform":
            assert values(part, "licence")
            assert set(values(part, "licence")) <= names
    for part in runtime["components"]:
        texts = [unpacked / file for file in values(part, "licence")]
        assert texts
        assert all(text.read_text(errors="replace").strip() for text in texts)
        assert [each["expression"] for each in part["licenses"]]


def test_the_licences_can_be_read(built: Built, kept: dict[str, str]) -> None:
    page = told(built, "sh", "--licences", kept)
    for words in (
        "pilot-agent 0.1.0: Apache-2.0",
        "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2",
        "GNU LESSER GENERAL PUBLIC LICENSE",
        "GCC RUNTIME LIBRARY EXCEPTION",
        "Copyright (c) 2011-2025, NVIDIA Corporation",
        "example-vo 2.5: MIT",
    ):
        assert words.lower() in page.lower()
    assert "import" not in page.partition("NVIDIA Corporation")[2].partition("====")[0]
    only_archive = told(built, "pyz", "--licences", kept)
    assert "libc6" not in only_archive
    assert "pluggy" in only_archive


def test_a_checkout_is_asked_in_vain() -> None:
    from pilot_agent.commands.bill import licence_page
    from pilot_agent.model import PilotError

    with pytest.raises(PilotError, match="only a payload knows"):
        licence_page(None)


def test_pilot_sh_is_no_larger_than_promised(built: Built) -> None:
    assert built.sh.stat().st_size <= LIMIT_BYTES


def test_a_package_without_a_licence_stops_the_build() -> None:
    from payload.console import BuildError
    from payload.debs import DEBIAN_13, DEBIAN_13_TEXTS, debian_tree
    from payload.licences import Texts, owner

    tree = debian_tree("trixie", DEBIAN_13, CACHE / "debs", refresh=False, texts=DEBIAN_13_TEXTS)
    texts = Texts(tree)
    with pytest.raises(BuildError, match="the licence of unheard-of"):
        texts.copyright("unheard-of")
    with pytest.raises(BuildError, match="belongs to no package"):
        owner("/usr/lib/unheard-of.so", texts.owned)
