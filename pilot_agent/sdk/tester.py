"""A Python that has pytest, for the tests of a plugin: the pilot's own, the one on the path, or a private one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot_agent.interpreter import INTERPRETER_VARIABLE, PAYLOAD_VARIABLE, interpreter_command, payload_archive
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.process import Result, run

OLDEST = (3, 11)
PRIVATE = ".pilot-agent"
"""The directory below the plugin's that holds the private environment."""
_HAS_PYTEST = f"import sys; assert sys.version_info[:2] >= {OLDEST}; import pytest"
_IS_PYTHON = f"import sys; assert sys.version_info[:2] >= {OLDEST}; import venv, ensurepip"
_LOOK_SECONDS, _MAKE_SECONDS = 60.0, 600.0
_NEEDED = ("pluggy", "yaml", "psutil")
"""What the agent needs beside its own package, where that is not one file with everything."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tester:
    """How pytest is started: the words before its own arguments, and the environment."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


def find_tester(directory: Path, say: Say) -> Tester:
    """A pytest for the plugin in ``directory``; ``say`` is told when one has to be made.

    Raises ``PilotError`` (usage) that says what to install where none can be had.
    """
    environment = _environment(os.environ)
    candidates = _candidates(directory)
    for words in candidates:
        if _works(words, _HAS_PYTEST, environment):
            return Tester((*words, "-B", "-m", "pytest"), environment)
    for words in candidates:
        if _works(words, _IS_PYTHON, environment):
            made = _make(words, directory / PRIVATE / "venv", environment, say)
            return Tester((made, "-B", "-m", "pytest"), environment)
    tried = ", ".join(" ".join(words) for words in candidates)
    raise _refused(
        f"no Python of {OLDEST[0]}.{OLDEST[1]} or newer here has pytest, and none can make a virtual environment "
        f"({tried})",
        "install pytest (Debian: python3-pytest; pip: pytest), or what Python's venv module needs (Debian: "
        "python3-venv)",
    )


def _candidates(directory: Path) -> list[tuple[str, ...]]:
    command = interpreter_command()
    own = tuple(command[: command.index("-I")] if "-I" in command else command[:1])
    private = directory / PRIVATE / "venv" / "bin" / "python"
    found = [own, *((str(private),) for _ in (1,) if private.exists())]
    on_path = shutil.which("python3")
    return [*found, *((on_path,) for _ in (1,) if on_path is not None and (on_path,) != own)]


def _works(words: Sequence[str], source: str, environment: Mapping[str, str]) -> bool:
    return _ran([*words, "-B", "-c", source], environment, _LOOK_SECONDS).ok


def _ran(argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> Result:
    return run(argv, deadline_seconds=seconds, environment=environment)


def _make(python: Sequence[str], place: Path, environment: Mapping[str, str], say: Say) -> str:
    say(f"no pytest here: making a virtual environment with one in {place}")
    place.parent.mkdir(mode=0o700, exist_ok=True)
    (place.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    own = str(place / "bin" / "python")
    for argv in ([*python, "-m", "venv", "--clear", str(place)], [own, "-m", "pip", "install", "-q", "pytest"]):
        done = _ran(argv, {name: value for name, value in environment.items() if name != "PYTHONPATH"}, _MAKE_SECONDS)
        if not done.ok:
            shutil.rmtree(place, ignore_errors=True)
            raise _refused(
                f"a private pytest cannot be made: {' '.join(argv)}: {done.explain()}",
                "install pytest (Debian: python3-pytest), or let pip reach a package index",
            )
    return own


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """The caller's, in which the agent is found, and its children start as its own do."""
    environment = {name: value for name, value in given.items() if not name.startswith(("PYTHON", "PYTEST_"))}
    *python, payload = interpreter_command()
    environment |= {INTERPRETER_VARIABLE: json.dumps(python), PAYLOAD_VARIABLE: payload}
    return environment | {"PYTHONPATH": os.pathsep.join(_own_places())}


def _own_places() -> list[str]:
    """Where the agent and what it needs are imported from."""
    archive = payload_archive()
    if archive is not None:
        return [archive]
    places = [str(Path(__file__).parents[2])]
    for name in _NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            places.append(str(Path(spec.origin).parents[1]))
    return list(dict.fromkeys(places))


def _refused(message: str, hint: str) -> PilotError:
    return PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
