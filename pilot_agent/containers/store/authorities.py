"""Certificate authorities: those of the node, which a payload's own Python does not know, of the factory's bundle, or
those of a file."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from pilot_agent.trust.bundled import authorities

# Where distributions keep the authorities that OpenSSL trusts.
FILES = (
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
GRID = "/etc/grid-security/certificates"


def verifying_context(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """A context that checks certificates and host names with the authorities of the node (OpenSSL's variables first),
    of the grid and of the factory's bundle; None when there are none. Raises ``OSError`` for files that cannot be read
    as authorities."""
    own = authorities()
    named = environment.get("SSL_CERT_FILE", "")
    file = next((path for path in (named, *FILES) if path.startswith("/") and os.path.isfile(path)), None)
    directories = [*environment.get("SSL_CERT_DIR", "").split(":"), environment.get("X509_CERT_DIR", ""), GRID]
    present = [path for path in dict.fromkeys(directories) if path.startswith("/") and os.path.isdir(path)]
    if file is None and not present and own is None:
        return None
    context = _verifying()
    if own is not None:
        context.load_verify_locations(cadata=own)
    if file is not None:
        context.load_verify_locations(cafile=file)
    for directory in present:
        context.load_verify_locations(capath=directory)
    return context


def factory_context(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """As ``verifying_context``, for what gets a token: where the payload carries the factory's authorities, no others
    will do."""
    own = authorities()
    if own is None:
        return verifying_context(environment)
    context = _verifying()
    context.load_verify_locations(cadata=own)
    return context


def trusting(file: str) -> ssl.SSLContext:
    """A context that checks certificates and host names with the authorities in ``file`` (PEM) and no others. Raises
    ``OSError``."""
    context = _verifying()
    context.load_verify_locations(cafile=file)
    return context


def _verifying() -> ssl.SSLContext:
    """Without authorities yet, and the same under every Python: from 3.13 on ``ssl.create_default_context`` refuses
    authorities without a key usage, which is what ``openssl req -x509`` makes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Some builds of OpenSSL leave it to the system's configuration.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
