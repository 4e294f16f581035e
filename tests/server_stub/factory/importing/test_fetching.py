"""A source is asked over HTTPS that is verified, and neither its size nor its slowness can hold the import up."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from server_stub.cli import main
from server_stub.factory.importing.fetching import content_of
from tests.server_stub.factory.importing.test_importing import CRIC


class Source(BaseHTTPRequestHandler):
    """Answers by the path."""

    wait = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/plain")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/absent" else 200)
        self.end_headers()
        if self.path == "/slow":
            for _ in range(600):
                self.wfile.write(b" ")
                self.wfile.flush()
                if self.wait.wait(0.05):
                    return
        elif self.path == "/large":
            self.wfile.write(b"x" * 100_000)
        else:
            self.wfile.write(json.dumps(CRIC).encode())

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signed itself, and its key beside it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "source")])
    begins = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key()).serial_number(7)
        .not_valid_before(begins).not_valid_after(begins + dt.timedelta(days=30))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("authority") / "source.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.with_suffix(".key").write_bytes(key.private_bytes(*form))
    return path


@pytest.fixture
def address(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, authority.with_suffix(".key"))
    Source.wait.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Source)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    Source.wait.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_gives_what_its_file_would(
    address: str, authority: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["entries", "import", "cric", f"{address}/", "--authorities", str(authority), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["entries"]) == 3


def test_a_server_that_nobody_vouches_for_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entries", "import", "cric", f"{address}/"]) == 65
    assert "certificate verify failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/absent", "it answered 404"),
        ("/large", "it answered more than 50000 bytes"),
        ("/slow", "it did not come to its end in time"),
        ("/moved", "gave nothing that is taken"),
    ],
)
def test_an_answer_that_is_none_is_refused(address: str, authority: Path, path: str, said: str) -> None:
    with pytest.raises(PilotError) as caught:
        content_of(address + path, authorities=str(authority), limit_bytes=50_000, deadline_seconds=1.0)
    assert said in caught.value.failure.message
    assert caught.value.failure.exit_code == 65


@pytest.mark.parametrize("place", ["http://cric.example.org/x", "ftp://x/y", "file:///etc/passwd"])
def test_only_https_is_asked(place: str) -> None:
    with pytest.raises(PilotError, match="nobody on the way may change them") as caught:
        content_of(place)
    assert caught.value.failure.exit_code == 2


def test_a_file_may_be_no_larger_either(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * 11)
    assert content_of(str(path), limit_bytes=11) == b"x" * 11
    with pytest.raises(PilotError, match="is larger than 10 bytes"):
        content_of(str(path), limit_bytes=10)
