"""Artifacts for 2,000 pilots that begin within seconds: the factory's own server beside nginx, the same files over the
same link of limited rate.

Two network namespaces are joined by a cable; the server's end of it sends no more than the rate. Each pilot has one
connection and asks as a pilot does: for the repository's metadata, for a newer root that is not there, and for what
it came for.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from benchmarks.factory_server import serving, write_configuration
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import REPOSITORY, MeasurementError
from tests.testbed.namespaces import DIE_WITH_STARTER, read_line

NAME = "factory-downloads"
PILOTS = 2000
WITHIN_SECONDS = 2.0
RATE = "1gbit"
LEAST_OF_PEER = 0.9
TARGET_BYTES = 1 << 20
METADATA_BYTES = {"timestamp.json": 600, "1.snapshot.json": 1200, "1.targets.json": 24_000}
ABSENT = "metadata/2.root.json"
SERVER, CLIENTS = "10.78.0.1", "10.78.0.2"
NGINX_PORT = 8090
PATIENCE_SECONDS = 600.0
NGINX = """daemon off; master_process on; worker_processes auto; pid {place}/nginx.pid; error_log {place}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; types {{ }} default_type application/octet-stream;
 client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
 uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
 server {{ listen {address}:{port} backlog=4096; root {root}; }} }}
