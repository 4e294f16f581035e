"""Compiles sources under the Python that it belongs to; run by the builder, one process per Python version.

Standard input holds one line per file: source path, tab, name for tracebacks, tab, path of the byte code.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys

# Byte code marked so (PEP 552) is valid whatever the date of the source, and its source is never looked at.
UNCHECKED_HASH = (1).to_bytes(4, "little")


def main() -> None:
    """Compile every file named on standard input."""
    for line in sys.stdin:
        source, shown, target = line.rstrip("\n").split("\t")
        with open(source, "rb") as file:
            data = file.read()
        code = compile(data, shown, "exec", dont_inherit=True, optimize=0)
        header = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(data)
        with open(target, "wb") as file:
            file.write(header + marshal.dumps(code))


if __name__ == "__main__":
    main()
