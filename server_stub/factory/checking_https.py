"""Whether the factory's certificate is one that nodes will take."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from urllib.parse import urlsplit

from pilot_agent.files import read_bounded
from pilot_agent.model import PilotError
from server_stub.entries import Factory
from server_stub.findings import Finding, bad, doubtful, failed, good

SOON_DAYS = 14


def check_certificate(factory: Factory, now: float) -> Iterator[Finding]:
    """Certificate and key belong together, are valid for the address that nodes are told, and stay so for a while."""
    if factory.certificate is None:
        if factory.url.startswith("http://"):
            hint = "without HTTPS pilots send nothing while they run, and frontends elsewhere cannot ask for any"
            yield doubtful("certificate", f"{factory.url} is plain HTTP", hint)
        return
    from server_stub.factory.listening import try_certificate

    try:
        try_certificate(factory)
        yield _dates_and_names(factory, factory.certificate, now)
    except PilotError as error:
        yield failed("certificate", error.failure)
    except (OSError, ValueError) as error:
        yield bad("certificate", f"{factory.certificate} is no certificate: {error}", "give one in PEM")


def _dates_and_names(factory: Factory, path: str, now: float) -> Finding:
    from cryptography import x509

    found = x509.load_pem_x509_certificate(read_bounded(path))
    begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    if not begins <= moment < ends:
        return bad(
            "certificate", f"{path} is valid from {_day(begins)} to {_day(ends)}", "put a valid one there; SIGHUP"
        )
    host = urlsplit(factory.url).hostname or ""
    if not _names(found, host):
        return bad("certificate", f"{path} is not for {host}, to which nodes come", "get one for that name")
    days = (ends - moment).days
    if days < SOON_DAYS:
        return doubtful("certificate", f"{path} ends in {days} days, {_day(ends)}", "renew it; SIGHUP makes it count")
    return good("certificate", f"{path} is for {host} until {_day(ends)}")


def _names(certificate: object, host: str) -> bool:
    """Whether a certificate is for this host: by name, with one wildcard at the left, or by address."""
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    known = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return host in addresses or host in known or f"*.{host.partition('.')[2]}" in known


def _day(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%d")
