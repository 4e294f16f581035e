"""A web server for images on the pool's host, as a VO would have one: HTTPS, with a certificate of its own."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.grid import USER_POOL, Grid
from tests.testbed.hosts import Host

DIRECTORY = "/var/tmp/image-server"
PORT = 8443
START_SECONDS = 20.0
# Files of the directory; a name that begins with `slow` begins like an image and never comes to its end, `down`
# is out of order.
_PROGRAM = """
import http.server, ssl, sys, time
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        with open("../requests.log", "a") as log:
            log.write(self.path + "\\n")
        if self.path.startswith("/down"):
            self.send_error(503)
        elif self.path.startswith("/slow"):
            self.send_response(200)
            self.send_header("Content-Length", "50000000")
            self.end_headers()
            self.wfile.write(bytes(32) + b"SIF_MAGIC\\0" + bytes(1000))
            time.sleep(600)
        else:
            super().do_GET()
server = http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("../server.pem", "../server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


@dataclass(frozen=True, slots=True)
class ImageServer:
    """`url` ends with a slash; `certificate` is what clients must trust; `files` is where the images are."""

    host: Host
    url: str
    certificate: str
    files: Path

    def requests(self) -> list[str]:
        """The paths that were asked for so far."""
        log = self.files.parent / "requests.log"
        return log.read_text(encoding="ascii").split() if log.exists() else []


@contextmanager
def image_server(grid: Grid) -> Iterator[ImageServer]:
    """The server for the length of a block. Raises AssertionError when it does not start."""
    host = grid.pool
    base = host.path(DIRECTORY)
    (base / "files").mkdir(parents=True)
    subject = ["-subj", "/CN=images.test", "-addext", f"subjectAltName=IP:{USER_POOL.head}"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{DIRECTORY}/server.key"]
    made = host.run(["openssl", "req", "-x509", *key, "-out", f"{DIRECTORY}/server.pem", "-days", "2", *subject])
    assert made.returncode == 0, made.stderr
    (base / "server.py").write_text(_PROGRAM, encoding="ascii")
    with (base / "said").open("w", encoding="utf-8") as said:
        words = ["python3", "../server.py", str(PORT)]
        door = host.popen(words, cwd=f"{DIRECTORY}/files", stdout=said, stderr=said)
    try:
        until = time.monotonic() + START_SECONDS
        while "ready" not in (base / "said").read_text(encoding="utf-8"):
            ended = door.poll() is not None or time.monotonic() > until
            assert not ended, (base / "said").read_text(encoding="utf-8")
            time.sleep(0.05)
        certificate = (base / "server.pem").read_text(encoding="ascii")
        yield ImageServer(host, f"https://{USER_POOL.head}:{PORT}/", certificate, base / "files")
    finally:
        host.signal(door, signal.SIGKILL)
        door.wait()
        shutil.rmtree(base)
