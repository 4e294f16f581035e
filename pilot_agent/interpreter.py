"""The command that runs this program again: every child, hook and cron job of the pilot starts with it."""

from __future__ import annotations

import os
import sys

from pilot_agent.light import loads

INTERPRETER_VARIABLE = "PILOT_AGENT_INTERPRETER"
PAYLOAD_VARIABLE = "PILOT_AGENT_PAYLOAD"


def interpreter_command() -> list[str]:
    """The argument list to which only the command (``_keeper``, ...) is added.

    ``__main__`` puts the two halves into the environment: how Python is started (under ``pilot.sh`` through a private
    loader) and what it runs. Without them (a test, an embedding) it is this interpreter and this checkout.
    Raises ``ValueError`` when the variable holds no list of strings.
    """
    given = os.environ.get(INTERPRETER_VARIABLE)
    command = loads(given) if given else [sys.executable, "-I", "-B", "-X", "utf8"]
    if not (isinstance(command, list) and command and all(isinstance(part, str) and part for part in command)):
        raise ValueError(f"{INTERPRETER_VARIABLE} must be a JSON list of strings, found {given!r}")
    return [*command, os.environ.get(PAYLOAD_VARIABLE) or own_path()]


def module_command(module: str) -> list[str]:
    """The argument list that runs ``main`` of one module of the pilot with the arguments that are added.

    For programs that HTCondor waits for: to run an archive, Python first imports twenty modules of its own.
    Raises ``ValueError`` as ``interpreter_command``.
    """
    code = f"import sys; sys.path.insert(0, sys.argv[1]); from {module} import main; sys.exit(main(sys.argv[2:]))"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [*interpreter_command()[:-1], "-c", code, root]


def own_path() -> str:
    """What Python runs to get here: the zip file of the payload, or ``__main__.py`` in a checkout."""
    archive = payload_archive()
    if archive is not None:
        return archive
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")


def payload_archive() -> str | None:
    """The zip file of the payload that this code runs from; None in a checkout or an installed package."""
    archive: str | None = getattr(globals().get("__loader__"), "archive", None)
    return os.path.abspath(archive) if archive else None
