"""The figure of a Triton server beside the jobs: asked by the same jobs as the same server that was started by hand."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM

from benchmarks import life
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import HOME, MeasurementError, Place, put
from tests.contributed import install
from tests.testbed import triton
from tests.testbed.trees import PILOT, USER
from tests.testbed.user_jobs import Jobs

NAME = "triton"
CLIENTS = 8
WINDOW_SECONDS = 2.0
WARMUP = 1
ANSWERS = 1000
"""The figure is how long so many answers take."""
SLOTS = f"client,{CLIENTS},type=static"
"""So many jobs at once need slots beside those of the node's cores, of which a small node has fewer."""
SERVER = "tritonserver"
HAND_PORTS = {"http": 28000, "grpc": 28001, "metrics": 28002}
READY_SECONDS = 120.0
END_SECONDS = 30.0
ROUNDS_SECONDS = 300.0
POLL_SECONDS = 0.2
LAYER = f"{HOME}/triton.json"
PLUGINS = f"{HOME}/triton-plugins"
ROUNDS = f"{HOME}/inference_rounds.py"
CLIENT = Path(__file__).with_name("inference_client.py")


def measure(place: Place, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Seconds for 1000 answers to eight jobs in containers, by the pilot's server and by one started by hand.

    Raises MeasurementError when a server does not start or a job gets no right answer.
    """
    image = triton.inside(triton.ensure())
    _prepare(place, image)
    with life.pilot(place, "--config", f"vo={LAYER}") as started:
        words = _pilots_server(place)
        with _by_hand(place, image, words):
            servers = {"pilot": f"127.0.0.1:{_port(words, 'grpc')}", "hand": f"127.0.0.1:{HAND_PORTS['grpc']}"}
            plan = {"clients": CLIENTS, "rounds": rounds, "warmup": WARMUP, "seconds": WINDOW_SECONDS}
            rates = _rounds(place, {**plan, "servers": servers})
        life.stop(place, started)
    for turn, (ours, hand) in enumerate(zip(rates["pilot"], rates["hand"], strict=True), 1):
        say(f"triton {turn}/{rounds}: {ours:.0f} answers per second of the pilot's server, {hand:.0f} of the other")
    return [figure(rates["pilot"], rates["hand"])]


def figure(ours: Sequence[float], hand: Sequence[float]) -> Figure:
    """From answers per second."""
    return Figure(
        NAME,
        "s",
        Samples(f"{ANSWERS} answers to {CLIENTS} jobs by the pilot's server", tuple(ANSWERS / rate for rate in ours)),
        Samples("the same server by hand", tuple(ANSWERS / rate for rate in hand)),
        Goal(1.0, "ratio"),
        method=f"{CLIENTS} jobs in containers of one pilot on wn1 ask over gRPC, each one question after the other for "
        f"{WINDOW_SECONDS:g} s and all at once, first one server and then the other, alternating; both run the model "
        "`scale` of the testbed on the CPU in the same image, the peer by `apptainer exec` with the command line of "
        "the pilot's server and other ports; answers are counted within the jobs, and each is checked",
        parts={
            "pilot's answers per second": _median(ours),
            "peer's answers per second": _median(hand),
        },
    )


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _prepare(place: Place, image: str) -> None:
    options = {"repository": f"{image}/models", "devices": "none", "required": True}
    layer = {
        "images": {NAME: [{"path": f"{image}/image"}]},
        "plugins": {"directories": [PLUGINS]},
        "services": {NAME: options},
        "startd": {"resource_slots": SLOTS},
    }
    put(place.worker, LAYER, json.dumps(layer).encode(), 0o644)
    put(place.worker, ROUNDS, CLIENT.with_name(Path(ROUNDS).name).read_bytes(), 0o644)
    directory = install(NAME, place.worker.path(PLUGINS))
    for path in (directory, *directory.rglob("*")):
        os.chown(path, PILOT.uid, PILOT.uid)
    home = place.grid.pool.path(f"{USER.home}/{CLIENT.name}")
    home.write_bytes(CLIENT.read_bytes())


def _pilots_server(place: Place) -> list[str]:
    """The command line of the server that the pilot started; it is ready, as HTCondor was started after it."""
    found = [process.argv for process in place.worker.processes() if os.path.basename(process.argv[0]) == SERVER]
    if len(found) != 1:
        raise MeasurementError(f"{len(found)} servers on the node instead of the pilot's one")
    return list(found[0])


def _port(words: Sequence[str], kind: str) -> int:
    return next(int(word.partition("=")[2]) for word in words if word.startswith(f"--{kind}-port="))


def by_hand(words: Sequence[str]) -> list[str]:
    """The command line of a server with the ports of the one that is started by hand."""
    given = {f"--{kind}-port": f"--{kind}-port={number}" for kind, number in HAND_PORTS.items()}
    return [given.get(word.partition("=")[0], word) for word in words]


@contextmanager
def _by_hand(place: Place, image: str, words: Sequence[str]) -> Iterator[None]:
    """The same server for the length of a block, as a person starts it on the node."""
    worker = place.worker
    command = ["apptainer", "exec", "--bind", f"{image}/models:/mnt:ro", f"{image}/image", *by_hand(words)]
    with worker.path(f"{HOME}/triton-by-hand.log").open("w", encoding="utf-8") as log:
        door = worker.popen(command, user=PILOT.name, cwd=HOME, stdout=log, stderr=log)
    try:
        _until_ready(place, door)
        yield
        worker.signal(door, SIGTERM)
        door.wait(END_SECONDS)
    finally:
        worker.signal(door, SIGKILL)
        door.wait()


def _until_ready(place: Place, door: subprocess.Popen[str]) -> None:
    url = f"http://127.0.0.1:{HAND_PORTS['http']}/v2/health/ready"
    until = time.monotonic() + READY_SECONDS
    while place.worker.run(["curl", "-sf", "-o", "/dev/null", url]).returncode:
        if door.poll() is not None or time.monotonic() > until:
            said = place.worker.path(f"{HOME}/triton-by-hand.log").read_text(encoding="utf-8", errors="replace")
            raise MeasurementError(f"the server by hand did not become ready: {said[-1000:]}")
        time.sleep(POLL_SECONDS)


def _rounds(place: Place, plan: dict[str, object]) -> dict[str, list[float]]:
    """Answers per second of each server, round by round, with the jobs that ask them."""
    worker = place.worker
    path = worker.path(f"{HOME}/inference.err")
    with path.open("w", encoding="utf-8") as errors:
        door = worker.popen(
            ["python3", "-I", "-S", ROUNDS], user=PILOT.name, cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors,
        )  # fmt: skip
    text = (
        f"executable = /usr/bin/python3\narguments = {CLIENT.name} PORT\ntransfer_input_files = {CLIENT.name}\n"
        '+REQUIRED_OS = "triton"\n+WantServices = "triton"\nrequest_client = 1\n'
        "requirements = TARGET.IS_GLIDEIN =?= true"
    )
    try:
        if door.stdin is None or door.stdout is None:
            raise ValueError("a program without pipes")
        door.stdin.write(json.dumps(plan) + "\n")
        door.stdin.flush()
        job = Jobs(place.grid).submit(text.replace("PORT", door.stdout.readline().strip()), pilot=None, count=CLIENTS)
        try:
            said, _ = door.communicate(timeout=ROUNDS_SECONDS)
            if door.returncode != 0:
                raise MeasurementError(f"{path.read_text(encoding='utf-8')[-1000:]}\n{job.log[-1000:]}")
            job.wait_done()
        finally:
            job.remove()
    finally:
        worker.signal(door, SIGKILL)
        door.wait()
    rates: dict[str, list[float]] = json.loads(said)
    return rates
