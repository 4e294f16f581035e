"""The licences of the Debian packages in pilot.sh: their copyright files, and the texts that those refer to."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from payload.console import BuildError, run
from payload.debs import Deb, Tree

COMMON = "/usr/share/common-licenses/"
_REFERENCE = re.compile(COMMON.encode() + rb"([A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*)")
_DOCUMENTS = "/usr/share/doc/"


class Texts:
    """What packages have below /usr/share/doc and /usr/share/common-licenses, and which files each one owns."""

    def __init__(self, tree: Tree) -> None:
        self.owned: dict[str, frozenset[str]] = {}
        self._content: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        for deb in (*tree.debs, *tree.texts):
            self._read(deb, tree)

    def _read(self, deb: Deb, tree: Tree) -> None:
        data = _unpacked(tree, deb)
        owned = set()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                name = "/" + member.name.removeprefix("./").rstrip("/")
                owned.add(name)
                if member.issym():
                    self._links[name] = str(PurePosixPath(name).parent / member.linkname)
                elif member.isfile() and name.startswith((_DOCUMENTS, COMMON)):
                    file = archive.extractfile(member)
                    self._content[name] = file.read() if file else b""
        self.owned[deb.name] = frozenset(owned)

    def copyright(self, package: str) -> bytes:
        """The copyright file of a package. BuildError where none of those read has it."""
        return self._text(f"{_DOCUMENTS}{package}/copyright", f"the licence of {package}")

    def common(self, name: str) -> bytes:
        """A licence that copyright files refer to. BuildError where it was not read."""
        return self._text(COMMON + name, f"the licence {name}")

    def _text(self, path: str, what: str) -> bytes:
        parts = PurePosixPath(path)
        for part in (parts, *parts.parents):
            if str(part) in self._links:
                return self._text(self._links[str(part)] + path.removeprefix(str(part)), what)
        if path not in self._content:
            raise BuildError(f"{what} is not in the Debian packages ({path}): name the package that has it")
        return self._content[path]


def licence_files(packages: Sequence[str], texts: Texts) -> tuple[dict[str, bytes], dict[str, tuple[str, ...]]]:
    """The files `licences/...`, and for each package the names of its own. BuildError where one has none."""
    files: dict[str, bytes] = {}
    names: dict[str, tuple[str, ...]] = {}
    for package in packages:
        own = texts.copyright(package)
        common = sorted(set(references(own)))
        files[f"licences/{package}"] = own
        files.update({f"licences/common/{name}": texts.common(name) for name in common})
        names[package] = (f"licences/{package}", *(f"licences/common/{name}" for name in common))
    return files, names


def references(text: bytes) -> list[str]:
    """The names of the common licences that a copyright file refers to."""
    return [found.decode() for found in _REFERENCE.findall(text)]


def owner(path: str, owned: Mapping[str, Iterable[str]]) -> str:
    """The package that has this path. BuildError where none or more than one does."""
    owners = [package for package, names in owned.items() if path in names]
    if len(owners) != 1:
        raise BuildError(f"{path} is carried and belongs to {' and '.join(owners) or 'no package'}")
    return owners[0]


def source_of(tree: Tree, deb: Deb) -> str:
    """`NAME/VERSION` of the source package."""
    stated = run(["dpkg-deb", "-f", str(tree.home / deb.file), "Source"], "").split()
    name = stated[0] if stated else deb.name
    return f"{name}/{stated[1].strip('()') if len(stated) > 1 else deb.version}"


def _unpacked(tree: Tree, deb: Deb) -> bytes:
    command = ["dpkg-deb", "--fsys-tarfile", str(tree.home / deb.file)]
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{deb.file} cannot be read: {error}") from error
