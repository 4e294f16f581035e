"""What goes into pilot.pyz: pilot_agent, the Python files of the pinned wheels, their licences, chosen plugins."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from payload.console import BuildError
from payload.plugins import read_plugins
from payload.wheels import Wheel

HERE = Path(__file__).parent
AGENT = "pilot_agent"
AGENT_LICENCE = "LICENSE"
# Its wheel has no file with the licence; its module begins with it.
LICENCE_IN_CODE = {"nvidia-ml-py": ("pynvml.py",)}
NATIVE = re.compile(r"psutil/_psutil_linux\.abi3\.so")
DESCRIPTION = re.compile(r"(METADATA|entry_points\.txt)$|licenses/.|LICEN[CS]E|NOTICE|COPYING")
PROCESSORS = ("x86_64", "aarch64")
# Parts of the wheels that no pilot can use: other systems, browsers, examples, type stubs.
UNUSED = re.compile(
    r"(psutil/(_psaix|_psbsd|_psosx|_pssunos|_pswindows)\.py|psutil/tests/.*|_yaml/.*|example\.py|_pynvml.*"
    r"|urllib3/contrib/(emscripten/.*|pyopenssl\.py)|.*/py\.typed|.*\.pyi|charset_normalizer/cli/.*"
    r"|idna/cli\.py|securesystemslib/_vendor/(ed25519/test_.*|test-.*)|.*\.so)"
)


@dataclass(frozen=True, slots=True)
class Component:
    """One carried package, for manifest and bill of materials.

    `roots` are its files and, with a slash at the end, its directories; `licence_in` the files that begin with its
    licence, where it has none for it alone.
    """

    name: str
    version: str
    licence: str
    sha256: tuple[str, ...]
    roots: tuple[str, ...]
    licence_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """Files by their name in the archive, what they come from, and the packages that look for files beside their
    code."""

    files: dict[str, bytes]
    components: tuple[Component, ...]
    with_resources: tuple[str, ...]


def collect(project: Path, wheels: Sequence[Wheel], plugins: Sequence[Path] = ()) -> Contents:
    """All source files of the payload, without byte code. BuildError when two packages bring the same name, and for a
    plugin that cannot be carried."""
    files = {"__main__.py": (HERE / "zip_main.py").read_bytes()}
    files[AGENT_LICENCE] = (HERE.parents[1] / AGENT_LICENCE).read_bytes()
    files.update(_agent(project))
    grouped: dict[str, list[Wheel]] = {}
    for wheel in wheels:
        grouped.setdefault(wheel.name, []).append(wheel)
    components = []
    native: dict[str, bytes] = {}
    for name, group in sorted(grouped.items()):
        with zipfile.ZipFile(group[0].path) as archive:
            part = dict(_python_part(archive))
            licence = _licence(part)
        if clash := sorted(set(part) & set(files)):
            raise BuildError(f"{name} and another package both bring {clash[0]}")
        files.update(part)
        files.update(_package_marks(part))
        compiled = {place: data for wheel in group for place, data in _native(wheel)}
        native.update(compiled)
        roots = _roots([*part, *(f"native/{place}" for place in compiled)])
        digests = tuple(wheel.sha256 for wheel in group)
        components.append(Component(name, group[0].version, licence, digests, roots, LICENCE_IN_CODE.get(name, ())))
    _overlay(files, native)
    taken = {name.partition("/")[0].removesuffix(".py") for name in files}
    with_resources = [AGENT]
    for plugin in read_plugins(plugins, taken, [component.name for component in components]):
        files.update(plugin.files)
        with_resources += plugin.packages
        components.append(
            Component(plugin.name, plugin.version, plugin.licence, (plugin.sha256,), _roots(plugin.files))
        )
    return Contents(files, tuple(components), tuple(with_resources))


def _roots(names: Iterable[str]) -> tuple[str, ...]:
    """Directories with a slash, and files at the top, with the byte code that modules get."""
    tops = {top + slash for top, slash, _ in (name.partition("/") for name in names)}
    return tuple(sorted(tops | {top + "c" for top in tops if top.endswith(".py")}))


def _agent(project: Path) -> Iterator[tuple[str, bytes]]:
    package = project / AGENT
    for path in sorted(package.rglob("*")):
        name = path.relative_to(project).as_posix()
        hidden = any(part.startswith(".") or part == "__pycache__" for part in PurePosixPath(name).parts)
        if path.is_file() and not hidden and path.suffix not in (".pyc", ".pyi"):
            yield name, path.read_bytes()


def _python_part(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    for name in archive.namelist():
        directory, _, rest = name.partition("/")
        if directory.endswith(".dist-info"):
            keep = bool(DESCRIPTION.match(rest))
        else:
            keep = not name.endswith("/") and not UNUSED.fullmatch(name)
        if keep:
            yield name, archive.read(name)


def _package_marks(part: dict[str, bytes]) -> dict[str, bytes]:
    """An empty ``__init__.py`` for each package that has none: from a zip file Python imports no other."""
    parents = {parent for name in part if name.endswith(".py") for parent in PurePosixPath(name).parents}
    marks = (f"{parent}/__init__.py" for parent in parents if parent.name)
    return {mark: b"" for mark in marks if mark not in part}


def _licence(part: dict[str, bytes]) -> str:
    raw = next(data for name, data in part.items() if name.endswith(".dist-info/METADATA"))
    fields = HeaderParser().parsestr(raw.decode())
    stated: str = fields["License-Expression"] or fields["License"] or ""
    return stated.splitlines()[0] if stated else "see its licence file"


def _native(wheel: Wheel) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel.path) as archive:
        for name in archive.namelist():
            if NATIVE.fullmatch(name):
                processor = next(p for p in PROCESSORS if p in wheel.path.name)
                yield processor, archive.read(name)


def _overlay(files: dict[str, bytes], native: dict[str, bytes]) -> None:
    """Replace the module that would need a file on disk, and add psutil's compiled parts as data."""
    if native:
        shim = (HERE / "overlay/_psutil_linux.py").read_text()
        digests = {processor: hashlib.sha256(data).hexdigest() for processor, data in sorted(native.items())}
        shim += "".join(f'\nDIGESTS["{processor}"] = "{digest}"' for processor, digest in digests.items())
        files["psutil/_psutil_linux.py"] = (shim + "\n_take_place()\n").encode()
        files.update({f"native/{p}/_psutil_linux.abi3.so": data for p, data in native.items()})
