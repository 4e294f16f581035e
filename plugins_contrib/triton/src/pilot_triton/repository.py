"""A model repository as Triton reads it: one directory for each model, in it one for each version, which is a number
(https://github.com/triton-inference-server/server, docs/user_guide/model_repository.md)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

MOST_MODELS = 1000
MOST_FILES = 1000
CONFIGURATION = "config.pbtxt"
SELF_DESCRIBING = (
    "model.onnx",
    "model.plan",
    "model.savedmodel",
    "model.graphdef",
    "model.pt",
    "model.xml",
    "model.py",
)
"""Files (or directories) of a version from which the server knows backend and tensors without a configuration."""


class RepositoryError(Exception):
    """The server would not start from this repository; the text says why."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model; ``problem`` is why the server cannot load it, empty when nothing is known against it."""

    name: str
    versions: tuple[int, ...]
    problem: str


def chosen_models(directory: str, wanted: Sequence[str]) -> tuple[Model, ...]:
    """The models that a server would load from a directory, all of them where none is named.

    Raises ``RepositoryError``: no such directory, nothing in it, a model that is not there or cannot be loaded.
    """
    models = {model.name: model for model in _models(directory)}
    if not models:
        raise RepositoryError(
            f"{directory} has no model: a directory with {CONFIGURATION} and versions 1, 2 ... is one"
        )
    missing = [name for name in wanted if name not in models]
    if missing:
        there = ", ".join(sorted(models)[:10])
        raise RepositoryError(f"{directory} has no model {', '.join(missing)}; it has {there}")
    chosen = tuple(models[name] for name in wanted) if wanted else tuple(models.values())
    broken = [f"{model.name}: {model.problem}" for model in chosen if model.problem]
    if broken:
        raise RepositoryError(f"of the models in {directory} {len(broken)} cannot be loaded: {'; '.join(broken[:5])}")
    return chosen


def _models(directory: str) -> list[Model]:
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry, _ in zip(entries, range(MOST_MODELS), strict=False) if _is_model(entry)]
    except FileNotFoundError:
        raise RepositoryError(f"there is no directory {directory}") from None
    except OSError as error:
        raise RepositoryError(f"{directory} cannot be read: {error.strerror}") from error
    return [_model(directory, name) for name in sorted(names)]


def _is_model(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _model(repository: str, name: str) -> Model:
    directory = os.path.join(repository, name)
    try:
        with os.scandir(directory) as entries:
            found = [entry.name for entry, _ in zip(entries, range(MOST_FILES), strict=False)]
        versions = tuple(sorted(int(entry) for entry in found if entry.isascii() and entry.isdigit()))
        if not versions:
            return Model(name, (), "it has no version: a directory with a number for a name, such as 1")
        if CONFIGURATION not in found and not _describes_itself(directory, versions[-1], found):
            files = ", ".join(SELF_DESCRIBING)
            return Model(name, versions, f"it has no {CONFIGURATION}, and version {versions[-1]} none of {files}")
    except OSError as error:
        return Model(name, (), f"it cannot be read: {error.strerror}")
    return Model(name, versions, "")


def _describes_itself(directory: str, version: int, found: Sequence[str]) -> bool:
    named = next(entry for entry in found if entry.isascii() and entry.isdigit() and int(entry) == version)
    there = os.listdir(os.path.join(directory, named))
    return any(name in there for name in SELF_DESCRIBING)
