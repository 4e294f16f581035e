"""What the node's CVMFS client is configured to mount, read without the shell that the client uses for it.

The files and their order are those of the CernVM-FS documentation, "Client Configuration": ``default.conf``,
``default.d/*.conf``, ``default.local``, one pair of files per domain and one per repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pilot_agent.probes.node import Node

DIRECTORY = "/etc/cvmfs"
AUTOFS_MAPS = ("/etc/auto.master.d/cvmfs.autofs", "/etc/auto.master")
FSTAB = "/etc/fstab"
_LIMIT_BYTES = 64 << 10
_MOST_FILES = 200
_MOST_CHARACTERS = 1 << 16
_ASSIGNMENT = re.compile(r"(?m)^[ \t]*(?:(?:export|readonly)[ \t]+)?([A-Za-z_][A-Za-z0-9_]{0,99})=")
_PIECE = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|((?:[^\s'"\\;&|()`]|\\.)+)""", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?-([^{}]*))?\})", re.ASCII)


@dataclass(frozen=True, slots=True)
class CvmfsConfiguration:
    """What is configured: ``repositories`` (name -> the file that names it), ``domains`` of which any repository can be
    mounted (none where ``CVMFS_STRICT_MOUNT`` is on), all ``values``, and the ``files`` that were there."""

    repositories: Mapping[str, str] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()


def read_cvmfs_configuration(node: Node) -> CvmfsConfiguration:
    """The configuration of the node's client; nothing in it when there is none."""
    values: dict[str, str] = {}
    files, listing = [], ""
    for path in _default_files(node):
        text = node.read(path, limit_bytes=_LIMIT_BYTES)
        if text is None:
            continue
        files.append(path)
        before = values.get("CVMFS_REPOSITORIES")
        values = parse_assignments(text, values)
        if values.get("CVMFS_REPOSITORIES") != before:
            listing = path
    named = split_repositories(values.get("CVMFS_REPOSITORIES", ""), values.get("CVMFS_DEFAULT_DOMAIN", ""))
    repositories = dict.fromkeys(named, listing)
    for name in _stems(node.names(f"{DIRECTORY}/config.d")):
        if is_repository_name(name):
            repositories.setdefault(name, f"{DIRECTORY}/config.d")
    for name in parse_fstab(node.read(FSTAB, limit_bytes=_LIMIT_BYTES) or ""):
        repositories.setdefault(name, FSTAB)
    strict = values.get("CVMFS_STRICT_MOUNT", "").lower() in ("yes", "on", "1", "true")
    domains = () if strict else tuple(_stems(node.names(f"{DIRECTORY}/domain.d")))
    return CvmfsConfiguration(repositories, domains, values, tuple(files))


def parse_assignments(text: str, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables after a file of assignments in the shell's form was read, ``known`` ones before it.

    Quotes, comments, ``export``, ``$NAME``, ``${NAME}`` and ``${NAME:-value}`` are understood. Of ``if`` all branches
    count. A value that only a shell could find out (``$(...)``) removes its variable.
    """
    values = dict(known or {})
    text = text.replace("\\\n", "")
    for match in _ASSIGNMENT.finditer(text):
        value = _value_at(text, match.end(), values)
        if value is None:
            values.pop(match[1], None)
        else:
            values[match[1]] = value
    return values


def split_repositories(text: str, default_domain: str) -> list[str]:
    """The full names in a list separated by commas or blanks; a name without a domain gets the default one."""
    names = [name if "." in name or not default_domain else f"{name}.{default_domain}" for name in _words(text)]
    return [name for name in dict.fromkeys(names) if is_repository_name(name)]


def is_repository_name(name: str) -> bool:
    """True for what can be the name of a repository, and so of one directory below the mount point."""
    return "." in name.strip(".") and not name.startswith(".") and all(c.isalnum() or c in "._-" for c in name)


def parse_fstab(text: str) -> list[str]:
    """The repositories that fstab(5) mounts with the type ``cvmfs``."""
    fields = [line.split() for line in text.splitlines() if not line.lstrip().startswith("#")]
    names = [each[0] for each in fields if len(each) >= 3 and each[2] == "cvmfs"]
    return [name for name in dict.fromkeys(names) if is_repository_name(name)]


def autofs_map(node: Node, mount_point: str) -> str | None:
    """The file that makes autofs serve the mount point (auto.master(5)); None when none does."""
    for path in AUTOFS_MAPS:
        lines = (node.read(path, limit_bytes=_LIMIT_BYTES) or "").splitlines()
        if any(line.split()[:1] == [mount_point] for line in lines):
            return path
    return None


def _default_files(node: Node) -> Iterator[str]:
    yield f"{DIRECTORY}/default.conf"
    named = [name for name in node.names(f"{DIRECTORY}/default.d") if name.endswith(".conf")]
    yield from (f"{DIRECTORY}/default.d/{name}" for name in named[:_MOST_FILES])
    yield f"{DIRECTORY}/default.local"


def _stems(names: list[str]) -> Iterator[str]:
    """``a.example.org`` for ``a.example.org.conf`` and ``a.example.org.local``, each once."""
    stems = [name.rpartition(".")[0] for name in names if name.endswith((".conf", ".local"))]
    yield from (stem for stem in dict.fromkeys(stems) if stem)


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _value_at(text: str, position: int, values: Mapping[str, str]) -> str | None:
    """The value that begins at ``position``; None when a command would have to be run for it."""
    value = ""
    while match := _PIECE.match(text, position):
        position = match.end()
        piece = match[0]
        if match[1] is not None:
            value += match[1]
            continue
        inner = re.sub(r"\\(.)", r"\1", match[2] if match[2] is not None else piece, flags=re.DOTALL)
        if "$(" in inner or "`" in inner:
            return None
        value += _VARIABLE.sub(lambda found: values.get(found[1] or found[2]) or found[3] or "", inner)
        if len(value) > _MOST_CHARACTERS:
            return None
    if text[position : position + 1] in ("(", "`"):
        return None
    return value
