"""A factory that takes what pilots upload, until the file named by the second argument says how it is to fail.

The file named by the third has a line for each that it took. Runs inside a node with that node's Python: standard
library only.
"""

import os
import socket
import sys
import threading
import time

ANSWER = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
LOCK = threading.Lock()


def mode() -> str:
    """How it behaves now: well, down, slow or silent."""
    with open(sys.argv[2], encoding="ascii") as file:
        return file.read()


def receive(connection: socket.socket) -> bool:
    """Whether a whole request came."""
    with connection.makefile("rb") as stream:
        size = -1
        while (line := stream.readline(65536)) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        return size >= 0 and len(stream.read(size)) == size


def serve(connection: socket.socket) -> None:
    """Answer one request, or fail at it."""
    with connection:
        if not receive(connection):
            return
        if mode() == "well":
            with LOCK, open(sys.argv[3], "a", encoding="ascii") as taken:
                taken.write("1\n")
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
            connection.settimeout(None)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main()
