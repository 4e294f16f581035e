"""The certificate authorities of the node, which a payload's own Python does not know."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

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
    """A context that checks certificates and host names with the authorities of the node (OpenSSL's variables first)
    and of the grid; None when there are none. Raises ``OSError`` for files that cannot be read as authorities."""
    named = environment.get("SSL_CERT_FILE", "")
    file = next((path for path in (named, *FILES) if path.startswith("/") and os.path.isfile(path)), None)
    directories = [*environment.get("SSL_CERT_DIR", "").split(":"), environment.get("X509_CERT_DIR", ""), GRID]
    present = [path for path in dict.fromkeys(directories) if path.startswith("/") and os.path.isdir(path)]
    if file is None and not present:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Some builds of OpenSSL leave it to the system's configuration.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if file is not None:
        context.load_verify_locations(cafile=file)
    for directory in present:
        context.load_verify_locations(capath=directory)
    return context
