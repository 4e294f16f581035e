"""The pool's token: read, judged without verifying it, and put where only the pilot's daemons find it."""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.trust.local import writable_by_others

if TYPE_CHECKING:
    from pilot_agent.model import Json

TOKEN_LIMIT_BYTES = 64 * 1024
TOKEN_FILE = "pool"  # noqa: S105 - a file name


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a token says of itself, unverified: only the pool can tell whether it is true. Times are epoch seconds."""

    issuer: str
    subject: str
    expires: int | None
    key: str = ""


def read_token(path: str, *, now: float | None = None) -> tuple[str, TokenFacts]:
    """The token in a file, and what it says.

    Raises ``PilotError`` (kind credential): ``token.missing``, ``token.invalid``, ``token.expired``, and
    ``token.exposed`` when others on this node can change the file. The token itself is in no message.
    """
    reason = writable_by_others(path)
    if reason:
        raise _error("token.exposed", f"the pool's token is not used: {reason}")
    try:
        text = read_bounded(path, limit_bytes=TOKEN_LIMIT_BYTES).decode("ascii")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise _error("token.missing", f"no token for the pool: there is no file {path}") from None
    except OSError as error:
        raise _error("token.missing", f"the pool's token {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _error("token.invalid", f"{path} holds no token: it is not text") from None
    tokens = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(tokens) != 1:
        raise _error("token.invalid", f"{path} holds {len(tokens)} tokens, exactly one is needed")
    facts = _facts(tokens[0], path)
    at = time.time() if now is None else now
    if facts.expires is not None and facts.expires <= at:
        late = f"{_utc(facts.expires)}, {int(at - facts.expires)} s before this node's {_utc(at)}"
        raise _error("token.expired", f"the pool's token {path} ({facts.subject}) expired at {late}")
    return tokens[0], facts


def install_token(path: str, directory: str, *, now: float | None = None) -> TokenFacts:
    """Copy the token of ``path`` into ``directory`` with mode 0600, where HTCondor reads it.

    A batch system often delivers the file readable by others, which HTCondor would silently ignore: only the copy
    counts. Raises ``PilotError`` as ``read_token`` does.
    """
    token, facts = read_token(path, now=now)
    write_atomically(os.path.join(directory, TOKEN_FILE), token.encode() + b"\n", mode=0o600)
    return facts


def _facts(token: str, path: str) -> TokenFacts:
    parts = token.split(".")
    if len(parts) != 3:
        raise _error("token.invalid", f"{path} holds no JSON web token: {len(parts)} parts instead of 3")
    header, payload = (_decoded(part, path) for part in parts[:2])
    expires = payload.get("exp")
    if expires is not None and (isinstance(expires, bool) or not isinstance(expires, int | float)):
        raise _error("token.invalid", f"the token in {path} has an expiry time that is no number")
    for claim in ("iss", "sub"):
        if not isinstance(payload.get(claim), str):
            raise _error("token.invalid", f"the token in {path} has no {claim!r}")
    key = header.get("kid")
    return TokenFacts(
        issuer=payload["iss"],
        subject=payload["sub"],
        expires=int(expires) if expires is not None else None,
        key=key if isinstance(key, str) else "",
    )


def _decoded(part: str, path: str) -> dict[str, Json]:
    try:
        data = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise _error("token.invalid", f"{path} holds no JSON web token: a part cannot be decoded") from None
    if not isinstance(data, dict):
        raise _error("token.invalid", f"{path} holds no JSON web token: a part is no object")
    return data


def _utc(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return str(int(at))


def _error(code: str, message: str) -> PilotError:
    hint = "the VO gives the pilot a fresh token of the pool (pool.token), as a file of its own with mode 0600"
    return PilotError(Failure(FailureKind.CREDENTIAL, code, message, hint=hint, stage="handoff"))
