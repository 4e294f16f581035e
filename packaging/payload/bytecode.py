"""Work done by Debian's own interpreters, so that the result is the same on every machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from payload.console import run
from payload.debs import Tree

HERE = Path(__file__).parent
FLAGS = ("-s", "-S", "-B")


def compile_all(sources: Mapping[str, bytes], tree: Tree) -> dict[str, bytes]:
    """Byte code by name: `a/b.py` gives `a/b.pyc`, whose tracebacks say `a/b.py`.

    BuildError with the compiler's message for a source that the tree's Python does not accept.
    """
    names = sorted(name for name in sources if name.endswith(".py"))
    with tempfile.TemporaryDirectory() as directory:
        lines = []
        for number, name in enumerate(names):
            source = Path(directory, f"{number}.py")
            source.write_bytes(sources[name])
            lines.append(f"{source}\t{name}\t{directory}/{number}.pyc\n")
        command = [*tree.command(), *FLAGS, str(HERE / "compile_worker.py")]
        run(command, "Every file of the payload must be valid for both Pythons.", _environment(tree), "".join(lines))
        return {name + "c": Path(directory, f"{number}.pyc").read_bytes() for number, name in enumerate(names)}


def dataclass_code(sources: Mapping[str, bytes], package: str, tree: Tree) -> bytes:
    """The file `dataclass_code.bin` of a package (see pilot_agent/dataclass_code.py) for the tree's Python.

    BuildError with the traceback of a module that cannot be imported.
    """
    with tempfile.TemporaryDirectory() as directory:
        for name, data in sources.items():
            source = Path(directory, "sources", name)
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(data)
        target = Path(directory, "code")
        worker = [str(HERE / "dataclass_worker.py"), f"{directory}/sources", package, str(target)]
        run([*tree.command(), *FLAGS, *worker], "Every module of the agent must be importable.", _environment(tree))
        return target.read_bytes()


def packed(kind: str, data: bytes, tree: Tree) -> bytes:
    """The data compressed by the tree's zlib; kind is `zip` (data is a zip not yet compressed) or `gzip`."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "plain"), Path(directory, "packed")
        source.write_bytes(data)
        worker = [str(HERE / "pack_worker.py"), kind, str(source), str(target)]
        run([*tree.command(), *FLAGS, *worker], "", _environment(tree))
        return target.read_bytes()


def _environment(tree: Tree) -> dict[str, str]:
    return {"PYTHONHASHSEED": "0", "PYTHONHOME": f"{tree.root}/usr", "LC_ALL": "C.UTF-8"}