"""


def measure(rounds: int, say: Callable[[str], None], *, pilots: int = PILOTS) -> list[Figure]:
    """How long it takes until all pilots have theirs. Raises ``MeasurementError``."""
    with tempfile.TemporaryDirectory() as name, _link() as (inside, outside):
        directory = Path(name)
        names = publish(directory / "artifacts")
        with ExitStack() as stack:
            configuration = write_configuration(directory, address=SERVER, artifacts="artifacts")
            ours = stack.enter_context(serving(configuration, inside))
            nginx = stack.enter_context(_nginx(directory, inside))
            bases = {"factory": f"{ours.port}/artifacts/", "nginx": f"{nginx}/"}
            seconds: dict[str, list[float]] = {one: [] for one in bases}
            before = psutil.Process(ours.process.pid).cpu_times()
            for number in range(rounds):
                order = list(bases) if number % 2 == 0 else list(reversed(bases))
                for one in order:
                    seconds[one].append(_download(outside, bases[one], names, pilots))
                say(f"{NAME}: round {number + 1}: " + ", ".join(f"{one} {seconds[one][-1]:.2f} s" for one in bases))
            after = psutil.Process(ours.process.pid).cpu_times()
    worked = after.user + after.system - before.user - before.system
    rate = {one: pilots * sum(names.values()) * 8e-6 / statistics.median(values) for one, values in seconds.items()}
    return [
        Figure(
            NAME,
            "s",
            Samples("the factory's own server", tuple(seconds["factory"])),
            Samples("nginx of Debian", tuple(seconds["nginx"])),
            Goal(1 / LEAST_OF_PEER, "ratio", note=f"{LEAST_OF_PEER:.0%} of the throughput of nginx"),
            method=f"{pilots} clients that begin within {WITHIN_SECONDS:g} s, a connection each: {len(names)} files of "
            f"{sum(names.values())} bytes and one that is not there; a link of {RATE} (tc tbf) between two network "
            "namespaces; until the last byte of the last client; every file's SHA-256 compared",
            parts={f"Mbit/s of {one}": value for one, value in rate.items()}
            | {"processor seconds of the factory's server for a round": worked / rounds},
        )
    ]


def publish(root: Path) -> dict[str, int]:
    """A repository as it is published, by name and size; what is asked for last is the largest."""
    sizes = {f"metadata/{name}": size for name, size in METADATA_BYTES.items()}
    target = os.urandom(TARGET_BYTES)
    sizes[f"targets/files/{hashlib.sha256(target).hexdigest()}.models.zip"] = TARGET_BYTES
    for name, size in sizes.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(target if size == TARGET_BYTES else os.urandom(size))
    return sizes


@contextmanager
def _link() -> Iterator[tuple[list[str], list[str]]]:
    """The words that run a program at each end of a cable, the first of which sends no faster than ``RATE``."""
    with ExitStack() as stack:
        ends = [_namespace(stack) for _ in range(2)]
        server, clients = ([*DIE_WITH_STARTER, "nsenter", f"--net=/proc/{pid}/ns/net"] for pid in ends)
        peer = ["peer", "name", "eth0", "netns", str(ends[1])]
        _do([*server, "ip", "link", "add", "eth0", "type", "veth", *peer])
        for inside, address in ((server, SERVER), (clients, CLIENTS)):
            _do([*inside, "ip", "address", "add", f"{address}/24", "dev", "eth0"])
            _do([*inside, "ip", "link", "set", "eth0", "up"])
            _do([*inside, "ip", "link", "set", "lo", "up"])
        shaped = ["root", "tbf", "rate", RATE, "burst", "512kb", "latency", "50ms"]
        _do([*server, "tc", "qdisc", "add", "dev", "eth0", *shaped])
        yield server, clients


def _namespace(stack: ExitStack) -> int:
    words = [*DIE_WITH_STARTER, "unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"]
    holder = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    stack.callback(holder.communicate)
    stack.callback(holder.kill)
    read_line(holder, "a network namespace")
    return holder.pid


def _do(words: Sequence[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MeasurementError(f"{' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def _nginx(directory: Path, inside: Sequence[str]) -> Iterator[int]:
    """Debian's, unpacked and not installed; its port, once it answers."""
    place = directory / "nginx"
    place.mkdir()
    got = subprocess.run(["apt-get", "download", "nginx"], cwd=place, capture_output=True, text=True, check=False)
    packages = list(place.glob("nginx_*.deb"))
    if not packages:
        raise MeasurementError(f"apt-get download nginx: {got.stderr[-300:]}")
    _do(["dpkg-deb", "--extract", str(packages[0]), str(place / "tree")])
    for path in (directory, place):
        path.chmod(0o755)  # its workers have an account of their own
    configuration = place / "nginx.conf"
    root = directory / "artifacts"
    configuration.write_text(NGINX.format(place=place, address=SERVER, port=NGINX_PORT, root=root))
    program = str(place / "tree" / "usr" / "sbin" / "nginx")
    words = [*inside, "sh", "-c", 'ulimit -n 16384; exec "$@"', "sh", program, "-e", f"{place}/error.log", "-c"]
    running = subprocess.Popen(
        [*words, str(configuration)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + 30
        script = f"import socket; socket.create_connection(('{SERVER}', {NGINX_PORT}), 2)"
        while subprocess.run([*inside, sys.executable, "-c", script], capture_output=True, check=False).returncode:
            if running.poll() is not None or time.monotonic() > end:
                running.kill()
                raise MeasurementError(f"nginx does not answer: {running.communicate()[1][-500:]}")
        yield NGINX_PORT
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)


def _download(outside: Sequence[str], base: str, names: dict[str, int], pilots: int) -> float:
    """All pilots at once, in a process of their own at the other end of the cable; seconds."""
    plan = json.dumps({"host": SERVER, "base": base, "names": names, "pilots": pilots})
    words = [*outside, sys.executable, "-m", "benchmarks.factory_downloads"]
    done = subprocess.run(
        words, input=plan, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True,
        text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise MeasurementError(f"the clients: {done.stderr[-800:]}")
    return float(done.stdout)


async def _pilots(plan: dict[str, object]) -> float:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16384)), hard))
    host, (port, _, prefix) = str(plan["host"]), str(plan["base"]).partition("/")
    names, number = plan["names"], plan["pilots"]
    assert isinstance(names, dict)
    assert isinstance(number, int)
    began = time.perf_counter()

    async def one(index: int) -> None:
        await asyncio.sleep(index * WITHIN_SECONDS / number)
        reader, writer = await asyncio.open_connection(host, int(port))
        for name in (ABSENT, *names):
            writer.write(f"GET /{prefix}{name} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await _answer(reader, name, names.get(name))
        writer.close()

    async with asyncio.TaskGroup() as group:
        for index in range(number):
            group.create_task(one(index))
    return time.perf_counter() - began


async def _answer(reader: asyncio.StreamReader, name: str, size: int | None) -> None:
    """Read one answer. Raises ``ValueError`` for one that is not what it must be."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    expected = 404 if size is None else 200
    if status != expected or (size is not None and length != size):
        raise ValueError(f"{name}: {status} with {length} bytes")
    digest = hashlib.sha256()
    while length:
        piece = await reader.read(min(length, 1 << 18))
        if not piece:
            raise ValueError(f"{name} ended {length} bytes early")
        length -= len(piece)
        digest.update(piece)
    if size is not None and name.startswith("targets/") and digest.hexdigest() not in name:
        raise ValueError(f"{name} is not what it was")


if __name__ == "__main__":
    print(asyncio.run(_pilots(json.load(sys.stdin))))
