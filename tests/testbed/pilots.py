"""Pilots on the grid's hosts: started as a batch system would, watched from outside, searched for what they leave."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import Any

from tests.testbed.grid import IMAGES_INSIDE, USER_POOL
from tests.testbed.hosts import Host
from tests.testbed.inspection import HostProcess
from tests.testbed.leftovers import pilot_processes, shown, snapshot, strike_from_list
from tests.testbed.trees import PILOT

INSTALLED = "/opt/pilot"
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.02
PRODUCTS = ("report.json", "events.jsonl", "logs")
"""What a pilot may leave in its output directory."""
OTHER_START = re.compile(rf"{PILOT.home}/run-\d+(/|$)")
RUN_ATTRIBUTE = "PilotTestRun"
"""An attribute of the pilot's ad that tells a test's pilot from all others."""
NOT_ENDED = "still runs"

_numbers = itertools.count(1)
Json = Any


def pause(began: float) -> None:
    """Wait between two looks, of which the last one began at this time: one that starts a program of HTCondor's may not
    keep a core busy that the others' pilots need."""
    time.sleep(max(POLL_SECONDS, time.monotonic() - began))


class PilotError(AssertionError):
    """Something that a pilot should have done did not happen; the message has its outputs' ends."""


def install_payload(host: Host, built: Path) -> None:
    """Put both payloads and the launcher on a host. Raises PilotError for one that was not built."""
    directory = host.path(INSTALLED)
    directory.mkdir(exist_ok=True)
    launcher = Path(__file__).resolve().parents[2] / "packaging" / "launcher.sh"
    for source in (built / "pilot.pyz", built / "pilot.sh", launcher):
        if not source.exists():
            raise PilotError(f"{source} does not exist; run `make payload` first")
        shutil.copyfile(source, directory / source.name)
        (directory / source.name).chmod(0o755)


def base_configuration() -> dict[str, Json]:
    """What most pilots of the tests have in common; `{start}` is the pilot's start directory."""
    return {
        "pool": {"collectors": [f"{USER_POOL.head}:9618"], "token": "{start}/pool.token", "join_seconds": 20},
        "site": {"name": "Testbed", "containers": "required"},
        "vo": {"name": "example", "containers": "preferred"},
        "images": {
            "debian13": [{"path": f"{IMAGES_INSIDE}/debian13"}],
            "debian12": [{"path": f"{IMAGES_INSIDE}/debian12"}],
        },
        "startd": {"idle_shutdown_seconds": 600},
        "time": {"vacate_seconds": 3},
        "on_failure": {"hold_seconds": 0},
        "benchmarks": {"seconds": 0.01, "budget_seconds": 1000},
    }


