"""A newer token for the pool, fetched from the factory in time and put where HTCondor reads it.

The file that the batch system delivered stays as it was: jobs that run already could see what takes its place. Run as
``_renew WORKSPACE INSTALLED``, short-lived. It prints what became of it as ``_token`` does; where the factory has
nothing newer, that the token is unchanged. Never a token.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Sequence

from pilot_agent.factory_connection import FactoryConnection
from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.lifecycle.uploads import PLAN_FILE, TASK_SECONDS
from pilot_agent.light import loads
from pilot_agent.model import PilotError
from pilot_agent.startd import token_reload
from pilot_agent.startd.token import TokenFacts, read_token
from pilot_agent.workspace import Workspace

NAME = "credentials/idtoken"
FETCHED_FILE = "token.fetched"
"""In the workspace, outside of the directory where HTCondor looks for tokens."""
FAILED = 1


def main(arguments: Sequence[str]) -> int:
    """0 when INSTALLED is the newest there is, 67 for one that is no good, 1 when the factory could not be asked."""
    workspace, installed = Workspace(arguments[0]), arguments[1]
    # The keeper may be gone before this ends, as at a pilot's end.
    signal.alarm(int(TASK_SECONDS) + 1)
    path = os.path.join(workspace.private, FETCHED_FILE)
    try:
        found = fetch(workspace)
        if not found:
            return _unchanged(installed)
        write_atomically(path, found)
        return _install(path, installed)
    except PilotError as error:
        _tell({"code": error.failure.code, "message": error.failure.message})
        return error.failure.exit_code
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        # What the network said; the token is in no such text.
        _tell({"code": "token.renewal", "message": f"{type(error).__name__}: {error}"[:300]})
        return FAILED
    finally:
        signal.alarm(0)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def fetch(workspace: Workspace) -> bytes:
    """What the factory has for this pilot; empty where it has nothing. Raises ``OSError``, ``ValueError`` and
    ``http.client.HTTPException``."""
    plan = loads(read_bounded(os.path.join(workspace.upload, PLAN_FILE)))
    factory = FactoryConnection(plan)
    with contextlib.closing(factory.connection):
        found = factory.fetch(NAME).strip()
    return found + b"\n" if found else b""


def _install(fetched: str, installed: str) -> int:
    """Put it into its place if it lasts longer than what is there. Raises ``PilotError`` for one that is none."""
    _, facts = read_token(fetched)
    own = _facts(installed)
    if own is not None and facts.expires is not None and (own.expires is None or facts.expires <= own.expires):
        return _unchanged(installed)
    return token_reload.main([fetched, installed])


def _unchanged(installed: str) -> int:
    own = _facts(installed)
    _tell({"expires": None if own is None else own.expires, "changed": False})
    return 0


def _facts(installed: str) -> TokenFacts | None:
    """What the pilot's own token says, expired or not."""
    try:
        return read_token(installed, now=0)[1]
    except PilotError:
        return None


def _tell(answer: dict[str, object]) -> None:
    os.write(1, json.dumps(answer).encode())
