"""Collects what `dataclasses` compiles for all classes of a package, under the Python that it belongs to.

Arguments: the directory that holds the sources, the package, the file to write (see pilot_agent/dataclass_code.py).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import marshal
import pkgutil
import sys
from typing import Any


def main(directory: str, package: str, target: str) -> None:
    """Import every module of the package and write the code of its classes. Raises what a module raises that cannot be
    imported."""
    sys.path.insert(0, directory)
    digest = importlib.import_module(f"{package}.dataclass_code").digest
    codes: dict[bytes, bytes] = {}

    def execute(text: str, names: dict[str, Any], values: dict[str, Any]) -> None:
        if str(names.get("__name__")).partition(".")[0] == package:
            codes[digest(text)] = marshal.dumps(compile(text, "<string>", "exec", dont_inherit=True))
        exec(text, names, values)  # noqa: S102 - what dataclasses does

    vars(dataclasses)["exec"] = execute
    paths = importlib.import_module(package).__path__
    for module in sorted(each.name for each in pkgutil.walk_packages(paths, f"{package}.")):
        # What is for tests imports pytest, which no payload carries.
        if not module.endswith(".__main__") and not module.startswith(f"{package}.testing"):
            importlib.import_module(module)
    with open(target, "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + marshal.dumps(dict(sorted(codes.items()))))


if __name__ == "__main__":
    main(*sys.argv[1:])
