"""Leaves in the workspace how events and report get to the factory, where the configuration names an address."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from pilot_agent.config import Config
from pilot_agent.files import read_bounded, write_json
from pilot_agent.lifecycle.uploads import PLAN_FILE
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.workspace import Workspace

COMMAND = "_upload"
AUTHORITIES_LIMIT_BYTES = 4 << 20


def prepare(
    config: Config,
    workspace: Workspace,
    *,
    pilot_id: str,
    version: str,
    interpreter: Sequence[str],
    environment: Mapping[str, str],
) -> None:
    """Write the plan; nothing where ``upload.url`` is not set. ``environment`` is for the children that upload.

    Raises ``PilotError`` (config: ``upload.insecure``, ``upload.url``, ``upload.authorities``; node:
    ``workspace.write``).
    """
    url, token, authorities = config.get("upload.url"), config.get("upload.token"), config.get("upload.authorities")
    if url is None:
        return
    _judge(url, token)
    if authorities is not None:
        authorities = os.path.abspath(authorities)
        _require_authorities(authorities)
    plan = {
        "url": url.rstrip("/"),
        "token": token and os.path.abspath(token),
        "authorities": authorities,
        "period_seconds": config.get("upload.period_seconds"),
        "heartbeat_seconds": config.get("upload.heartbeat_seconds"),
        "pilot_id": pilot_id,
        "version": version,
        "argv": [*interpreter, COMMAND, workspace.root],
        "environment": dict(environment),
    }
    try:
        os.makedirs(workspace.upload, mode=0o700, exist_ok=True)
        write_json(os.path.join(workspace.upload, PLAN_FILE), plan)
    except OSError as error:
        message = f"{workspace.upload} cannot be written: {error.strerror}"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "workspace.write", message, retry=True)) from error


def _judge(url: str, token: str | None) -> None:
    """Raises ``PilotError`` for an address that is none, or to which a token must not go (design section 10)."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
    except ValueError:
        known = False
    if not known or parts.username is not None or parts.password is not None:
        hint = "upload.url is https://HOST[:PORT]/PATH; the factory must change it"
        raise PilotError(Failure(FailureKind.CONFIG, "upload.url", "upload.url is no address to upload to", hint))
    if token is not None and parts.scheme != "https":
        message = f"upload.token would go unprotected to {parts.scheme}://{parts.hostname}"
        hint = "set upload.url to https://, or upload without a token; the factory must act"
        raise PilotError(Failure(FailureKind.CONFIG, "upload.insecure", message, hint))


def _require_authorities(path: str) -> None:
    """Raises ``PilotError`` for a file that cannot hold certificates, by which every upload would fail."""
    found = "it holds no certificate in PEM form"
    try:
        if b"-----BEGIN" in read_bounded(path, limit_bytes=AUTHORITIES_LIMIT_BYTES):
            return
    except OSError as error:
        found = (error.strerror or "it cannot be read").lower()
    message = f"upload.authorities is {path}: {found}"
    hint = "name a file with authorities that is on the node, or leave upload.authorities out; the factory must act"
    raise PilotError(Failure(FailureKind.CONFIG, "upload.authorities", message, hint))
