"""One point under way: a pilot on a node of its own, what can be done to it, and what can be seen of it."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.chaos import gates, ledger, programs
from tests.chaos.ground import CLIENT, CONTROL_DIRECTORY, REPOSITORY, RUNGS, Ground
from tests.chaos.ledger import PointJob, made_by_job
from tests.chaos.traces import BACKING
from tests.testbed.hosts import Host
from tests.testbed.pilots import PATIENCE_SECONDS, PilotError, PilotRun, merged
from tests.testbed.trees import PILOT

POLL_SECONDS = 0.005
MOUNTS = "/srv/chaos"
ROLES = ("guardian", "pipeline", "keeper", "master", "startd", "starter")
SIGHT_SECONDS = 40.0
"""How long the suite looks for something that need not happen."""
PATIENCE = 90.0
"""Seconds that the machine may take for what happens at once when it has nothing else to do."""


class ChaosPilot(PilotRun):
    """A pilot whose workspace may lie elsewhere than in its start directory."""

    scratch: Path | None = None

    @property
    def workspace(self) -> Path | None:
        """The workspace as the outer machine finds it, past any file system that was put over it."""
        places = [self.outer] if self.scratch is None else [self.scratch]
        found = (path for place in places for path in place.glob("pilot-*"))
        return next((path for path in found if not path.name.startswith("pilot-runtime")), None)


class Arena:
    """What a fault gets to work with. `undo` holds what puts the node right again, `notes` goes to the evidence."""

    def __init__(self, ground: Ground, node: Host, stage: str, payload: str) -> None:
        self.ground = ground
        self.node = node
        self.stage = stage
        self.payload = payload
        self.plugins: dict[str, str] = {}
        self.changes: dict[str, Any] = {
            "time": {"vacate_seconds": 3},
            "cvmfs": {"distribution": CLIENT, "repositories": [REPOSITORY], "rungs": [RUNGS[payload]]},
        }
        self.script = ledger.STUBBORN_JOB if stage == "teardown" else ledger.PATIENT_JOB
        self.job_count = 1
        self.undo = ExitStack()
        self.notes: dict[str, Any] = {}
        self.control: Path | None = None
        self.backing: Path | None = None
        self.job: PointJob | None = None
        self._pilot: ChaosPilot | None = None
        if stage in gates.GATED:
            self.plugins["gate"] = gates.gate(stage)
        if stage in gates.WITH_SERVICES:
            self.plugins["bystanders"] = gates.plugin(gates.BYSTANDERS)

    @property
    def pilot(self) -> ChaosPilot:
        """The pilot of this point. Raises PilotError before it was made."""
        if self._pilot is None:
            raise PilotError("the point has no pilot yet")
        return self._pilot

    def make_pilot(self) -> ChaosPilot:
        """Make the pilot, not yet started."""
        self._pilot = self.another_pilot(self.plugins)
        return self._pilot

    def another_pilot(self, plugins: Mapping[str, str]) -> ChaosPilot:
        """A pilot with the configuration of this point, other plugins, and the same scratch directory."""
        made = ChaosPilot(
            self.node, self.ground.pilot_token, self.changes, payload=self.payload, plugins=plugins,
        )  # fmt: skip
        made.scratch = self.backing
        return made

    def mark(self, name: str) -> Path:
        """A file by which gate and suite speak to each other."""
        return self.pilot.outer / "plugins" / name

    def open_gate(self) -> None:
        """Let the pilot go on from the stage in which it is held."""
        with suppress(OSError):
            self.mark("go").touch()

    def ended(self) -> bool:
        """Whether the guardian has ended."""
        return not self.pilot.running

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """The first true value of a condition, None once the pilot has ended. Raises PilotError when neither comes."""
        until = time.monotonic() + seconds
        while not (value := condition()):
            if self.ended():
                return condition() or None
            if time.monotonic() > until:
                raise PilotError(f"{what} did not happen in {seconds:g} s")
            time.sleep(POLL_SECONDS)
        return value

    def see(self, condition: Callable[[], Any]) -> Any:
        """The value of a condition as soon as it is true, and in the end whatever it is: what is seen is noted and
        decides nothing."""
        try:
            return self.wait("", condition, SIGHT_SECONDS)
        except PilotError:
            return None

    def need(self, what: str, condition: Callable[[], Any]) -> Any:
        """As `wait`, but a pilot that ends first is an error."""
        value = self.wait(what, condition)
        if not value:
            raise PilotError(f"the pilot ended with {self.pilot.door.returncode} before {what}")
        return value

    def happened(self, event: str, **fields: Any) -> bool:
        """Whether the event log has an event with these fields."""
        return any(one["event"] == event and fields.items() <= one.items() for one in self.pilot.events())

    def queue_job(self) -> None:
        """Queue the point's job."""
        if self.job is None:
            self.job = PointJob(self.ground.pool, self.pilot.name, self.script, self.job_count)

    def job_file(self, name: str) -> Path | None:
        """A file that the running job made, or None."""
        return made_by_job(self.pilot.workspace, name)

    def finish_job(self) -> None:
        """Tell the job that it may end."""
        path = self.job_file(ledger.READY)
        if path is not None:
            with suppress(OSError):
                path.with_name(ledger.FINISH).touch(mode=0o644)

    def tree(self) -> list[int]:
        """The guardian and every process below it, as the outer machine numbers them, parents first."""
        found: list[int] = []
        level = _children(self.pilot.door.pid)
        while level:
            found += level
            level = [child for pid in level for child in _children(pid)]
        return found

    def find(self, role: str) -> int | None:
        """The number, in the outer machine, of the process with this part; None when it is not there."""
        return next((pid for pid in self.tree() if _role(pid) == role), None)

    def strike(self, role: str, number: signal.Signals) -> None:
        """Send a signal to one of the pilot's processes. Raises PilotError when it does not come up."""
        pid = self.need(f"the {role}", lambda: self.find(role))
        self.notes["struck_pid"] = pid
        os.kill(pid, number)

    def strike_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of the pilots' account on the node, as a batch system would."""
        self.node.run(["pkill", f"-{number.name.removeprefix('SIG')}", "-u", PILOT.name])

    def put_under_workspace(self) -> None:
        """Let the workspace lie on a file system that can fail."""
        mount, self.backing = self.mount("workspace")
        self.changes = merged(self.changes, {"site": {"scratch": [mount]}})

    def mount(self, name: str) -> tuple[str, Path]:
        """Mount a file system that can fail: where the node sees it, and the outer directory behind it."""
        inside, behind = f"{MOUNTS}/{name}", f"{BACKING}/{name}"
        for path in (inside, behind):
            self.node.path(path).mkdir(parents=True, exist_ok=True)
            os.chown(self.node.path(path), PILOT.uid, PILOT.uid)
        self.control = self.node.path(f"{CONTROL_DIRECTORY}/control-{name}")
        self.control.write_bytes(programs.PASS + bytes(programs.CONTROL_BYTES - 1))
        control = f"{CONTROL_DIRECTORY}/control-{name}"
        options = ["-f", "-o", "allow_other,default_permissions,nodev,nosuid"]
        with (self.node.directory / "faulty_fs.log").open("a") as log:
            door = self.node.popen(
                [f"{CONTROL_DIRECTORY}/faulty_fs", behind, control, *options, inside], stdout=log, stderr=log
            )
        self.undo.callback(self._unmount, door, inside)
        until = time.monotonic() + PATIENCE_SECONDS
        while not any(mount.target == inside for mount in self.node.mounts()):
            if door.poll() is not None or time.monotonic() > until:
                raise PilotError(f"the faulty file system did not come up: {(self.node.directory / 'faulty_fs.log')}")
            time.sleep(POLL_SECONDS)
        return inside, self.node.path(behind)

    def _unmount(self, door: Any, inside: str) -> None:
        self.misbehave(programs.PASS)
        self.node.run(["umount", "-l", inside])
        self.node.signal(door, signal.SIGTERM)
        door.wait(30)

    def misbehave(self, mode: bytes) -> None:
        """Tell the file system how to fail from now on."""
        if self.control is not None:
            with self.control.open("r+b") as file:
                file.write(mode)

    def refused(self) -> int:
        """How many requests the file system refused or kept waiting so far."""
        if self.control is None:
            return 0
        count: int = struct.unpack_from("<I", self.control.read_bytes(), programs.COUNTER_AT)[0]
        return count


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listing in _tasks(pid):
        with suppress(OSError):
            found += [int(word) for word in listing.read_text(encoding="ascii").split()]
    return found


def _tasks(pid: int) -> Iterator[Path]:
    with suppress(OSError):
        yield from [Path(f"/proc/{pid}/task/{task}/children") for task in os.listdir(f"/proc/{pid}/task")]


def _role(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    name = words[0].rsplit(b"/", 1)[-1].decode(errors="replace")
    if name.startswith("condor_"):
        return name.removeprefix("condor_")
    if not any(b"pilot.pyz" in word or b"pilot.sh" in word or b"pilot-runtime" in word for word in words):
        return ""
    return next((role for word, role in ((b"_pipeline", "pipeline"), (b"_keeper", "keeper"), (b"run", "guardian"))
                 if word in words), "")  # fmt: skip
