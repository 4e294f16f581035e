"""What supervising services costs: two pilots stand beside each other, one of them with services, and are looked at in
the same seconds. In each round one service is killed, and a server of the same kind is started by hand."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import life, processes
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.memory import role
from benchmarks.node import HOME, OUTPUT, MeasurementError, Place, put
from tests.testbed.trees import PILOT

NAME = "services"
COUNT = 5
WINDOW_SECONDS = 10.0
"""As long as the period of liveness: in each window every service is asked once."""
SETTLE_SECONDS = 12.0
"""Until HTCondor has joined the pool, and its first tests are over."""
BACKOFF_SECONDS = 0.1
EVENT_SECONDS = 30.0
POLL_SECONDS = 0.001
KIB_PER_MIB = 1024
LAYER = f"{HOME}/services.json"
OTHER_OUTPUT = f"{HOME}/output-without"
SERVER = ["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1"]
# By hand: from the start of the server until it answers.
BY_HAND = """import http.client, subprocess, sys, time
began = time.monotonic()
server = subprocess.Popen(sys.argv[2:] + [sys.argv[1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while True:
    try:
        asked = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
        asked.request("GET", "/")
        if asked.getresponse().status == 200:
            break
    except OSError:
        time.sleep(0.001)
print(time.monotonic() - began)
server.kill()"""
HAND_PORT = "18099"


@dataclass(frozen=True, slots=True)
class Keeper:
    """The resident process that supervises, and its pilot's workspace on the node."""

    pid: int
    workspace: Path

    @classmethod
    def of(cls, place: Place, guardian: int) -> Keeper:
        """The keeper below a guardian. Raises MeasurementError where there is none yet after some time."""
        until = time.monotonic() + EVENT_SECONDS
        while time.monotonic() < until:
            for pid in processes.own_processes(guardian):
                words = processes.arguments(pid)
                if role(words) == "keeper":
                    return cls(pid, place.worker.path(words[-1]))
            time.sleep(0.1)
        raise MeasurementError("the pilot has no keeper")

    def spent_seconds(self) -> float:
        """CPU time of the process itself, exact to a nanosecond."""
        return parse_schedstat((processes.PROC / str(self.pid) / "schedstat").read_text(encoding="ascii"))

    def events(self) -> list[dict[str, object]]:
        """What the pilot said so far."""
        text = (self.workspace / "events.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@dataclass(frozen=True, slots=True)
class Round:
    """Of one round: shares of a core, MiB, and seconds after a service was killed."""

    share: float
    share_without: float
    mib: float
    mib_without: float
    seen: float
    ready: float
    by_hand: float


def parse_schedstat(text: str) -> float:
    """Seconds on a processor (Documentation/scheduler/sched-stats.rst)."""
    return int(text.split(maxsplit=1)[0]) / 1e9


def measure(place: Place, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """The keeper's processor time and memory with services beside that without, and how soon a killed one is back.

    Raises MeasurementError when a service does not come, or something is left at the end.
    """
    _prepare(place)
    made: list[Round] = []
    with life.pilot(place, "--config", f"site={LAYER}") as started:
        with life.pilot(place, "--output", OTHER_OUTPUT) as other:
            ours, theirs = Keeper.of(place, started.guardian), Keeper.of(place, other.guardian)
            time.sleep(SETTLE_SECONDS)
            for turn in range(rounds):
                made.append(_one_round(place, started.guardian, ours, theirs))
                one = made[-1]
                say(
                    f"round {turn + 1}/{rounds}: {100 * one.share:.3f} and {100 * one.share_without:.3f} % of a core, "
                    f"{one.mib:.2f} and {one.mib_without:.2f} MiB, seen {1000 * one.seen:.1f} ms, "
                    f"ready {1000 * one.ready:.0f} ms, by hand {1000 * one.by_hand:.0f} ms"
                )
            life.stop(place, other, alone=False)
        life.stop(place, started)
    return figures(made)


def figures(made: list[Round]) -> list[Figure]:
    """What the rounds come to."""

    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(map(of, made))

    with_without = f"a keeper with {COUNT} healthy services, less one without, in the same {WINDOW_SECONDS:g} s"
    return [
        Figure(
            "services-cpu",
            "% of a core",
            Samples(with_without, tuple(100 * (one.share - one.share_without) for one in made)),
            goal=Goal(0.2),
            method="schedstat of both keepers; the services answer HTTP and are asked every 10 s, their logs are "
            "looked at every second, their memory every 5 s",
            parts={
                "with": median(lambda one: 100 * one.share),
                "without": median(lambda one: 100 * one.share_without),
            },
        ),
        Figure(
            "services-memory",
            "MiB",
            Samples(with_without, tuple(one.mib - one.mib_without for one in made)),
            goal=Goal(1.0),
            method="private memory (smaps_rollup) of both keepers at the end of each window",
            parts={"with": median(lambda one: one.mib), "without": median(lambda one: one.mib_without)},
        ),
        Figure(
            "services-seen",
            "s",
            Samples("SIGKILL to a service until the event of its end is written", tuple(one.seen for one in made)),
            goal=Goal(0.1),
            method=f"the file of events is read every {1000 * POLL_SECONDS:g} ms",
        ),
        Figure(
            "services-back",
            "s",
            Samples("SIGKILL to a service until it is ready again", tuple(one.ready for one in made)),
            Samples("the same server started by hand until it answers", tuple(one.by_hand for one in made)),
            method=f"with a pause (backoff_seconds) of {BACKOFF_SECONDS:g} s before its first start again; in "
            "'over' this pause and the server's own start are taken off",
            parts={"over": median(lambda one: one.ready - one.by_hand - BACKOFF_SECONDS)},
        ),
    ]


def _prepare(place: Place) -> None:
    service = {
        "command": [*SERVER, "{port:http}"],
        "ports": {"http": 0},
        "ready_http": "http/",
        "live_http": "http/",
        "backoff_seconds": BACKOFF_SECONDS,
        "backoff_limit_seconds": BACKOFF_SECONDS,
        "restart_limit": 1000,
        "memory_mib": 100,
    }
    layer = {"services": {f"server{number}": service for number in range(COUNT)}}
    put(place.worker, LAYER, json.dumps(layer).encode(), 0o644)
    for directory in (OUTPUT, OTHER_OUTPUT):
        place.worker.run(["install", "-d", "-m", "755", directory], user=PILOT.name)


def _one_round(place: Place, guardian: int, ours: Keeper, theirs: Keeper) -> Round:
    began, before, before_without = time.monotonic(), ours.spent_seconds(), theirs.spent_seconds()
    time.sleep(WINDOW_SECONDS)
    share, share_without = ours.spent_seconds() - before, theirs.spent_seconds() - before_without
    seconds = time.monotonic() - began
    mib, mib_without = (processes.memory(one.pid).private_kib / KIB_PER_MIB for one in (ours, theirs))
    seen, ready = _killed(guardian, ours)
    return Round(share / seconds, share_without / seconds, mib, mib_without, seen, ready, _by_hand(place))


def _killed(guardian: int, keeper: Keeper) -> tuple[float, float]:
    """Kill one service; seconds until its end was seen, and until it was ready again."""
    servers = [pid for pid in processes.descendants(guardian) if processes.arguments(pid)[: len(SERVER)] == SERVER]
    if len(servers) != COUNT:
        raise MeasurementError(f"{len(servers)} of {COUNT} services run")
    told = len(keeper.events())
    began = time.monotonic()
    os.kill(servers[0], signal.SIGKILL)
    found: dict[str, float] = {}
    while len(found) < 2:
        now = time.monotonic()
        if now - began > EVENT_SECONDS:
            raise MeasurementError(
                f"the service that was killed is not back; it was {' and '.join(found) or 'not seen'}"
            )
        for event in keeper.events()[told:]:
            name = str(event["event"])
            if name in ("service.ended", "service.ready"):
                found.setdefault(name, now - began)
        time.sleep(POLL_SECONDS)
    return found["service.ended"], found["service.ready"]


def _by_hand(place: Place) -> float:
    done = place.worker.run(["python3", "-I", "-c", BY_HAND, HAND_PORT, *SERVER], user=PILOT.name, cwd=HOME)
    if done.returncode != 0:
        raise MeasurementError(f"the server by hand: {done.stderr.strip()}")
    return float(done.stdout)
