"""Recipes of images: which kind a file is, and a Dockerfile as a definition file for Apptainer.

The conversion is that of spython, which may end the process or print as it likes: it runs in a child with a deadline.
"""

from __future__ import annotations

import re
from typing import Literal

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.process import Result, Runner

Kind = Literal["definition", "dockerfile"]

CONVERT_SECONDS = 60.0
MOST_BYTES = 1 << 20
NO_SPYTHON = "no spython"

_HEADER = re.compile(r"^\s*bootstrap\s*:", re.IGNORECASE)
_FROM = re.compile(r"^\s*FROM\s", re.IGNORECASE | re.MULTILINE)
_STAGE = re.compile(r"^Bootstrap: ", re.MULTILINE)
_DOCKER = re.compile(r"^\s*(?:FROM|ARG)\s+\S", re.IGNORECASE)


def kind_of(text: str) -> Kind | None:
    """What a recipe is by its first line that is no comment; None when it is neither."""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        return "definition" if _HEADER.match(line) else "dockerfile" if _DOCKER.match(line) else None
    return None


def read_recipe(path: str) -> tuple[str, Kind]:
    """The text of a recipe and its kind. Raises ``PilotError`` (usage)."""
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise _usage(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise _usage(f"{path} is no recipe: it is no text in UTF-8") from None
    kind = kind_of(text) if len(content) <= MOST_BYTES else None
    if kind is None:
        hint = "a definition file begins with `Bootstrap:`, a Dockerfile with FROM or ARG"
        raise _usage(f"{path} is no recipe", hint)
    return text, kind


def definition_of(path: str) -> str:
    """The Dockerfile at ``path`` as a definition file. Raises ``PilotError`` (recipe.spython, recipe.dockerfile)."""
    with Runner() as runner:
        handle = runner.start_call(
            lambda: _convert(path).encode(), name="the conversion by spython", deadline_seconds=CONVERT_SECONDS
        )
        result = runner.wait(handle)
    answer = result.answer.decode("utf-8", "replace")
    if answer == NO_SPYTHON:
        message = f"{path} is a Dockerfile, and the Python package spython, which converts it, is not installed here"
        hint = "run this where `pip install 'pilot-agent[images]'` was done, or write a definition file"
        raise PilotError(Failure(FailureKind.USAGE, "recipe.spython", message, hint))
    if not result.ok or not answer.strip():
        message = f"the Dockerfile {path} cannot be converted: {_said(result)}"
        hint = "correct it, or write a definition file (apptainer.org, Definition Files)"
        raise PilotError(Failure(FailureKind.CONFIG, "recipe.dockerfile", message, hint))
    _require_all_stages(path, answer)
    return answer + "\n"


def _require_all_stages(path: str, definition: str) -> None:
    """spython joins stages that have no name of their own, and what comes out is another image."""
    with open(path, encoding="utf-8") as file:
        stages = len(_FROM.findall(file.read()))
    if stages != len(_STAGE.findall(definition)):
        message = f"the Dockerfile {path} has {stages} stages, and spython does not keep them apart"
        hint = "give every stage a name (FROM image AS name), or write a definition file"
        raise PilotError(Failure(FailureKind.CONFIG, "recipe.dockerfile", message, hint))


def _convert(path: str) -> str:
    """In the child: spython's own words go to its standard error."""
    import os

    os.dup2(2, 1)
    try:
        from spython.main.parse.parsers import DockerParser
        from spython.main.parse.writers import SingularityWriter
    except ImportError:
        return NO_SPYTHON
    text: str = SingularityWriter(DockerParser(path).recipe).convert()
    # spython takes every base for an image of a registry; the empty one is none.
    text = re.sub(r"^Bootstrap: docker\nFrom: scratch *$", "Bootstrap: scratch", text, flags=re.MULTILINE)
    return re.sub(r"(?<=^%labels\n)(?:[^%\n].*\n?)+", _labels, text, flags=re.MULTILINE)


def _labels(section: re.Match[str]) -> str:
    """``name=value other=value`` of a Dockerfile as the lines ``name value`` of a definition file, where spython leaves
    them as they are."""
    import shlex

    lines: list[str] = []
    for line in section[0].splitlines():
        try:
            words = [word.partition("=") for word in shlex.split(line)]
        except ValueError:
            words = []
        pairs = [f"{name} {' '.join(value.split())}" for name, equals, value in words if equals and name]
        lines += pairs if pairs and len(pairs) == len(words) else [line]
    return "\n".join(lines) + "\n"


def _said(result: Result) -> str:
    lines = [line for line in result.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines and not result.timed_out else result.explain()


def _usage(message: str, hint: str = "") -> PilotError:
    return PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
