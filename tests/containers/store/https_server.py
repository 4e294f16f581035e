"""A real HTTPS server whose every path misbehaves in its own way; run as a program of its own.

Arguments: the certificate's name, the file with the image, the file that gets a line for each request. It prints its
port, and ends when its standard input does.
"""

from __future__ import annotations

import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.probes.servers import TLS

IMAGE = Path(sys.argv[2]).read_bytes() if __name__ == "__main__" else b""
LOG = sys.argv[3] if __name__ == "__main__" else ""
COUNT: dict[str, int] = {}


class Handler(BaseHTTPRequestHandler):
    """Paths are the names of the methods."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.strip("/").partition(".")[0].partition("?")[0].replace("-", "_")
        COUNT[name] = COUNT.get(name, 0) + 1
        with open(LOG, "a") as log:
            log.write(f"{self.path} {self.headers.get('Range', '-')}\n")
        self.close_connection = True
        getattr(self, f"path_{name}", self.path_missing)()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def path_good(self) -> None:
        self.answer(200, IMAGE)

    def path_slow(self) -> None:
        """Half of it now, the rest when the file ``go`` appears beside the log."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(IMAGE)))
        self.end_headers()
        self.wfile.write(IMAGE[: len(IMAGE) // 2])
        self.wfile.flush()
        while not os.path.exists(LOG + ".go"):
            time.sleep(0.02)
        self.wfile.write(IMAGE[len(IMAGE) // 2 :])

    def path_html(self) -> None:
        self.answer(
            200, b"<!DOCTYPE html><html><body>Please log in to the portal</body></html>", Content_Type="text/html"
        )

    def path_tiny(self) -> None:
        self.answer(200, b"hsqs")

    def path_stall(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(IMAGE)))
        self.end_headers()
        self.wfile.write(IMAGE[:100])
        self.wfile.flush()
        time.sleep(60)

    def path_drip(self) -> None:
        """A byte now and then keeps every time-out of a single read from ending it."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(IMAGE)))
        self.end_headers()
        for position in range(600):
            self.wfile.write(IMAGE[position : position + 1])
            self.wfile.flush()
            time.sleep(0.1)

    def path_truncated(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(IMAGE)))
        self.end_headers()
        self.wfile.write(IMAGE[: len(IMAGE) // 2])

    def path_resumed(self) -> None:
        """Breaks off in the middle the first time; then gives the rest."""
        wanted = self.headers.get("Range")
        half = len(IMAGE) // 2
        if wanted is None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(IMAGE)))
            self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(IMAGE[:half])
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        assert self.headers["If-Range"] == '"one"'
        self.answer(206, IMAGE[start:], Content_Range=f"bytes {start}-{len(IMAGE) - 1}/{len(IMAGE)}")

    def path_restarted(self) -> None:
        """Breaks off the first time, knows no ranges, and the file has changed since."""
        first = COUNT["restarted"] == 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(IMAGE)))
        self.send_header("ETag", '"first"' if first else '"second"')
        self.end_headers()
        self.wfile.write(b"hsqs" + bytes(1000) if first else IMAGE)

    def path_wrong_part(self) -> None:
        """Breaks off the first time, then gives another part than it was asked for, then all."""
        if COUNT["wrong_part"] == 2:
            self.answer(206, IMAGE[10:], Content_Range=f"bytes 10-{len(IMAGE) - 1}/{len(IMAGE)}")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(IMAGE)))
        self.send_header("ETag", '"one"')
        self.end_headers()
        self.wfile.write(IMAGE if COUNT["wrong_part"] > 2 else IMAGE[:1000])

    def path_busy_once(self) -> None:
        if COUNT["busy_once"] == 1:
            self.answer(503, b"later", Retry_After="0")
        else:
            self.path_good()

    def path_broken(self) -> None:
        self.answer(500, b"oops")

    def path_private(self) -> None:
        self.answer(401)

    def path_missing(self) -> None:
        self.answer(404, b"no such file")

    def path_loop(self) -> None:
        self.answer(302, Location=f"/loop?{COUNT['loop']}")

    def path_moved(self) -> None:
        self.answer(302, Location="/good.sif")

    def path_downgrade(self) -> None:
        self.answer(302, Location="http://localhost/good.sif")

    def path_nowhere(self) -> None:
        self.answer(302)

    def path_chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(IMAGE), 100_000):
            part = IMAGE[start : start + 100_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def path_unbounded(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(IMAGE)

    def path_huge(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 50))
        self.end_headers()
        self.wfile.write(IMAGE)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing is said."""

    def log_error(self, *_: object) -> None:
        """Nothing is said."""


def main() -> None:
    """Serve until standard input ends."""
    certificate = sys.argv[1]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / f"{certificate}.pem", TLS / "server_key.pem")
    # The handshake is the handler's thread's, so that one client does not hold up the others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
