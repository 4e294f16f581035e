"""The figure of the hook before a job whose image is remote: what it costs once the image is in the node's store."""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
from collections.abc import Callable

from benchmarks import life
from benchmarks.estimate import differences
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import BARE_APPTAINER, HOME, NOTHING, MeasurementError, Place, put
from tests.testbed.grid import IMAGES_INSIDE
from tests.testbed.image_server import ImageServer, image_server
from tests.testbed.trees import PILOT

LAYER = f"{HOME}/far.json"
AUTHORITY = f"{HOME}/ca.pem"
JOBS = {"far": 'REQUIRED_OS = "far"', "near": 'REQUIRED_OS = "debian13"'}
AD = 'Cmd = "/bin/true"\nJobUniverse = 5\nShouldTransferFiles = "YES"\n'
GOAL_SECONDS = 0.1
FETCH_SECONDS = 60.0


def measure(place: Place, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """The hook as HTCondor calls it, for a job with a remote image and for one with an image of the node.

    Raises MeasurementError when the remote image does not get into the store.
    """
    with image_server(place.grid) as server:
        _prepare(place, server)
        with life.pilot(place, "--config", f"vo={LAYER}", environment={"SSL_CERT_FILE": AUTHORITY}) as started:
            place.slot_ad(started.master.wall)
            commands = [_hook(place, job) for job in JOBS]
            _fetch(place, commands[0])
            timed = place.time_commands([*commands, BARE_APPTAINER, NOTHING], rounds=rounds, warmup=1)
            life.stop(place, started)
    far, near, apptainer, nothing = timed.seconds
    say(f"hook: remote image {statistics.median(far):.3f} s, the node's {statistics.median(near):.3f} s")
    return [
        Figure(
            "first-use-hook",
            "s",
            Samples("hook before a job with a remote image", tuple(far)),
            Samples("bare apptainer exec", tuple(apptainer)),
            Goal(GOAL_SECONDS),
            method="the pilot's prepare-job hook on wn1 as user pilot, called with the ad of a job that asks for a "
            "platform whose image was fetched and proven before, wall time from posix_spawn to wait; alternating",
            beside={"python3 -c pass": statistics.median(nothing), "apptainer exec": statistics.median(apptainer)},
            parts={
                "of an image of the node": statistics.median(near),
                "more for the remote image": statistics.median(differences(far, near)),
                "processes": statistics.median(timed.processes[0]),
            },
        )
    ]


def _prepare(place: Place, server: ImageServer) -> None:
    name = "debian12.sif"
    shutil.copyfile(place.grid.pool.path(f"{IMAGES_INSIDE}/{name}"), server.files / name)
    layer = {"images": {"far": [{"path": f"{server.url}{name}"}]}}
    put(place.worker, LAYER, json.dumps(layer).encode(), 0o644)
    put(place.worker, AUTHORITY, server.certificate.encode(), 0o644)
    for job, line in JOBS.items():
        put(place.worker, f"{HOME}/{job}.ad", f"{AD}{line}\n".encode(), 0o644)


def _hook(place: Place, job: str) -> tuple[str, ...]:
    found = list(place.worker.path(HOME).glob("pilot-*/private/condor/libexec/pilot_guard"))
    if len(found) != 1:
        raise MeasurementError(f"{len(found)} hooks below {HOME}")
    inside = f"{HOME}/{found[0].relative_to(place.worker.path(HOME))}"
    # The hook's parent uses the image, as HTCondor's starter does: the shell waits for it.
    return ("/bin/sh", "-c", f"{shlex.quote(inside)} < {HOME}/{job}.ad || exit")


def _fetch(place: Place, command: tuple[str, ...]) -> None:
    done = place.worker.run(command, user=PILOT.name, cwd=HOME, timeout_seconds=FETCH_SECONDS)
    if "SingularityImage = " not in done.stdout or done.returncode != 0:
        raise MeasurementError(f"the image was not fetched: {done.stdout} {done.stderr}")
