"""Plugins that a payload carries beside the agent: distributions with an entry point of the pilot's group."""

from __future__ import annotations

import configparser
import hashlib
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from payload.console import BuildError
from pilot_agent.model import PilotError
from pilot_agent.sdk.distribution import GROUP, read_distribution

NATIVE_ENDS = (".so", ".pyd", ".dylib")
_NEEDED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Plugin:
    """One distribution: its files by their place in the archive, and what its metadata says of it.

    ``entry_points`` are the names that ``plugins.load`` takes, ``packages`` the modules and packages at its top,
    ``needs`` the names of the distributions that it requires.
    """

    name: str
    version: str
    licence: str
    sha256: str
    entry_points: tuple[str, ...]
    packages: tuple[str, ...]
    needs: tuple[str, ...]
    files: Mapping[str, bytes]


def read_plugin(path: Path) -> Plugin:
    """The plugin in a wheel, or in a directory with ``pyproject.toml`` (PEP 621) and its code in ``src``.

    BuildError for what is neither, for compiled code, and for a distribution without an entry point of the group.
    """
    if path.is_file() and path.suffix == ".whl":
        files = _wheel(path)
    elif (path / "pyproject.toml").is_file():
        files = _sources(path)
    else:
        raise BuildError(f"{path} is no plugin: a wheel (*.whl), or a directory with a pyproject.toml, is needed")
    return _plugin(path, files)


def read_plugins(paths: Sequence[Path], taken: Iterable[str], carried: Iterable[str]) -> tuple[Plugin, ...]:
    """All of them. BuildError as ``read_plugin``, when two bring the same entry point or package, when one brings a
    package of ``taken``, and when one requires a distribution that is not in ``carried``."""
    owners = dict.fromkeys(taken, "the agent or a library")
    names: dict[str, str] = {}
    present = {_normal(name) for name in carried}
    plugins = tuple(map(read_plugin, paths))
    present |= {_normal(plugin.name) for plugin in plugins}
    for plugin in plugins:
        for package in plugin.packages:
            if package in owners:
                raise BuildError(f"{plugin.name} and {owners[package]} both bring {package}")
            owners[package] = plugin.name
        for name in plugin.entry_points:
            if name in names:
                raise BuildError(f"{plugin.name} and {names[name]} both have the entry point {name}")
            names[name] = plugin.name
        missing = [need for need in plugin.needs if _normal(need) not in present]
        if missing:
            raise BuildError(
                f"{plugin.name} requires {', '.join(missing)}, which the payload does not carry: put what the plugin "
                "needs into its own package, or let it run a program of its own"
            )
    return plugins


def _wheel(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except (OSError, zipfile.BadZipFile) as error:
        raise BuildError(f"{path} cannot be read: {error}") from error
    data = next((name for name in files if ".data/" in name), None)
    if data is not None:
        raise BuildError(f"{path} installs {data} outside its packages; a plugin is Python packages and nothing else")
    return {name: content for name, content in files.items() if not name.endswith("/RECORD")}


def _sources(directory: Path) -> dict[str, bytes]:
    try:
        return dict(read_distribution(directory).files)
    except PilotError as error:
        raise BuildError(f"{error.failure.message}; {error.failure.hint}") from error


def _plugin(path: Path, files: Mapping[str, bytes]) -> Plugin:
    metadata = next((name.partition("/")[0] for name in files if name.endswith(".dist-info/METADATA")), None)
    if metadata is None:
        raise BuildError(f"{path} has no .dist-info/METADATA: it is no wheel of a distribution")
    if native := [name for name in files if name.endswith(NATIVE_ENDS)]:
        raise BuildError(f"{path} brings compiled code, {native[0]}, which cannot be imported from a zip file")
    fields = HeaderParser().parsestr(files[f"{metadata}/METADATA"].decode())
    points = configparser.ConfigParser(delimiters=("=",))
    points.optionxform = str  # type: ignore[assignment,method-assign]
    points.read_string(files.get(f"{metadata}/entry_points.txt", b"").decode())
    if not points.has_section(GROUP):
        example = f'[project.entry-points.{GROUP}] NAME = "MODULE"'
        raise BuildError(f"{path} has no entry point of the group {GROUP}; add to its pyproject.toml: {example}")
    code = [name for name in files if not name.startswith(f"{metadata}/")]
    return Plugin(
        name=fields["Name"],
        version=fields["Version"],
        licence=fields["License-Expression"] or fields["License"] or "see its licence file",
        sha256=_digest(files),
        entry_points=tuple(points[GROUP]),
        packages=tuple(sorted({PurePosixPath(name).parts[0].removesuffix(".py") for name in code})),
        needs=tuple(_needed(fields.get_all("Requires-Dist") or [])),
        files=files,
    )


def _needed(requirements: Sequence[str]) -> Iterable[str]:
    """The names of what is always required; extras are nobody's here."""
    for requirement in requirements:
        name = _NEEDED_NAME.match(requirement)
        if name is not None and "extra ==" not in requirement:
            yield name[0]


def _digest(files: Mapping[str, bytes]) -> str:
    """One for all files: a directory has no wheel whose digest could be named."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()
