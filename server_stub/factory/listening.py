"""Whether the server can listen where it is told to, and with the certificate that it is given: known beforehand."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.entries import Factory


def try_certificate(factory: Factory) -> None:
    """Load certificate and key, where there are any, as the server will. Raises ``PilotError``."""
    if factory.certificate is None or factory.key is None:
        return
    for name, path in (("certificate", factory.certificate), ("key", factory.key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise _unusable(f"the {name} {path} cannot be read", error) from error
    try:  # without a word for the key: otherwise the terminal would be asked for it
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(factory.certificate, factory.key, "")
    except OSError as error:  # an ssl.SSLError is one
        raise _unusable(f"{factory.certificate} and {factory.key} cannot be used for HTTPS", error) from error


def try_address(factory: Factory) -> None:
    """Bind where the server will, for a moment. Raises ``PilotError``; uvicorn alone does not say who must act."""
    try:
        found = socket.getaddrinfo(factory.address, factory.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        absent = [error for family, *_, address in found if (error := _absent(family, address)) is not None]
        if len(absent) == len(found):
            raise absent[0]
    except OSError as error:
        message = f"the server cannot listen at {factory.address}, port {factory.port}: {error.strerror or error}"
        hint = (
            "end what listens there (another `pilot-factory run`?), or change address or port in the factory's file; "
            "the factory's operator must act"
        )
        raise PilotError(Failure(FailureKind.CONFIG, "address.unusable", message, hint)) from error


def _absent(family: int, address: tuple[Any, ...]) -> OSError | None:
    """Why this host has no such address, as ``::1`` where IPv6 is switched off: of several, one is enough. ``OSError``
    for one that it has and that cannot be used."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(address)
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        return error
    return None


def _unusable(what: str, error: OSError) -> PilotError:
    hint = "give a certificate and its key, PEM, that this account may read; the factory's operator must act"
    return PilotError(Failure(FailureKind.CONFIG, "certificate.unusable", f"{what}: {error.strerror or error}", hint))
