"""Tokens that no pool gave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from tests.testbed.grid import USER_POOL


def forged_token(identity: str) -> str:
    """A token that says the right things and was signed by somebody else (RFC 7519, HS256)."""

    def part(content: Mapping[str, Any] | bytes) -> str:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    payload = {"iss": USER_POOL.domain, "sub": identity, "iat": int(time.time()), "jti": os.urandom(8).hex()}
    head = f"{part({'alg': 'HS256', 'kid': 'POOL'})}.{part(payload)}"
    return f"{head}.{part(hmac.digest(b'somebody else', head.encode(), hashlib.sha256))}"
