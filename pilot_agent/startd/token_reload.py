"""A fresh token takes the place of the one that a running pilot has, if it is any good.

Called by the keeper as ``_token SOURCE INSTALLED``; prints what became of it as JSON, never the token.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.startd.token import TOKEN_LIMIT_BYTES, read_token


def main(arguments: Sequence[str]) -> int:
    """Look at SOURCE, and put its token into INSTALLED; 0, or 67 when the old token stays."""
    source, installed = arguments
    try:
        token, facts = read_token(source)
        _same_pool(facts.issuer, installed)
        changed = _replace(installed, token.encode() + b"\n")
    except PilotError as error:
        _tell({"code": error.failure.code, "message": error.failure.message})
        return error.failure.exit_code
    except OSError as error:
        _tell({"code": "token.write", "message": f"{installed} cannot be written: {error.strerror}"})
        return 64
    _tell({"expires": facts.expires, "subject": facts.subject, "changed": changed})
    return 0


def _same_pool(issuer: str, installed: str) -> None:
    """Raise ``PilotError`` (token.other_pool) when the pilot's own token, expired or not, is of another pool."""
    try:
        _, own = read_token(installed, now=0)
    except PilotError:  # there is none that says anything
        return
    if issuer != own.issuer:
        message = f"the new token is of the pool {issuer}, the pilot is in {own.issuer}"
        raise PilotError(Failure(FailureKind.CREDENTIAL, "token.other_pool", message, stage="run"))


def _tell(answer: dict[str, object]) -> None:
    os.write(1, json.dumps(answer).encode())


def _replace(installed: str, content: bytes) -> bool:
    """Whether it was another one. HTCondor takes every file in its token directory for tokens, so the new one is made
    outside of it. Raises ``OSError``."""
    try:
        if read_bounded(installed, limit_bytes=TOKEN_LIMIT_BYTES) == content:
            return False
    except FileNotFoundError:
        pass
    made = os.path.join(os.path.dirname(os.path.dirname(installed)), "token.new")
    write_atomically(made, content, mode=0o600)
    os.replace(made, installed)
    return True
