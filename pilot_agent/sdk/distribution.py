"""A plugin's distribution, read from its sources without a build backend, and the wheel that is made of it.

The wheel depends on nothing but the sources: the same files give the same bytes, on any machine and day.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pilot_agent import __version__
from pilot_agent.model import Failure, FailureKind, Json, PilotError

GROUP = "pilot_agent"
SOURCES = "src"
PROJECT_FILE = "pyproject.toml"
LICENCE_FILES = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""A name or version, which become the names of files."""
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the wheel: the first that a zip file can name."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A plugin as it is installed: ``entry_points`` maps the names that ``plugins.load`` takes to modules, ``files``
    the place of each file to its content; those in ``executable`` may be run."""

    name: str
    version: str
    entry_points: Mapping[str, str]
    files: Mapping[str, bytes]
    executable: frozenset[str] = frozenset()

    @property
    def stem(self) -> str:
        """Name and version as file names have them."""
        return f"{re.sub('[-_.]+', '_', self.name).lower()}-{self.version}"

    @property
    def wheel_name(self) -> str:
        """The file name of its wheel."""
        return f"{self.stem}-py3-none-any.whl"


def read_distribution(directory: Path) -> Distribution:
    """The distribution whose ``pyproject.toml`` (PEP 621) is in ``directory``, with its code in ``src``.

    Raises ``PilotError`` (usage) that names the file and the line of it that is missing.
    """
    project = read_project(directory)
    missing = [key for key in ("name", "version") if not isinstance(project.get(key), str)]
    if missing:
        raise _refused(f"{directory / PROJECT_FILE} has no [project] {' and '.join(missing)}", "add it")
    for key in ("name", "version"):
        if not _WORD.fullmatch(project[key]):
            found_here = f"{directory / PROJECT_FILE} has the {key} {project[key]!r}"
            raise _refused(found_here, "letters, digits and . _ + - are in one, and a letter or digit is first")
    groups = project.get("entry-points", {})
    points = groups.get(GROUP) if isinstance(groups, dict) else None
    if not points or not all(isinstance(module, str) for module in points.values()):
        example = f'[project.entry-points.{GROUP}] NAME = "MODULE"'
        raise _refused(f"{directory / PROJECT_FILE} has no entry point of the group {GROUP}", f"add {example}")
    files, executable = _sources(directory / SOURCES)
    found = Distribution(project["name"], project["version"], dict(points), files, executable)
    info = f"{found.stem}.dist-info"
    for pattern in LICENCE_FILES:
        texts = (path for path in sorted(directory.glob(pattern)) if path.is_file())
        files.update({f"{info}/licenses/{path.name}": path.read_bytes() for path in texts})
    files[f"{info}/METADATA"] = metadata(project)
    files[f"{info}/entry_points.txt"] = entry_points_text(groups)
    return found


def read_project(directory: Path) -> dict[str, Json]:
    """The ``[project]`` table of a directory. Raises ``PilotError`` (usage)."""
    place = directory / PROJECT_FILE
    try:
        document = tomllib.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "go to the plugin's directory, or name it; `pilot-agent plugin new NAME` makes one"
        raise _refused(f"{directory} has no {PROJECT_FILE}", hint) from None
    except (OSError, ValueError) as error:
        raise _refused(f"{place} cannot be read: {error}", "correct it") from error
    project: dict[str, Json] = document.get("project", {})
    return project


def _sources(root: Path) -> tuple[dict[str, bytes], frozenset[str]]:
    paths = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if is_source(path, root)}
    if not paths:
        raise _refused(f"{root} holds no code", f"a plugin's packages lie in {SOURCES}/")
    runs = frozenset(name for name, path in paths.items() if os.access(path, os.X_OK))
    return {name: path.read_bytes() for name, path in paths.items()}, runs


def is_source(path: Path, root: Path) -> bool:
    """Whether a file below ``root`` is a part of the plugin, and not something that a tool left there."""
    parts = path.relative_to(root).parts
    hidden = any(part.startswith(".") or part == "__pycache__" or part.endswith(".egg-info") for part in parts)
    return path.is_file() and not hidden and path.suffix not in (".pyc", ".pyi")


def metadata(project: Mapping[str, Json]) -> bytes:
    """The METADATA of a distribution with this ``[project]`` table."""
    lines = ["Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {project['version']}"]
    for field, key in (("Summary", "description"), ("License-Expression", "license")):
        if isinstance(project.get(key), str):
            lines.append(f"{field}: {project[key]}")
    needs = project.get("dependencies", [])
    lines += [f"Requires-Dist: {need}" for need in needs] if isinstance(needs, list) else []
    return ("\n".join(lines) + "\n").encode()


def entry_points_text(groups: Json) -> bytes:
    """The entry_points.txt of these groups."""
    lines = []
    for group, points in groups.items() if isinstance(groups, dict) else ():
        lines += [f"[{group}]", *(f"{name} = {module}" for name, module in points.items()), ""]
    return "\n".join(lines).encode()


def wheel(distribution: Distribution) -> bytes:
    """The wheel of a distribution: always the same bytes for the same files."""
    info = f"{distribution.stem}.dist-info"
    files = dict(distribution.files)
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: pilot-agent {__version__}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ).encode()
    record = f"{info}/RECORD"
    files[record] = "".join([*_record(files), f"{record},,\n"]).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files, key=lambda one: (one.startswith(info), one)):
            member = zipfile.ZipInfo(name, _EARLIEST)
            member.external_attr = (0o100755 if name in distribution.executable else 0o100644) << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, files[name])
    return target.getvalue()


def _record(files: Mapping[str, bytes]) -> Iterator[str]:
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        yield f"{name},sha256={digest},{len(content)}\n"


def install(distribution: Distribution, directory: Path) -> None:
    """Put its files where a pilot would find them: ``directory`` then goes into ``plugins.directories``."""
    for name, content in distribution.files.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(0o755 if name in distribution.executable else 0o644)


def _refused(message: str, hint: str) -> PilotError:
    return PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
