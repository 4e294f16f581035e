"""Site credentials come from files and commands, are renewed in time, and are in no message."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pilot_agent.model import PilotError
from server_stub.credentials.contents import expiry
from server_stub.credentials.kinds import Kind
from server_stub.frontend.credential_plans import SiteCredential
from server_stub.frontend.site_secrets import AGAIN_SECONDS, SiteSecrets

NOW = int(time.time())


def token(expires: int | None) -> str:
    def part(document: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    claims = {"iss": "https://issuer.example.org", **({} if expires is None else {"exp": expires})}
    return f"{part({'alg': 'ES256'})}.{part(claims)}.bWFya2Vk"


def proxy(*ends: int) -> bytes:
    """A certificate and its key, and the chain."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilot")])
    parts = []
    for end in ends:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(dt.datetime.fromtimestamp(NOW - 3600, dt.UTC))
        made = builder.not_valid_after(dt.datetime.fromtimestamp(end, dt.UTC)).sign(key, hashes.SHA256())
        parts.append(made.public_bytes(Encoding.PEM))
    parts.insert(1, key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return b"".join(parts)


def file_plan(path: Path, kind: Kind = Kind.SCITOKEN) -> SiteCredential:
    return SiteCredential("c", kind, file=str(path))


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def script(path: Path, text: str) -> SiteCredential:
    path.write_text(f"#!/bin/sh\necho x >> {path.parent}/runs\n{text}\n")
    path.chmod(0o755)
    return SiteCredential("c", Kind.SCITOKEN, command=(str(path),))


def runs(place: Path) -> int:
    return len((place / "runs").read_text().splitlines())


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    write(tmp_path / "t", token(NOW + 600).encode())
    secrets = SiteSecrets()
    first = secrets.get(file_plan(tmp_path / "t"), NOW)
    assert (first.expires, secrets.get(file_plan(tmp_path / "t"), NOW + 5)) == (NOW + 600, first)
    write(tmp_path / "t", token(NOW + 900).encode())
    assert secrets.get(file_plan(tmp_path / "t"), NOW + 10).expires == NOW + 900
    assert "bWFya2Vk" not in repr(first)


def test_a_proxy_lasts_as_long_as_the_shortest_of_its_chain() -> None:
    assert expiry(Kind.X509, proxy(NOW + 7200, NOW + 3600)) == NOW + 3600
    with pytest.raises(ValueError, match="a certificate and its private key"):
        expiry(Kind.X509, proxy(NOW + 7200).partition(b"-----BEGIN EC")[0])
    with pytest.raises(ValueError, match="cannot be read"):
        expiry(Kind.X509, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----")


def test_a_proxy_of_an_unknown_version_is_none() -> None:
    pem = proxy(NOW + 7200)
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    version = b"\xa0\x03\x02\x01"
    odd = base64.encodebytes(der.replace(version + b"\x02", version + b"\x07", 1))
    key = pem[pem.index(b"-----BEGIN EC") :]
    with pytest.raises(ValueError, match="cannot be read"):
        expiry(Kind.X509, b"-----BEGIN CERTIFICATE-----\n" + odd + b"-----END CERTIFICATE-----\n" + key)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Kind.SCITOKEN, b"a.b"),
        (Kind.SCITOKEN, b"\xff.\xff.\xff"),
        (Kind.SCITOKEN, b"a.b.c\nd.e.f"),
        (Kind.SCITOKEN, b"a.!!!.c"),
        (Kind.SCITOKEN, b"e30.eyJleHAiOiJ4In0.c"),
        (Kind.SSH_KEY, b"ssh-rsa AAAA"),
        (Kind.SSH_KEY, b"x" * (65 << 10)),
    ],
)
def test_what_is_of_another_kind_is_told_without_its_content(kind: Kind, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it|^its") as told:
        expiry(kind, content)
    assert content.decode("latin-1") not in str(told.value)


def test_a_key_without_an_end_of_its_own_is_told_to_last_and_sent_again_in_time(tmp_path: Path) -> None:
    write(tmp_path / "k", b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    secrets, plan = SiteSecrets(), replace(file_plan(tmp_path / "k", Kind.SSH_KEY), lasts_seconds=86400)
    first = secrets.get(plan, NOW)
    assert first.expires == NOW + 86400
    assert secrets.get(plan, NOW + 40000) == first
    assert secrets.get(plan, NOW + 50000).expires == NOW + 50000 + 86400


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0o600, "No such file"),
        (b"marked", 0o640, "accounts beside its owner"),
        (b"marked", 0o600, "is no scitoken"),
        (token(NOW - 1).encode(), 0o600, "has expired"),
    ],
)
def test_a_file_that_gives_none_is_told(tmp_path: Path, content: bytes | None, mode: int, said: str) -> None:
    if content is not None:
        write(tmp_path / "t", content)
        (tmp_path / "t").chmod(mode)
    with pytest.raises(PilotError, match=said) as told:
        SiteSecrets().get(file_plan(tmp_path / "t"), NOW)
    assert told.value.failure.code == "credential.source"
    assert "marked" not in str(told.value)


def test_a_command_runs_when_half_of_the_time_is_over_or_as_the_plan_says(tmp_path: Path) -> None:
    plan = script(tmp_path / "make", f"echo {token(NOW + 1000)}")
    secrets = SiteSecrets()
    first = secrets.get(plan, NOW)
    assert first.content == f"{token(NOW + 1000)}\n".encode()
    secrets.get(plan, NOW + 499)
    assert runs(tmp_path) == 1
    secrets.get(plan, NOW + 501)
    assert runs(tmp_path) == 2
    early = replace(plan, renew_before_seconds=990)
    secrets.get(early, NOW + 20)
    assert runs(tmp_path) == 3


def test_while_a_command_fails_what_it_gave_before_counts_and_it_is_not_run_all_the_time(tmp_path: Path) -> None:
    plan = script(tmp_path / "make", f"echo {token(NOW + 1000)}")
    secrets = SiteSecrets()
    first = secrets.get(plan, NOW)
    script(tmp_path / "make", "echo marked-output; echo no ticket >&2; exit 3")
    assert secrets.get(plan, NOW + 600) == first
    assert secrets.get(plan, NOW + 700) == first
    assert runs(tmp_path) == 2
    with pytest.raises(PilotError, match=r"failed \(exit code 3\): no ticket") as told:
        secrets.get(plan, NOW + 600 + int(AGAIN_SECONDS) + 500)
    assert "marked-output" not in str(told.value)
    script(tmp_path / "make", f"echo {token(NOW + 9000)}")
    assert secrets.get(plan, NOW + 3000).expires == NOW + 9000


def test_a_command_that_hangs_or_is_missing_is_told(tmp_path: Path) -> None:
    hangs = replace(script(tmp_path / "make", "sleep 60"), most_seconds=1.0)
    for plan in (hangs, SiteCredential("d", Kind.SCITOKEN, command=("/nowhere",))):
        with pytest.raises(PilotError, match="did not end in time, or could not be started"):
            SiteSecrets().get(plan, NOW)
