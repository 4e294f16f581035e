"""What a running server says of its models, asked of a real HTTP server that answers as Triton does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from hypothesis import given, strategies
from pilot_triton.models import LONGEST_LIST, NO_MODEL, NoAnswerError, joined, server_attributes
from pilot_triton.plugin import models

from pilot_agent.hookspecs import Context

INDEX = [
    {"name": "scale", "version": "1", "state": "READY"},
    {"name": "wrong", "version": "1", "state": "UNAVAILABLE", "reason": "Internal: no"},
    {"name": "asleep"},
]


class Triton(BaseHTTPRequestHandler):
    """Answers the two questions."""

    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        self._answer(self.answers.get(f"GET {self.path}"))

    def do_POST(self) -> None:
        self._answer(self.answers.get(f"POST {self.path}"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the library gives it
        """Say nothing."""

    def _answer(self, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def port() -> Iterator[int]:
    """A port where Triton's answers are given."""
    Triton.answers.clear()
    Triton.answers.update({"GET /v2": {"name": "triton", "version": "2.51.0"}, "POST /v2/repository/index": INDEX})
    with HTTPServer(("127.0.0.1", 0), Triton) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def of_model(*groups: Any) -> dict[str, Any]:
    """What the server says of a model with these instances."""
    return {"name": "scale", "backend": "python", "instance_group": list(groups)}


def on_gpus(*gpus: int) -> dict[str, Any]:
    return {"name": "scale_0", "kind": "KIND_GPU", "count": 1, "gpus": list(gpus)}


def told(port: int) -> dict[str, Any]:
    """What the task tells of a server that jobs can use."""
    return models(Context(services={"triton": {"http": port, "grpc": 1}}))


def test_the_ad_tells_the_version_and_which_models_are_ready(port: int) -> None:
    assert told(port) == {
        "TritonVersion": "2.51.0",
        "TritonModels": "asleep,scale,wrong",
        "TritonReadyModels": "scale",
        "TritonGpuModels": "",
        "TritonOnGPU": False,
    }


@pytest.mark.parametrize(
    ("configuration", "on_gpu"),
    [
        (of_model({"name": "scale_0", "kind": "KIND_CPU", "count": 1, "gpus": []}), False),
        (of_model({"kind": "KIND_CPU"}, on_gpus(0)), True),
        (of_model(on_gpus()), False),
        ({"instance_group": "KIND_GPU"}, False),
        ([], False),
        (b"<html>", False),
    ],
)
def test_a_model_is_on_a_gpu_when_the_server_has_an_instance_of_it_there(
    configuration: Any, on_gpu: bool, port: int
) -> None:
    Triton.answers["GET /v2/models/scale/config"] = configuration
    found = told(port)
    assert (found["TritonOnGPU"], found["TritonGpuModels"]) == (on_gpu, "scale" if on_gpu else "")
    assert found["TritonReadyModels"] == "scale"


def test_without_a_server_that_jobs_can_use_no_model_is_ready(port: int) -> None:
    assert models(Context()) == models(Context(services={"other": {"http": port}})) == NO_MODEL
    Triton.answers["GET /v2"] = None
    assert told(port) == NO_MODEL


@pytest.mark.parametrize("answer", [b"", b"<html>", None, [1], {"a": 1}])
def test_what_is_no_triton_server_is_not_believed(answer: Any, port: int) -> None:
    Triton.answers.update({"GET /v2": answer, "POST /v2/repository/index": answer})
    with pytest.raises(NoAnswerError):
        server_attributes(port)


@given(strategies.sets(strategies.text(alphabet="abcdefgh0123456789_.-", min_size=1, max_size=90), max_size=60))
def test_a_list_of_models_is_cut_between_two_names(names: set[str]) -> None:
    text = joined(names)
    assert len(text) <= LONGEST_LIST
    assert set(filter(None, text.split(","))) <= names
