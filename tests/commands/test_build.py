"""What `images build` prints, and what it refuses before it builds; building itself is tested in the testbed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pilot_agent.commands.build import entry_of, entry_text, platform_of
from pilot_agent.containers import tiny_image
from pilot_agent.containers.images import dictionary
from pilot_agent.containers.inspection import Inspected
from pilot_agent.environment import clean_environment
from pilot_agent.interpreter import interpreter_command
from pilot_agent.process import Result, run

RECIPE = "Bootstrap: localimage\nFrom: /images/base\n"


def found(system: str = "", version: str = "", *, digest: str = "", path: str = "/x") -> Inspected:
    return Inspected(path, "sif", "x86_64", digest=digest, system={"id": system, "version": version})


@pytest.mark.parametrize(
    ("system", "version", "name"),
    [
        ("almalinux", "9.4", "el9"),
        ("rhel", "8.10", "el8"),
        ("debian", "13", "debian13"),
        ("ubuntu", "24.04", "ubuntu24.04"),
        ("", "", "my-image"),
        ("a b", "", "my-image"),
    ],
)
def test_a_platform_is_named_as_usual(system: str, version: str, name: str) -> None:
    assert platform_of(found(system, version), "/images/my image.sif") == name


@pytest.mark.parametrize(
    "path", ["/images/el9.sif", "/images/a b.sif", "/images/a: b", "/images/#x", "/images/ä", "/yes"]
)
@pytest.mark.parametrize("name", ["el9", "9", "yes", "null", "1.0"])
def test_the_entry_is_what_the_dictionary_reads(path: str, name: str) -> None:
    digest = "sha256:" + "0" * 64
    read = yaml.safe_load(entry_text(name, entry_of(path, found(digest=digest))))
    (candidate,) = dictionary(read["images"])
    assert (candidate.platform, candidate.path, candidate.architecture, candidate.digest) == (
        name,
        path,
        "x86_64",
        digest,
    )


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "image.def").write_text(RECIPE)
    return str(tmp_path / "image.def")


def build(directory: Path, *arguments: str) -> Result:
    """Run the real command without any runtime: it changes what the process does with signals and orphans."""
    environment = clean_environment({}, home=str(directory), temporary=str(directory))
    none = ["--set", "containers.runtime=/missing", "--set", "containers.search=[]"]
    command = [*interpreter_command(), "images", "build", *arguments, *none]
    return run(command, deadline_seconds=60, environment=environment, directory=str(directory))


def refused(directory: Path, *arguments: str) -> str:
    result = build(directory, *arguments)
    assert result.code == 2
    return result.stderr.decode()


def test_what_is_there_is_kept_without_force_and_what_is_no_image_always(recipe: str, tmp_path: Path) -> None:
    image, notes, home = tmp_path / "a.sif", tmp_path / "notes.sif", tmp_path / "home"
    image.write_bytes(tiny_image.sif())
    notes.write_text("dear")
    home.mkdir()
    (home / "letter").write_text("dear")
    (tmp_path / "link.sif").symlink_to(image)
    assert "--force replaces it" in refused(tmp_path, recipe, str(image))
    for path in (notes, home):
        assert "is no image" in refused(tmp_path, recipe, str(path), "--force")
    assert "is a link" in refused(tmp_path, recipe, str(tmp_path / "link.sif"), "--force")


def test_a_wrong_command_line_is_told_before_anything_is_made(recipe: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert "no such file" in refused(tmp_path, str(tmp_path / "missing.def"), str(tmp_path / "x")).lower()
    assert "--name" in refused(tmp_path, recipe, str(tmp_path / "x"), "--name", "a b")
    assert "--seconds" in refused(tmp_path, recipe, str(tmp_path / "x"), "--seconds", "0")
    assert "refused by every dictionary" in refused(tmp_path, recipe, str(tmp_path / "a;b"))
    assert "no image can be built in" in refused(tmp_path, recipe, str(tmp_path / "missing/x"))
    assert sorted(tmp_path.iterdir()) == before


def test_without_a_runtime_it_is_the_node_and_nothing_is_left(recipe: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = build(tmp_path, recipe, str(tmp_path / "x"))
    assert result.code == 64
    assert b"container.missing" in result.stderr
    assert sorted(tmp_path.iterdir()) == before
