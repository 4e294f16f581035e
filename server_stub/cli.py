"""``pilot-factory ...``, ``pilot-frontend ...``, and the same as ``python -m server_stub factory | frontend ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run one command of the program that the first word names, else of the factory; its exit code."""
    from server_stub.commands.factory.program import FACTORY
    from server_stub.commands.frontend.program import FRONTEND
    from server_stub.commands.tree import run_program

    if argv and argv[0] in ("factory", "frontend"):
        return run_program(FRONTEND if argv[0] == "frontend" else FACTORY, argv[1:])
    return run_program(FACTORY, argv)


def factory() -> int:
    """``pilot-factory``."""
    return main(["factory", *sys.argv[1:]])


def frontend() -> int:
    """``pilot-frontend``."""
    return main(["frontend", *sys.argv[1:]])
