"""The clients of the figure `triton` ask both servers in turn, and a client that failed is no figure."""

from __future__ import annotations

import json

import pytest

from benchmarks import inference, inference_rounds
from benchmarks.figures import table

PLAN = {"rounds": 2, "warmup": 1, "seconds": 0.5, "servers": {"pilot": "127.0.0.1:1", "hand": "127.0.0.1:2"}}


class Client:
    """A job's end of the connection: keeps what it was told and answers the same each time."""

    def __init__(self, **answer: object) -> None:
        self.told: list[str] = []
        self._answer = json.dumps(answer) + "\n" if answer else ""

    def write(self, line: str) -> None:
        self.told.append(json.loads(line)["server"])

    def flush(self) -> None:
        """It was sent at once."""

    def readline(self) -> str:
        return self._answer


def test_every_client_asks_both_servers_in_turn_and_the_warm_up_does_not_count() -> None:
    clients = [Client(answers=30, seconds=0.5), Client(answers=20, seconds=1.0)]
    assert inference_rounds.measure(clients, PLAN) == {"pilot": [80.0, 80.0], "hand": [80.0, 80.0]}
    pilot, hand = PLAN["servers"].values()  # type: ignore[attr-defined]
    assert clients[0].told == clients[1].told == [hand, pilot, pilot, hand, hand, pilot]


@pytest.mark.parametrize(("answer", "told"), [({}, "it hung up"), ({"problem": "ValueError: wrong"}, "wrong")])
def test_a_client_that_failed_ends_the_measurement_with_its_reason(answer: dict[str, object], told: str) -> None:
    with pytest.raises(RuntimeError, match=f"127.0.0.1:1: .*{told}"):
        inference_rounds.together([Client(**answer)], "127.0.0.1:1", 0.5)


def test_the_server_by_hand_has_the_pilots_words_and_other_ports() -> None:
    words = ["tritonserver", "--model-repository=/mnt", "--http-port=1", "--grpc-port=2", "--metrics-port=3", "--x=4"]
    assert inference.by_hand(words) == [
        "tritonserver", "--model-repository=/mnt", "--http-port=28000", "--grpc-port=28001", "--metrics-port=28002",
        "--x=4",
    ]  # fmt: skip


def test_the_figure_is_the_time_for_answers_beside_the_server_by_hand() -> None:
    figure = inference.figure([500.0] * 10, [400.0] * 10)
    assert figure.value().median == 2.0
    ratio = figure.ratio()
    assert ratio is not None
    assert ratio.median == pytest.approx(0.8)
    assert figure.met() is True
    assert inference.figure([300.0] * 10, [400.0] * 10).met() is False
    assert "2 s" in table([figure])
