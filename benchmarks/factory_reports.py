"""Reports of 2,000 pilots a minute to a factory with SQLite: how long each waits for its answer, and whether all that
was answered is there after the server was killed.

Pilots come at their times whether or not those before them were answered, each with a connection of its own, as real
ones do; what is not taken is sent again.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import insert

from benchmarks.factory_server import Server, serving, trusting, write_configuration
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import REPOSITORY, MeasurementError
from pilot_agent.lifecycle.final_report import failure, set_end, set_outcome
from server_stub.entries import read_factory
from server_stub.factory.pilots import PilotState
from server_stub.factory.store import Store
from server_stub.factory.tables import PilotRow
from server_stub.factory.tokens import Tokens, load_key

NAME = "factory-reports"
PER_MINUTE = 2000
MOST_SECONDS = 0.250
STEADY_SECONDS = 60.0
KILLED_SECONDS = 20.0
"""For how long reports come in the part in which the server is killed; it is killed in the middle."""
AGAIN_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
PART = 0.99


@dataclass
class Sent:
    """What became of the reports of one part: seconds until each was answered, by pilot, and how often one had to be
    sent again."""

    seconds: dict[str, float] = field(default_factory=dict)
    again: int = 0
    processor_seconds: float = 0.0
    """Of the server, for each of them."""

    def percentile(self) -> float:
        """The time that 99 of 100 did not exceed."""
        ordered = sorted(self.seconds.values())
        return ordered[min(len(ordered) - 1, int(PART * len(ordered)))]


def measure(rounds: int, say: Callable[[str], None], *, steady_seconds: float = STEADY_SECONDS) -> list[Figure]:
    """The 99th percentile of each minute, and how many answered reports were lost, which must be none. Raises
    ``MeasurementError``."""
    report = recorded_report()
    steady: list[Sent] = []
    lost = killed = 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        configuration = write_configuration(directory, secure=True)
        for number in range(rounds):
            steady.append(_steady(configuration, report, f"s{number:02}", steady_seconds))
            sent = _with_kill(configuration, report, f"k{number:02}")
            killed += len(sent.seconds)
            lost += _lost(configuration, {**steady[-1].seconds, **sent.seconds})
            told = f"p99 {steady[-1].percentile() * 1000:.0f} ms, {sent.again} sent again, {lost} lost"
            say(f"{NAME}: round {number + 1}: {told}")
    if lost:
        raise MeasurementError(f"{lost} reports that the factory had answered were not there")
    size = len(json.dumps(report))
    return [
        Figure(
            NAME,
            "s",
            Samples("99th percentile of a minute", tuple(one.percentile() for one in steady)),
            goal=Goal(MOST_SECONDS),
            method=f"{PER_MINUTE} reports a minute of {size} bytes over HTTPS, each with a connection of its own, for "
            f"{steady_seconds:g} s; from the moment a pilot begins to the whole answer; one process, SQLite",
            parts={
                "median": statistics.median(statistics.median(one.seconds.values()) for one in steady),
                "processor time of the server for each": statistics.median(one.processor_seconds for one in steady),
                "longest": max(max(one.seconds.values()) for one in steady),
                "reports answered around a kill -9 (number)": float(killed),
                "of all answered lost (number)": float(lost),
            },
        )
    ]


def recorded_report() -> dict[str, Any]:
    """What `pilot-agent check` finds on this machine, as the report of a pilot that failed in the end: its size and
    shape are those of real ones."""
    command = [sys.executable, "-m", "pilot_agent", "check", "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise MeasurementError(f"{' '.join(command)} printed no report: {done.stderr[-300:]}") from error
    set_outcome(report, failure("node_resource", "disk.too_small", "the workspace has 812 MiB free"))
    set_end(report, [], 1.0, None)
    return report


def _steady(configuration: Path, report: Mapping[str, Any], prefix: str, seconds: float) -> Sent:
    tokens = _pilots(configuration, prefix, int(PER_MINUTE * seconds / 60))
    with serving(configuration) as server:
        process = psutil.Process(server.process.pid)
        before = process.cpu_times()
        sent = asyncio.run(_send_all(server, trusting(configuration.parent), report, tokens))
        after = process.cpu_times()
        sent.processor_seconds = (after.user + after.system - before.user - before.system) / len(tokens)
    if sent.again:
        raise MeasurementError(f"{sent.again} reports were refused while nothing was wrong")
    return sent


def _with_kill(configuration: Path, report: Mapping[str, Any], prefix: str) -> Sent:
    """The server is killed in the middle and started again, as systemd would."""
    tokens = _pilots(configuration, prefix, int(PER_MINUTE * KILLED_SECONDS / 60))
    with ExitStack() as stack:
        server = stack.enter_context(serving(configuration))

        def replace() -> None:
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            stack.enter_context(serving(configuration))

        sent = asyncio.run(_send_all(server, trusting(configuration.parent), report, tokens, replace))
    if not sent.again:
        raise MeasurementError("nobody noticed that the server was killed")
    return sent


def _pilots(configuration: Path, prefix: str, number: int) -> dict[str, str]:
    """So many running pilots in the store, and a token for each."""
    factory = read_factory(str(configuration))
    names = [f"{prefix}{one:05}" for one in range(number)]
    rows = [
        {
            "id": name, "entry": "site-0000", "site": "Example_T1", "payload": "pilot.sh", "sha256": "0" * 64,
            "state": PilotState.RUNNING.value, "submitted": time.time(), "directory": factory.pilot_directory(name),
        }
        for name in names
    ]  # fmt: skip
    with Store(factory.database) as store:
        with store.write() as session:
            session.execute(insert(PilotRow), rows)
        tokens = Tokens(factory.name, load_key(factory.state), store)
        return {name: tokens.issue(name) for name in names}


async def _send_all(
    server: Server,
    context: ssl.SSLContext,
    report: Mapping[str, Any],
    tokens: Mapping[str, str],
    in_the_middle: Callable[[], None] | None = None,
) -> Sent:
    """Every pilot at its time; half-way something may be done to the server, in a thread."""
    sent = Sent()
    began = time.perf_counter()
    pause = 60.0 / PER_MINUTE
    running: list[asyncio.Task[None]] = []
    done: asyncio.Future[None] | None = None
    for number, (name, token) in enumerate(tokens.items()):
        await asyncio.sleep(max(0.0, began + number * pause - time.perf_counter()))
        running.append(asyncio.create_task(_send(server, context, _own(report, name), name, token, sent)))
        if in_the_middle is not None and number == len(tokens) // 2:
            done = asyncio.get_running_loop().run_in_executor(None, in_the_middle)
    if done is not None:
        await done
    await asyncio.gather(*running)
    return sent


def _own(report: Mapping[str, Any], name: str) -> bytes:
    return json.dumps({**report, "pilot": {**report["pilot"], "id": name}}).encode()


async def _send(server: Server, context: ssl.SSLContext, body: bytes, name: str, token: str, sent: Sent) -> None:
    began = time.perf_counter()
    while time.perf_counter() < began + PATIENCE_SECONDS:
        try:
            status = await _post(server, context, body, name, token)
        except (OSError, EOFError, ValueError):  # killed: nothing was answered, or half of it
            status = 0
        if 200 <= status < 300:
            sent.seconds[name] = time.perf_counter() - began
            return
        sent.again += 1
        await asyncio.sleep(AGAIN_SECONDS)
    raise MeasurementError(f"the report of {name} was not taken within {PATIENCE_SECONDS:g} s")


async def _post(server: Server, context: ssl.SSLContext, body: bytes, name: str, token: str) -> int:
    reader, writer = await asyncio.open_connection(server.address, server.port, ssl=context)
    try:
        head = (
            f"POST /pilots/{name}/report HTTP/1.1\r\nHost: {server.address}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        return int(answer.split(b" ", 2)[1])
    finally:
        writer.close()


def _lost(configuration: Path, answered: Mapping[str, float]) -> int:
    """How many of those that were answered are not in the store as they were sent."""
    with Store(read_factory(str(configuration)).database) as store:
        found = ((name, store.report(name)) for name in answered)
        return sum(1 for name, report in found if report is None or report["pilot"]["id"] != name)
