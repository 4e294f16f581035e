"""Recipes: which kind a file is, and Dockerfiles as definition files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.containers.recipe import definition_of, kind_of, read_recipe
from pilot_agent.model import FailureKind, PilotError


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Bootstrap: docker\nFrom: almalinux:9\n", "definition"),
        ("# a comment\n\n  bootstrap : localimage\n", "definition"),
        ("FROM almalinux:9\n", "dockerfile"),
        ("# syntax=docker/dockerfile:1\nARG V=9\nFROM a:$V\n", "dockerfile"),
        ("from scratch", "dockerfile"),
        ("FROM\n", None),
        ("#!/bin/sh\necho\n", None),
        ("", None),
    ],
)
def test_a_recipe_is_known_by_its_first_line(text: str, kind: str | None) -> None:
    assert kind_of(text) == kind


def dockerfile(directory: Path, text: str) -> str:
    path = directory / "Dockerfile"
    path.write_text(text)
    return str(path)


def test_a_dockerfile_becomes_a_definition(tmp_path: Path) -> None:
    text = definition_of(dockerfile(tmp_path, "FROM almalinux:9\nENV A=b\nCOPY x /x\nRUN dnf install -y gcc\n"))
    assert text.startswith("Bootstrap: docker\nFrom: almalinux:9\n")
    for part in ("%files\nx /x", "%post\n", "dnf install -y gcc", "%environment\nexport A=b"):
        assert part in text


def test_labels_keep_their_names_and_values(tmp_path: Path) -> None:
    text = 'FROM a\nLABEL who="me and you" a.b=c\nLABEL old style\nRUN true\n'
    assert "%labels\nwho me and you\na.b c\nold style\n%post\n" in definition_of(dockerfile(tmp_path, text))


def test_an_empty_base_is_no_image_of_a_registry(tmp_path: Path) -> None:
    for base in ("FROM scratch", "FROM scratch AS base"):
        assert definition_of(dockerfile(tmp_path, f"{base}\nCOPY x /x\n")).startswith("Bootstrap: scratch\n")


def test_stages_that_would_become_one_are_refused(tmp_path: Path) -> None:
    path = dockerfile(tmp_path, "FROM a AS b\nRUN make\nFROM scratch\nCOPY --from=b /x /x\n")
    with pytest.raises(PilotError) as caught:
        definition_of(path)
    assert caught.value.failure.code == "recipe.dockerfile"
    assert "2 stages" in caught.value.failure.message


def test_a_dockerfile_that_cannot_be_converted_is_told(tmp_path: Path) -> None:
    with pytest.raises(PilotError) as caught:
        definition_of(dockerfile(tmp_path, "FROM\n"))
    assert (caught.value.failure.kind, caught.value.failure.code) == (FailureKind.CONFIG, "recipe.dockerfile")


def test_without_spython_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    # A name that is None in this table cannot be imported.
    for name in ("spython", "spython.main", "spython.main.parse", "spython.main.parse.parsers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(PilotError) as caught:
        definition_of(dockerfile(tmp_path, "FROM a\n"))
    assert caught.value.failure.code == "recipe.spython"
    assert "pip install 'pilot-agent[images]'" in caught.value.failure.hint


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#!/bin/sh\n", b"FROM a\n" * 300000])
def test_what_is_no_recipe_is_a_wrong_command_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for place in (path, tmp_path / "missing", tmp_path):
        with pytest.raises(PilotError) as caught:
            read_recipe(str(place))
        assert caught.value.failure.kind is FailureKind.USAGE
