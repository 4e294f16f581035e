"""Writes a new plugin: a complete distribution, whose own tests pass at once."""

from __future__ import annotations

import keyword
import os
import pkgutil
import re
from pathlib import Path

from pilot_agent.model import Failure, FailureKind, PilotError

TEMPLATE = "pilot_agent.sdk.template"
FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/pilot_@MODULE@/plugin.py": "plugin.py",
    "src/pilot_@MODULE@/tools.sh": "tools.sh",
    "src/pilot_@MODULE@/beat.sh": "beat.sh",
    "tests/conftest.py": "conftest.py",
    "tests/test_@MODULE@.py": "test_plugin.py",
}
"""Where each file of the template goes."""
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LONGEST = 40


def new_plugin(name: str, parent: Path) -> Path:
    """Write the plugin ``name`` to a new directory of that name in ``parent``; the directory.

    Raises ``PilotError`` (usage) for a name that cannot be one of a plugin, and where something is in the way.
    """
    _require_name(name)
    directory = parent / name
    module = name.replace("-", "_")
    own = {"@NAME@": name, "@MODULE@": module, "@DASHED@": name.replace("_", "-"), "@UPPER@": module.upper()}
    try:
        directory.mkdir()
        _write(directory / f"src/pilot_{module}/__init__.py", f'"""A plugin for pilot-agent: {name}."""\n')
        for place, source in FILES.items():
            content = pkgutil.get_data(TEMPLATE, f"{source}.in")
            if content is None:
                raise FileNotFoundError(source)
            _write(directory / _filled(place, own), _filled(content.decode(), own))
    except FileExistsError:
        message = f"{directory} is there already"
        raise _refused(message, "choose another name, or remove it") from None
    except OSError as error:
        raise _refused(f"{error.filename or directory} cannot be written: {error.strerror}", "go elsewhere") from error
    return directory


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or keyword.iskeyword(name):
        needed = f"small letters and digits, parts joined by - or _, a letter first, {_LONGEST} at most"
        raise _refused(f"{name!r} cannot be the name of a plugin", f"needed: {needed}; for example my-vo")
    if name in ("pilot-agent", "pilot_agent", "agent", "builtin", "vo", "site"):
        raise _refused(f"{name} is a name of the pilot's own", "choose another one")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o755 if text.startswith("#!") else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _filled(text: str, own: dict[str, str]) -> str:
    for mark, value in own.items():
        text = text.replace(mark, value)
    return text


def _refused(message: str, hint: str) -> PilotError:
    return PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
