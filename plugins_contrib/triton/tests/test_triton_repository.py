"""What a server would find in a model repository, and why it would not start."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies
from pilot_triton.repository import RepositoryError, chosen_models


def add_model(repository: Path, name: str, *, version: str = "1", configured: bool = True, file: str = "x") -> None:
    """Make a model of a repository."""
    place = repository / name / version
    place.mkdir(parents=True)
    (place / file).write_text("")
    if configured:
        (repository / name / "config.pbtxt").write_text("")


def refusal(directory: Path, *wanted: str) -> str:
    """Why a server would not start from a directory."""
    with pytest.raises(RepositoryError) as caught:
        chosen_models(str(directory), wanted)
    return str(caught.value)


def test_all_models_are_found_with_their_versions(tmp_path: Path) -> None:
    add_model(tmp_path, "b")
    add_model(tmp_path, "a", version="10")
    add_model(tmp_path, "a", version="9", configured=False)
    (tmp_path / "new_repository").write_text("a file that CVMFS leaves")
    (tmp_path / ".git").mkdir()
    assert [(model.name, model.versions) for model in chosen_models(str(tmp_path), ())] == [("a", (9, 10)), ("b", (1,))]


def test_a_missing_or_empty_repository_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == f"there is no directory {tmp_path}/none"
    assert refusal(tmp_path).startswith(f"{tmp_path} has no model: ")
    (tmp_path / "file").write_text("")
    assert "cannot be read: Not a directory" in refusal(tmp_path / "file")


def test_a_chosen_model_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    add_model(tmp_path, "scale")
    assert refusal(tmp_path, "scales") == f"{tmp_path} has no model scales; it has scale"


def test_a_model_without_version_or_configuration_is_named(tmp_path: Path) -> None:
    add_model(tmp_path, "good")
    (tmp_path / "unversioned").mkdir()
    assert "unversioned: it has no version" in refusal(tmp_path)
    add_model(tmp_path, "plain", configured=False)
    assert "plain: it has no config.pbtxt, and version 1 none of model.onnx" in refusal(tmp_path, "plain")
    assert [model.name for model in chosen_models(str(tmp_path), ["good"])] == ["good"]


def test_a_model_that_describes_itself_needs_no_configuration(tmp_path: Path) -> None:
    add_model(tmp_path, "onnx", configured=False, file="model.onnx")
    assert [model.problem for model in chosen_models(str(tmp_path), ())] == [""]


@given(names=strategies.lists(strategies.text(alphabet="0123456789²٣ab.-", min_size=1, max_size=6), unique=True))
def test_the_versions_of_a_model_are_the_directories_that_are_numbers(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    repository = tmp_path_factory.mktemp("repository")
    (repository / "m").mkdir()
    (repository / "m" / "config.pbtxt").write_text("")
    names = [name for name in names if name.strip(".")]
    for name in names:
        (repository / "m" / name).mkdir()
    numbers = sorted(int(name) for name in names if name.isascii() and name.isdigit())
    if numbers:
        assert chosen_models(str(repository), ())[0].versions == tuple(numbers)
    else:
        assert "it has no version" in refusal(repository)
