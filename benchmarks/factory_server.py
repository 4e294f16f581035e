"""A factory's own server in a process of its own, as an operator runs it, for whoever measures it."""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.node import REPOSITORY, MeasurementError

START_SECONDS = 120.0
END_SECONDS = 30.0
COLLECT_SECONDS = 900
"""How often the batch system is asked, which these measurements have none of."""


@dataclass(frozen=True, slots=True)
class Server:
    """One that answers: its process, and where it is."""

    process: subprocess.Popen[bytes]
    address: str
    port: int

    @property
    def url(self) -> str:
        """The beginning of its addresses, without HTTPS."""
        return f"http://{self.address}:{self.port}"


def free_port() -> int:
    """A port of this host that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        return port


def write_configuration(directory: Path, *, address: str = "127.0.0.1", secure: bool = False, **more: Any) -> Path:
    """A factory's file with all that it names; with ``secure`` it has a certificate of its own for its address."""
    (directory / "state" / "pilots").mkdir(parents=True, exist_ok=True)
    port = free_port()
    document = {
        "name": "measured",
        "state": "state",
        "payloads": ".",
        "launcher": "launcher.sh",
        "url": f"http{'s' if secure else ''}://{address}:{port}",
        "address": address,
        "port": port,
        "uploads": secure,
        "collect_seconds": COLLECT_SECONDS,
        "entries": [{"name": "site-0000", "site": "Example_T1", "payload": "sh"}],
        **more,
    }
    if secure:
        _write_certificate(directory, address)
        document |= {"certificate": "server.pem", "key": "server.key"}
    path = directory / "factory.json"
    path.write_text(json.dumps(document))
    return path


def _write_certificate(directory: Path, address: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "factory")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "server.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (directory / "server.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))


def trusting(directory: Path) -> ssl.SSLContext:
    """Who believes the certificate that ``write_configuration`` made, and no other."""
    return ssl.create_default_context(cafile=directory / "server.pem")


@contextmanager
def serving(configuration: Path, inside: Sequence[str] = ()) -> Iterator[Server]:
    """The server of this file, once it answers; ``inside`` are the words that run a program where it is to be. What is
    still there at the end is told to end, and killed if it does not."""
    document = json.loads(configuration.read_text())
    words = [*inside, sys.executable, "-m", "server_stub", "factory", "run", "--config", str(configuration)]
    log = configuration.with_suffix(".log")
    with log.open("ab") as said:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
    try:
        server = Server(process, document["address"], document["port"])
        context = trusting(configuration.parent) if document.get("certificate") else None
        end = time.monotonic() + START_SECONDS
        while not _answers(server, context, inside):
            if process.poll() is not None or time.monotonic() > end:
                raise MeasurementError(f"the factory does not answer: {log.read_text()[-800:]}")
            time.sleep(0.1)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(server: Server, context: ssl.SSLContext | None, inside: Sequence[str]) -> bool:
    if inside:  # another network's: asked from there
        script = f"import urllib.request; urllib.request.urlopen('{server.url}/health/live', timeout=5)"
        return subprocess.run([*inside, sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
    connection: http.client.HTTPConnection
    if context is not None:
        connection = http.client.HTTPSConnection(server.address, server.port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection(server.address, server.port, timeout=10)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