def merged(base: Mapping[str, Json], changes: Mapping[str, Json]) -> dict[str, Json]:
    """`base` with the changes laid over it; mappings are joined, a None removes."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and key != "images":
            result[key] = merged(result[key], value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


class PilotRun:
    """One pilot on one host, in a start directory of its own, where its output goes too."""

    def __init__(
        self,
        host: Host,
        token: str | None,
        changes: Mapping[str, Json] | None = None,
        *,
        payload: str | None = None,
        user: str = PILOT.name,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        unset: Sequence[str] = (),
        wrapper: Sequence[str] = (),
        plugins: Mapping[str, str] | None = None,
    ) -> None:
        self.host = host
        self.token = token
        self.name = f"run-{next(_numbers)}"
        self.start_directory = f"{PILOT.home}/{self.name}"
        self.payload = payload or ("sh" if host.plan.hidden else "pyz")
        self.program = [f"{INSTALLED}/pilot.sh"]
        if self.payload == "pyz":
            self.program = ["python3", "-I", "-S", "-B", "-X", "utf8", f"{INSTALLED}/pilot.pyz"]
        self.user = user
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.unset = tuple(unset)
        self.wrapper = list(wrapper)
        self._door: subprocess.Popen[str] | None = None
        self.before = snapshot(host)
        self.outer = host.path(self.start_directory)
        self.outer.mkdir(mode=0o755)
        for name, source in (plugins or {}).items():
            (self.outer / "plugins").mkdir(exist_ok=True)
            (self.outer / "plugins" / f"{name}.py").write_text(source, encoding="utf-8")
        if plugins:
            changes = merged(
                {"plugins": {"directories": [f"{self.start_directory}/plugins"], "load": sorted(plugins)}},
                changes or {},
            )
        self.configuration = self._complete(merged(base_configuration(), changes or {}))
        self.write("factory.json", json.dumps(self.configuration))
        self.factory_file = f"{self.start_directory}/factory.json"
        if user == "root":
            self._give_root_its_file()
        if token is not None:
            self.write("pool.token", token + "\n", mode=0o600)
        for path in (self.outer, *self.outer.rglob("*")):
            os.chown(path, PILOT.uid, PILOT.uid)

    def __repr__(self) -> str:
        return f"PilotRun({self.name} on {self.host.plan.name})"

    def write(self, name: str, text: str, *, mode: int = 0o644) -> Path:
        """Put a file of the pilot's account into the start directory."""
        path = self.outer / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        os.chown(path, PILOT.uid, PILOT.uid)
        return path

    def look_again(self) -> None:
        """What is on the host now is not the pilot's: for a test that mounts or makes something itself."""
        self.before = snapshot(self.host)

    def command(self, *words: str) -> list[str]:
        """The payload with a command, as it is started on this host."""
        unset = [word for name in self.unset for word in ("-u", name)]
        return [*self.wrapper, *(["env", *unset] if unset else []), *self.program, *words]

    def start(self) -> PilotRun:
        """Start `run`; both outputs go to files of the outer machine. Gives itself back."""
        words = ["run", "--config", f"factory={self.factory_file}", *self._output(), *self.arguments]
        with self._stream("stdout").open("w") as out, self._stream("stderr").open("w") as err:
            self._door = self.host.popen(
                self.command(*words), user=self.user, cwd=self.start_directory, env=self.environment, stdout=out,
                stderr=err,
            )  # fmt: skip
        return self

    def call(self, *words: str, timeout_seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run another command of the payload to its end, in the start directory."""
        return self.host.run(
            self.command(*words), user=self.user, cwd=self.start_directory, env=self.environment,
            timeout_seconds=timeout_seconds,
        )  # fmt: skip

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """The pilot's exit code as its starter sees it: -N for signal N. Raises PilotError when it does not end."""
        try:
            return self.door.wait(seconds)
        except subprocess.TimeoutExpired:
            raise PilotError(f"{self} {NOT_ENDED} after {seconds:g} s\n{self.story()}") from None

    def run(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Start and wait."""
        return self.start().wait(seconds)

    @property
    def door(self) -> subprocess.Popen[str]:
        """The door behind which the guardian runs."""
        if self._door is None:
            raise PilotError(f"{self} was not started")
        return self._door

    @property
    def running(self) -> bool:
        """Whether the guardian lives."""
        return self.door.poll() is None

    def wait_until(self, what: str, condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
        """The first true value of a condition. Raises PilotError with the pilot's story when it does not come."""
        until = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            if value := condition():
                return value
            if time.monotonic() > until:
                raise PilotError(f"{self}: {what} did not happen in {seconds:g} s\n{self.story()}")
            pause(began)

    def wait_for(self, event: str, **fields: Json) -> dict[str, Json]:
        """Wait for an event with these fields while the pilot runs. Raises PilotError when it ends without it."""

        def seen() -> dict[str, Json] | None:
            ended = not self.running
            found = [one for one in self.events() if one["event"] == event and fields.items() <= one.items()]
            if not found and ended:
                raise PilotError(f"{self} ended with {self.door.returncode} before {event} {fields}\n{self.story()}")
            return found[0] if found else None

        found: dict[str, Json] = self.wait_until(f"event {event} {fields}", seen)
        return found

    def joined(self) -> PilotRun:
        """Wait until condor_master was started."""
        self.wait_for("condor.started")
        return self

    def job_file(self, name: str) -> Path:
        """Wait until a running job has made a file of this name in its directory; its path in the outer machine."""
        # A starter with a PID namespace of its own makes its directory in one that is its own too.
        places = [f"pilot-*/condor/execute/{inner}/{name}" for inner in ("dir_*/dir_*", "dir_*")]

        def look() -> Path | None:
            return next((path for place in places for path in self.outer.glob(place)), None)

        found: Path = self.wait_until(f"job's file {name}", look)
        return found

    @property
    def workspace(self) -> Path | None:
        """The workspace as the outer machine finds it; None when there is none below the start directory."""
        return next((path for path in self.outer.glob("pilot-*") if not path.name.startswith("pilot-runtime")), None)

    def events(self) -> list[dict[str, Json]]:
        """The events so far, from the workspace or, at the end, from the output directory."""
        workspace = self.workspace
        for path in ([workspace / "events.jsonl"] if workspace else []) + [self.outer / "events.jsonl"]:
            with suppress(OSError):
                lines = path.read_text(encoding="utf-8").splitlines()
                return [json.loads(line) for line in lines if line.endswith("}")]
        return []

    def report(self) -> dict[str, Json]:
        """The published report. Raises PilotError when there is none."""
        try:
            report: dict[str, Json] = json.loads((self.outer / "report.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise PilotError(f"{self} left no report ({error.strerror})\n{self.story()}") from None
        return report

    def failure(self) -> dict[str, Json]:
        """The failure in the report."""
        failure: dict[str, Json] | None = self.report()["outcome"]["failure"]
        if failure is None:
            raise PilotError(f"{self} reports no failure\n{self.story()}")
        return failure

    @property
    def stdout(self) -> str:
        """Standard output so far."""
        return self._said("stdout")

    @property
    def stderr(self) -> str:
        """Standard error so far."""
        return self._said("stderr")

    def _said(self, kind: str) -> str:
        """Nothing where another than this object started it, such as a batch system."""
        path = self._stream(kind)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def log(self, name: str) -> str:
        """A log that the pilot returned."""
        return (self.outer / "logs" / name).read_text(encoding="utf-8", errors="replace")

    def processes(self) -> list[HostProcess]:
        """The processes of the pilots' account on this host."""
        return pilot_processes(self.host)

    def process(self, role: str) -> HostProcess | None:
        """The guardian ("run"), "_pipeline", "_keeper", or a program by its name."""
        for process in self.processes():
            words = process.argv
            if role in ("_pipeline", "_keeper", "run"):
                if role in words and any("pilot.pyz" in word or "pilot.sh" in word for word in words):
                    return process
            elif os.path.basename(words[0]) == role:
                return process
        return None

    def signal(self, number: Signals, role: str = "run") -> None:
        """Send a signal to one of the pilot's processes. Raises PilotError when it is not there."""
        if role == "run":
            self.host.signal(self.door, number)
            return
        process = self.wait_until(f"process {role}", lambda: self.process(role))
        self.host.run(["kill", f"-{number.name.removeprefix('SIG')}", str(process.pid)])

    def signal_all(self, number: Signals) -> None:
        """Send a signal to every process of the pilots' account on this host at once, as a batch system would."""
        self.host.run(["pkill", f"-{number.name.removeprefix('SIG')}", "-u", PILOT.name])

    def nothing_left(self, *, allowed: Sequence[str] = PRODUCTS, seconds: float = 5.0) -> None:
        """Raise PilotError when processes, mounts or files are there that were not before.

        Processes whose end the kernel is still working on get `seconds`; everything else must be gone at once
        after that. `allowed` are names in the start directory.
        """
        given = {self.start_directory}
        for name in ("factory.json", "pool.token", "plugins", *allowed):
            given.add(f"{self.start_directory}/{name}")

        own = tuple(f"{self.start_directory}/{name}/" for name in ("logs", "plugins"))

        def left() -> str:
            now = snapshot(self.host)
            files = {
                path
                for path in now.files - self.before.files - given
                if not path.startswith(own) and not OTHER_START.match(path.removeprefix(self.start_directory + "/"))
            }
            mounts = set(now.mounts) - set(self.before.mounts)
            processes = set(now.processes) - set(self.before.processes)
            found = {"processes": sorted(processes), "mounts": sorted(mounts), "files": sorted(files)[:20]}
            return json.dumps({kind: items for kind, items in found.items() if items}, indent=1)

        until = time.monotonic() + seconds
        while (found := left()) != "{}":
            if time.monotonic() > until:
                raise PilotError(f"{self} left on {self.host.plan.name}: {found}\n{self.story()}")
            time.sleep(0.1)

    def end_now(self) -> None:
        """Kill the guardian if it still lives; the keeper then ends the rest."""
        if self._door is not None and self.running:
            self._door.kill()
            self._door.wait()

    def destroy(self) -> None:
        """End what a failed test left and delete the start directory."""
        self.end_now()
        for _ in range(50):
            pids = [str(process.pid) for process in self.processes()]
            if not pids:
                break
            self.host.run(["kill", "-KILL", *pids])
            time.sleep(0.05)
        strike_from_list(self.host, self.outer.glob("pilot-*"))
        shutil.rmtree(self.outer, ignore_errors=True)
        self.host.path(f"{INSTALLED}/{self.name}.json").unlink(missing_ok=True)
        for kind in ("stdout", "stderr"):
            self._stream(kind).unlink(missing_ok=True)

    def story(self) -> str:
        """What a person needs who must find out why a test failed."""
        parts = [f"--- {name}\n{text[-1500:]}" for name, text in (("stdout", self.stdout), ("stderr", self.stderr))]
        lines = [json.dumps(event)[:400] for event in self.events()[-12:]]
        parts.append("--- events\n" + "\n".join(lines))
        parts.append("--- processes\n" + "\n".join(shown(process) for process in self.processes()))
        logs = [*self.outer.glob("pilot-*/condor/log/StartLog"), *self.outer.glob("logs/condor/StartLog")]
        parts += [f"--- {path.name}\n{path.read_bytes()[-2500:].decode('utf-8', 'replace')}" for path in logs]
        return "\n".join(parts)

    def _complete(self, configuration: dict[str, Json]) -> dict[str, Json]:
        text = json.dumps(configuration).replace("{start}", self.start_directory)
        complete: dict[str, Json] = json.loads(text)
        attributes = complete.setdefault("startd", {}).setdefault("attributes", {})
        attributes.setdefault(RUN_ATTRIBUTE, self.name)
        return complete

    def _give_root_its_file(self) -> None:
        """Root reads no configuration that another account could change."""
        self.factory_file = f"{INSTALLED}/{self.name}.json"
        shutil.copyfile(self.outer / "factory.json", self.host.path(self.factory_file))

    def _output(self) -> list[str]:
        return [] if "--output" in self.arguments else ["--output", self.start_directory]

    def _stream(self, kind: str) -> Path:
        return self.host.directory / f"{self.name}.{kind}"
