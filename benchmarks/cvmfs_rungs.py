"""What each way to CVMFS adds to the mount stage, beside a pilot that asks for no repository."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import CONFIGURATION, HOME, NOTHING, PYZ, MeasurementError, Place, put
from tests.testbed.cvmfs.distribution import Distribution, Server
from tests.testbed.hosts import Host
from tests.testbed.trees import PILOT

OWN = ("namespace", "fusermount")
NAMES = ("cvmfs-native", *(f"cvmfs-{name}" for name in OWN))
REPOSITORIES = ("a.example.org", "b.example.org")
PLACE = f"{HOME}/cvmfs"
LAYER = f"{HOME}/cvmfs.json"
NATIVE_SECONDS = 0.05
WARMUP = 1
CHECK_SECONDS = 120.0


def measure(place: Place, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Seconds of the mount stage of `check`, each way minus no way, in alternating rounds.

    Raises MeasurementError when a way was not taken.
    """
    nothing = place.time_commands([NOTHING], rounds=rounds, warmup=1).seconds[0]
    with _repositories(place.worker) as distribution:
        wanted: dict[str, object] = {"repositories": list(REPOSITORIES)}
        ways: dict[str, dict[str, object]] = {"none": {"use": "never"}, "native": {**wanted, "rungs": ["native"]}}
        ways |= {name: {**wanted, "rungs": [name], "distribution": distribution.directory} for name in OWN}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(-WARMUP, rounds):
            for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
                took = _mount_stage(place, name, ways[name])
                if turn >= 0:
                    seconds[name].append(took)
            if turn >= 0:
                told = ", ".join(f"{name} {values[-1]:.3f} s" for name, values in seconds.items())
                say(f"round {turn + 1}/{rounds}: {told}")
    beside = {"python3 -c pass": statistics.median(nothing)}
    peer = seconds["none"]
    return [
        Figure(
            f"cvmfs-{name}",
            "s",
            Samples(
                f"the mount stage with the rung {name}, minus that without CVMFS",
                tuple(ours - theirs for ours, theirs in zip(seconds[name], peer, strict=True)),
            ),
            goal=Goal(NATIVE_SECONDS) if name == "native" else None,
            method="the stage's own time in the report of `check --json`, with two repositories of squashfuse mounts; "
            f"the ways alternate in {rounds} rounds",
            beside=beside,
            parts={
                "mount stage with it": statistics.median(seconds[name]),
                "mount stage without CVMFS": statistics.median(peer),
            },
        )
        for name in ("native", *OWN)
    ]


def _mount_stage(place: Place, name: str, cvmfs: Mapping[str, object]) -> float:
    put(place.worker, LAYER, json.dumps({"cvmfs": cvmfs}).encode(), 0o644)
    words = [PYZ, "check", "--json", "--config", f"factory={CONFIGURATION}", "--config", f"vo={LAYER}"]
    done = place.worker.run(words, user=PILOT.name, cwd=HOME, timeout_seconds=CHECK_SECONDS)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise MeasurementError(f"check printed no report: {done.stderr.strip()[-2000:]}") from None
    taken = [rung["name"] for rung in (report["cvmfs"] or {"rungs": []})["rungs"] if rung["state"] == "taken"]
    if name != "none" and taken != [name]:
        raise MeasurementError(f"{name} was not taken: {json.dumps(report['cvmfs'])[:2000]}")
    stages = [entry for entry in report["timeline"] if (entry["stage"], entry["what"]) == ("mount", "stage")]
    return float(stages[0]["seconds"])


@contextmanager
def _repositories(host: Host) -> Iterator[Distribution]:
    """A distribution with what it mounts, and the same repositories at /cvmfs as a site would have them."""
    server = Server(host, f"{PLACE}/server")
    server.publish_configuration()
    for name in REPOSITORIES:
        server.publish(name, {"new_repository": f"this is {name}\n"})
    places = [f"{PLACE}/client", f"{PLACE}/site"]
    for words in (["chmod", "755", PLACE], ["install", "-d", "-o", PILOT.name, "-g", PILOT.name, *places]):
        host.run(words)
    distribution, site = (Distribution.lay_out(server, path) for path in places)
    site.mount(*REPOSITORIES)
    host.run(["mkdir", "-p", "/cvmfs"])
    try:
        for name in REPOSITORIES:
            host.run(["mkdir", f"/cvmfs/{name}"])
            done = host.run(["mount", "--bind", site.point(name), f"/cvmfs/{name}"])
            if done.returncode != 0:
                raise MeasurementError(f"/cvmfs/{name}: {done.stderr.strip()}")
        yield distribution
    finally:
        for name in REPOSITORIES:
            host.run(["umount", "-l", f"/cvmfs/{name}"])
            host.run(["rmdir", f"/cvmfs/{name}"])
        host.run(["rmdir", "/cvmfs"])
        site.remove()
        server.remove()
        host.run(["rm", "-rf", PLACE])
