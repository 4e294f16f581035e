"""A factory that takes events, until the file named by the second argument says how it is to fail.

Runs inside a node with that node's Python: standard library only.
"""

import os
import socket
import sys
import threading
import time

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"


def mode() -> str:
    """How it behaves now: well, down, slow or silent."""
    with open(sys.argv[2], encoding="ascii") as file:
        return file.read()


def serve(connection: socket.socket) -> None:
    """Answer one request, or fail at it."""
    with connection:
        connection.recv(65536)
        while mode() == "silent":
            time.sleep(0.1)
        for byte in ANSWER:
            if mode() == "slow":
                time.sleep(1)
            connection.sendall(bytes([byte]))


def main() -> None:
    """Serve until it is told to be down."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
        server.settimeout(0.05)
        while mode() != "down":
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main()
