"""Asks a running server which of its models are ready."""

from __future__ import annotations

import http.client
import json
import os
from typing import Any

ADDRESS = "127.0.0.1"
ANSWER_SECONDS = 5.0
MOST_BYTES = 1 << 20
LONGEST_LIST = 2000
PORT_FILE = "http_port"


class NoAnswerError(Exception):
    """There is no server, or what answers is none; the text says what was found."""


def port_of(workspace: str, service: str) -> int:
    """The port for HTTP that the service's server was started with. Raises ``NoAnswerError``."""
    path = os.path.join(workspace, "services", service, PORT_FILE)
    try:
        with open(path, "rb") as file:
            port = int(file.read(16))
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"{path} names no port: {error}") from error
    if not 0 < port <= 65535:
        raise NoAnswerError(f"{path} names no port: {port}")
    return port


def server_attributes(port: int) -> dict[str, Any]:
    """Version and models of the server at a port of this node as attributes of the machine ad.

    Raises ``NoAnswerError``.
    """
    about = _asked(port, "GET", "/v2")
    index = _asked(port, "POST", "/v2/repository/index")
    if not isinstance(about, dict) or not isinstance(index, list):
        raise NoAnswerError(f"what answers at port {port} is no Triton server")
    models = [entry for entry in index if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
    ready = {entry["name"] for entry in models if entry.get("state") == "READY"}
    return {
        "TritonVersion": str(about.get("version", ""))[:64],
        "TritonModels": joined({entry["name"] for entry in models}),
        "TritonReadyModels": joined(ready),
    }


def joined(names: set[str]) -> str:
    """A list as ClassAds' ``stringListMember`` reads it, as much of it as an ad can bear."""
    text = ",".join(sorted(names))
    return text if len(text) <= LONGEST_LIST else text[:LONGEST_LIST].rpartition(",")[0]


def _asked(port: int, method: str, path: str) -> Any:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, headers={"Content-Length": "0"} if method == "POST" else {})
        answer = connection.getresponse()
        content = answer.read(MOST_BYTES)
        if answer.status != http.client.OK:
            raise NoAnswerError(f"{path} at port {port}: HTTP {answer.status}")
        return json.loads(content)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswerError(f"{path} at port {port}: {error}") from error
    finally:
        connection.close()
