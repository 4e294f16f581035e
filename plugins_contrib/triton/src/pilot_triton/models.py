"""Asks a running server which of its models are ready, and which of them run on a GPU."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

ADDRESS = "127.0.0.1"
ANSWER_SECONDS = 5.0
MODELS_SECONDS = 5.0
"""How long all models together are asked about; those that are left are taken for CPU models."""
MOST_BYTES = 1 << 20
LONGEST_LIST = 2000
NO_MODEL: dict[str, Any] = {"TritonReadyModels": "", "TritonGpuModels": "", "TritonOnGPU": False}
"""What the ad says while no server answers."""


class NoAnswerError(Exception):
    """There is no server, or what answers is none; the text says what was found."""


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
    on_gpu = _on_gpu(port, sorted(ready))
    return {
        "TritonVersion": str(about.get("version", ""))[:64],
        "TritonModels": joined({entry["name"] for entry in models}),
        "TritonReadyModels": joined(ready),
        "TritonGpuModels": joined(on_gpu),
        "TritonOnGPU": bool(on_gpu),
    }


def _on_gpu(port: int, names: Iterable[str]) -> set[str]:
    """Those of the models that have an instance on a GPU, as the running server says: what it was asked for may have
    become an instance on the CPU."""
    found = set()
    until = time.monotonic() + MODELS_SECONDS
    for name in names:
        if time.monotonic() > until:
            break
        try:
            configuration = _asked(port, "GET", f"/v2/models/{quote(name, safe='')}/config")
        except NoAnswerError:
            continue
        groups = configuration.get("instance_group") if isinstance(configuration, dict) else None
        instances = [group for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []
        if any(group.get("kind") == "KIND_GPU" and group.get("gpus") for group in instances):
            found.add(name)
    return found


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
