"""Whether the programs of a distribution can run on this node: its loader is asked to find all that they load.

``cvmfs2 --version`` is no test, as it loads none of the client's libraries, and says its version where no mount can
work (seen with CVMFS 2.12). The loader's ``--list`` (ld.so(8)) maps a program or library with all that it
needs, checks the versions of symbols, and runs nothing of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pilot_agent.process import Result, Runner

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp

LOAD_SECONDS = 30.0
CLIENT = "dist/usr/bin/cvmfs2"
LOADERS = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
    "ppc64le": "/lib64/ld64.so.2",
}
"""Where glibc's loader is, by its ABI (the programs name this path themselves)."""

_MAGIC = b"\x7fELF"
_LIBRARY = re.compile(r"libcvmfs_fuse(3?)(_stub)?\.so")
_PLACES = (("dist/usr/lib", "dist/lib"), ("dist/usr/lib64", "dist/lib64"))
_MISSING = re.compile(r"(\S+) => not found")
_ABSENT = re.compile(r"error while loading shared libraries: ([^/\s:]+): cannot open shared object file")
_VERSION = re.compile(r"version `([^']+)' not found")
_OTHER = re.compile(r"error while loading shared libraries: \S*?([^/\s]+): (.*)")
MOST_NAMED = 6


def load_problem(root: str, environment: Mapping[str, str], *, machine: str = "", wake: WakeUp | None = None) -> str:
    """Why the client of the distribution in ``root`` cannot run on this node, for people; empty when all that it loads
    is there: the program, and its library for FUSE 3 or the one for FUSE 2. Raises ``Interrupted``."""
    machine = machine or os.uname().machine
    loader = LOADERS.get(machine, "")
    if not os.access(loader, os.X_OK):
        where = loader or f"of {machine}"
        return f"this node has no loader {where}, that of glibc: no program of CVMFS's client can be started"
    families, directory = _libraries(root)
    if not families:
        return "it has no library libcvmfs_fuse*.so"
    paths = [path for paths in families.values() for path in paths]
    if _is_elf(os.path.join(root, CLIENT)):  # a stand-in may be a script, which loads nothing
        paths.append(os.path.join(root, CLIENT))
    searched = ":".join(os.path.join(root, place) for place in directory)
    said = _list_all(loader, paths, {**environment, "LD_LIBRARY_PATH": searched}, wake)
    client = said.get(os.path.join(root, CLIENT), "")
    if client:
        return client
    reasons = [next(filter(None, (said[path] for path in paths)), "") for paths in families.values()]
    return "" if "" in reasons else "; ".join(dict.fromkeys(reasons))


def _libraries(root: str) -> tuple[dict[str, list[str]], Sequence[str]]:
    """The client's libraries by the version of FUSE, and where mountrepo lets the loader look for them."""
    for directory, system in _PLACES:
        try:
            names = sorted(os.listdir(os.path.join(root, directory)))
        except OSError:
            continue
        found: dict[str, list[str]] = {}
        for name in names:
            match = _LIBRARY.fullmatch(name)
            if match:
                found.setdefault(match[1], []).append(os.path.join(root, directory, name))
        if found:
            return found, (directory, system)
    return {}, ()


def _is_elf(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == _MAGIC
    except OSError:
        return True  # the loader says what is wrong with it


def _list_all(loader: str, paths: Sequence[str], environment: Mapping[str, str], wake: WakeUp | None) -> dict[str, str]:
    """For each path why it does not load, or an empty text."""
    found: dict[str, str] = {}
    with Runner(wake) as runner:
        running = {}
        for path in paths:
            started = runner.start([loader, "--list", path], deadline_seconds=LOAD_SECONDS, environment=environment)
            if isinstance(started, Result):
                found[path] = started.explain()
            else:
                running[started] = path
        while running:
            handle, result = runner.wait_any()
            path = running.pop(handle)
            found[path] = _explained(os.path.basename(path), result)
    return found


def _explained(name: str, result: Result) -> str:
    """What the loader's words mean. It goes on after a library that is missing, and ends with 0 then."""
    text = result.stdout.decode("utf-8", "replace") + result.stderr.decode("utf-8", "replace")
    missing = [*_MISSING.findall(text), *_ABSENT.findall(text), *_VERSION.findall(text)]
    if missing:
        named = list(dict.fromkeys(missing))
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        return f"{name} needs {', '.join(named[:MOST_NAMED])}{more}, which this node does not have"
    other = _OTHER.search(text)
    if other:
        return f"{name} does not load: {other[1]}: {other[2]}"
    return "" if result.ok else f"{name} does not load: {result.explain()}"
