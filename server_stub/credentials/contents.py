"""What a secret of each kind looks like, and until when it says it is good; nothing of it is in any message."""

from __future__ import annotations

import base64
import binascii
import json
import re

from cryptography import x509

from server_stub.credentials.kinds import LATEST, SECRET_LIMIT_BYTES, Kind

TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")
SSH_KEY = re.compile(rb"-----BEGIN (?:OPENSSH |RSA |EC )?PRIVATE KEY-----")


def expiry(kind: Kind, secret: bytes) -> int | None:
    """When it expires by its own words, epoch seconds; None where it does not say. Raises ``ValueError`` for what is no
    credential of this kind."""
    if len(secret) > SECRET_LIMIT_BYTES:
        raise ValueError(f"it has more than {SECRET_LIMIT_BYTES} bytes")
    if kind in (Kind.IDTOKEN, Kind.SCITOKEN):
        return _token_expiry(secret)
    if kind is Kind.X509:
        return _proxy_expiry(secret)
    if not SSH_KEY.match(secret.lstrip()):
        raise ValueError("it is no private key of ssh")
    return None


def _token_expiry(secret: bytes) -> int | None:
    try:
        text = secret.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError("it is no JSON web token") from None
    if not TOKEN.fullmatch(text):
        raise ValueError("it is not one JSON web token and nothing else")
    try:
        part = text.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise ValueError("it is no JSON web token: its claims cannot be read") from None
    expires = claims.get("exp") if isinstance(claims, dict) else None
    if expires is None:
        return None
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 < expires <= LATEST:
        raise ValueError("its time of expiry is no moment")
    return int(expires)


def _proxy_expiry(secret: bytes) -> int:
    """Of a proxy and its chain, whichever ends first."""
    if CERTIFICATE not in secret or not PRIVATE_KEY.search(secret):
        raise ValueError("it is no proxy: a certificate and its private key, both in PEM form, belong into one file")
    try:
        chain = x509.load_pem_x509_certificates(secret)
    except (ValueError, x509.InvalidVersion):
        raise ValueError("a certificate in it cannot be read") from None
    return int(min(one.not_valid_after_utc.timestamp() for one in chain))
