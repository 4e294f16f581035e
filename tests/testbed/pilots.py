"""Pilots on the grid's hosts: started as a batch system would, watched from outside, searched for what they leave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed.grid import IMAGES_INSIDE, USER_POOL, Grid
from tests.testbed.hosts import Host
from tests.testbed.inspection import HostProcess
from tests.testbed.trees import PILOT

INSTALLED = "/opt/pilot"
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.02
WATCHED = ("/home/pilot", "/tmp", "/var/tmp", "/dev/shm")
"""Where a pilot could leave files on a host."""
PRODUCTS = ("report.json", "events.jsonl", "logs")
"""What a pilot may leave in its output directory."""
RUN_ATTRIBUTE = "PilotTestRun"
"""An attribute of the pilot's ad that tells a test's pilot from all others."""
NOT_ENDED = "still runs"

_numbers = itertools.count(1)
Json = Any


class PilotError(AssertionError):
    """Something that a pilot should have done did not happen; the message has its outputs' ends."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a pilot must leave as it was: files, mounts, processes of its account."""

    files: frozenset[str]
    mounts: tuple[str, ...]
    processes: tuple[str, ...]


def snapshot(host: Host) -> Snapshot:
    """Look at a host; sockets and other special files count as files."""
    files: set[str] = set()
    for directory in WATCHED:
        root = host.path(directory)
        for parent, directories, names in os.walk(root):
            shown = directory + parent.removeprefix(str(root))
            files.update(f"{shown}/{name}" for name in (*directories, *names))
    mounts = tuple(sorted(f"{mount.target} {mount.kind} {mount.source}" for mount in host.mounts()))
    return Snapshot(frozenset(files), mounts, tuple(_shown(process) for process in pilot_processes(host)))


def pilot_processes(host: Host) -> list[HostProcess]:
    """Every process of the pilots' account that has not ended."""
    return [process for process in host.processes() if process.uid == PILOT.uid and process.state not in "ZX"]


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
        "benchmarks": {"seconds": 0.01},
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
        self.name = f"run-{next(_numbers)}"
        self.start_directory = f"{PILOT.home}/{self.name}"
        self.payload = payload or ("sh" if host.plan.hidden else "pyz")
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

    def command(self, *words: str) -> list[str]:
        """The payload with a command, as it is started on this host."""
        unset = [word for name in self.unset for word in ("-u", name)]
        program = [f"{INSTALLED}/pilot.sh"]
        if self.payload == "pyz":
            program = ["python3", "-I", "-S", "-B", "-X", "utf8", f"{INSTALLED}/pilot.pyz"]
        return [*self.wrapper, *(["env", *unset] if unset else []), *program, *words]

    def start(self) -> PilotRun:
        """Start `run`; both outputs go to files of the outer machine. Gives itself back."""
        words = ["run", "--config", f"factory={self.start_directory}/factory.json", *self._output(), *self.arguments]
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
        while not (value := condition()):
            if time.monotonic() > until:
                raise PilotError(f"{self}: {what} did not happen in {seconds:g} s\n{self.story()}")
            time.sleep(POLL_SECONDS)
        return value

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

    @property
    def workspace(self) -> Path | None:
        """The workspace as the outer machine finds it; None when there is none below the start directory."""
        return next(iter(self.outer.glob("pilot-*")), None)

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
        return self._stream("stdout").read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        """Standard error so far."""
        return self._stream("stderr").read_text(encoding="utf-8", errors="replace")

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

    def signal(self, number: signal.Signals, role: str = "run") -> None:
        """Send a signal to one of the pilot's processes. Raises PilotError when it is not there."""
        if role == "run":
            self.host.signal(self.door, number)
            return
        process = self.wait_until(f"process {role}", lambda: self.process(role), 10)
        self.host.run(["kill", f"-{number.name.removeprefix('SIG')}", str(process.pid)])

    def signal_all(self, number: signal.Signals) -> None:
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

        def left() -> str:
            now = snapshot(self.host)
            files = {
                path
                for path in now.files - self.before.files - given
                if not path.startswith(tuple(f"{self.start_directory}/{name}/" for name in ("logs", "plugins")))
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

    def destroy(self) -> None:
        """End what a failed test left and delete the start directory."""
        if self._door is not None and self.running:
            self._door.kill()
            self._door.wait()
        for _ in range(50):
            pids = [str(process.pid) for process in self.processes()]
            if not pids:
                break
            self.host.run(["kill", "-KILL", *pids])
            time.sleep(0.05)
        shutil.rmtree(self.outer, ignore_errors=True)
        for kind in ("stdout", "stderr"):
            self._stream(kind).unlink(missing_ok=True)

    def story(self) -> str:
        """What a person needs who must find out why a test failed."""
        parts = [f"--- {name}\n{text[-1500:]}" for name, text in (("stdout", self.stdout), ("stderr", self.stderr))]
        lines = [json.dumps(event)[:400] for event in self.events()[-12:]]
        parts.append("--- events\n" + "\n".join(lines))
        parts.append("--- processes\n" + "\n".join(_shown(process) for process in self.processes()))
        return "\n".join(parts)

    def _complete(self, configuration: dict[str, Json]) -> dict[str, Json]:
        text = json.dumps(configuration).replace("{start}", self.start_directory)
        complete: dict[str, Json] = json.loads(text)
        attributes = complete.setdefault("startd", {}).setdefault("attributes", {})
        attributes.setdefault(RUN_ATTRIBUTE, self.name)
        return complete

    def _output(self) -> list[str]:
        return [] if "--output" in self.arguments else ["--output", self.start_directory]

    def _stream(self, kind: str) -> Path:
        return self.host.directory / f"{self.name}.{kind}"


def forged_token(identity: str) -> str:
    """A token that says the right things and was signed by somebody else (RFC 7519, HS256)."""

    def part(content: Mapping[str, Json] | bytes) -> str:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    payload = {"iss": USER_POOL.domain, "sub": identity, "iat": int(time.time()), "jti": os.urandom(8).hex()}
    head = f"{part({'alg': 'HS256', 'kid': 'POOL'})}.{part(payload)}"
    return f"{head}.{part(hmac.digest(b'somebody else', head.encode(), hashlib.sha256))}"


class Jobs:
    """User jobs in the user pool."""

    def __init__(self, grid: Grid) -> None:
        self._pool = grid.pool
        self._home = "/home/user"

    def submit(self, text: str, *, pilot: PilotRun | str, count: int = 1) -> Job:
        """Queue jobs that only this pilot (or the pilots of this name) may run."""
        name = pilot.name if isinstance(pilot, PilotRun) else pilot
        number = next(_numbers)
        wanted = "" if "requirements" in text else f'requirements = TARGET.{RUN_ATTRIBUTE} == "{name}"\n'
        common = (
            f"output = j{number}.$(Process).out\nerror = j{number}.$(Process).err\nlog = j{number}.log\n"
            "should_transfer_files = YES\nwhen_to_transfer_output = ON_EXIT\ntransfer_executable = false\n"
            "request_cpus = 1\nrequest_memory = 64M\nrequest_disk = 32M\njob_lease_duration = 20\n"
        )
        path = self._pool.path(f"{self._home}/j{number}.sub")
        path.write_text(common + wanted + text + f"\nqueue {count}\n", encoding="utf-8")
        done = self._pool.run(["condor_submit", "-terse", path.name], user="user", cwd=self._home)
        if done.returncode != 0:
            raise PilotError(f"condor_submit refused: {done.stderr}\n{path.read_text()}")
        return Job(self._pool, int(done.stdout.split(".")[0]), self._pool.path(f"{self._home}/j{number}"), count)

    def shell(self, script: str, *, pilot: PilotRun | str, extra: str = "", count: int = 1) -> Job:
        """Queue jobs that run a shell script of one line; it may hold no double quote."""
        quoted = script.replace("'", "''")
        return self.submit(f"executable = /bin/sh\narguments = \"-c '{quoted}'\"\n{extra}", pilot=pilot, count=count)


class Job:
    """One cluster of jobs."""

    def __init__(self, pool: Host, cluster: int, files: Path, count: int) -> None:
        self._pool = pool
        self.cluster = cluster
        self._files = files
        self.count = count

    @property
    def log(self) -> str:
        """The event log so far."""
        path = self._files.with_name(self._files.name + ".log")
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def events(self, number: int) -> int:
        """How often an event with this number is in the log: 1 executes, 4 evicted, 5 terminated, 12 held."""
        return sum(line.startswith(f"{number:03d} (") for line in self.log.splitlines())

    def wait_running(self, times: int = 1) -> Job:
        """Wait until every job executes (for the `times`-th time)."""
        self._wait("execute", lambda: self.events(1) >= times * self.count)
        return self

    def wait_evicted(self) -> Job:
        """Wait until every job that ran is back in the queue."""
        self._wait("go back to the queue", lambda: self.status() in ({1}, {2}) and self.events(4) + self.events(22) > 0)
        return self

    def wait_done(self, seconds: float = PATIENCE_SECONDS) -> Job:
        """Wait until every job has ended by itself."""
        self._wait("end", lambda: self.events(5) >= self.count, seconds)
        return self

    def exit_codes(self) -> list[int]:
        """The exit codes in the log, in the order of the ends."""
        marker = "Normal termination (return value "
        return [int(line.split(marker)[1].split(")")[0]) for line in self.log.splitlines() if marker in line]

    def output(self, process: int = 0) -> str:
        """Standard output of one job."""
        return self._files.with_name(f"{self._files.name}.{process}.out").read_text(encoding="utf-8", errors="replace")

    def error(self, process: int = 0) -> str:
        """Standard error of one job."""
        return self._files.with_name(f"{self._files.name}.{process}.err").read_text(encoding="utf-8", errors="replace")

    def attribute(self, name: str) -> list[str]:
        """An attribute of every job that is still in the queue."""
        return self._pool.run(["condor_q", str(self.cluster), "-af", name], user="user").stdout.split()

    def status(self) -> set[int]:
        """JobStatus of the jobs in the queue: 1 idle, 2 running, 5 held."""
        return {int(word) for word in self.attribute("JobStatus")}

    def remove(self) -> None:
        """Take what is left out of the queue, at once."""
        for words in (["condor_rm", str(self.cluster)], ["condor_rm", "-forcex", str(self.cluster)]):
            self._pool.run(words, user="user")

    def _wait(self, what: str, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if self.events(12):
                raise PilotError(f"job {self.cluster} was held\n{self.log}")
            if time.monotonic() > until:
                analysis = self._pool.run(["condor_q", "-better-analyze", str(self.cluster)], user="user").stdout
                raise PilotError(f"job {self.cluster} did not {what} in {seconds:g} s\n{self.log}\n{analysis[-2500:]}")
            time.sleep(0.05)


def slot_ads(grid: Grid, pilot: PilotRun, constraint: str = "true") -> list[dict[str, Json]]:
    """The ads of a pilot's slots as the user pool knows them."""
    wanted = f'{RUN_ATTRIBUTE} == "{pilot.name}" && ({constraint})'
    done = grid.pool.run(["condor_status", "-json", "-constraint", wanted])
    ads: list[dict[str, Json]] = json.loads(done.stdout) if done.stdout.strip() else []
    return ads


def _shown(process: HostProcess) -> str:
    return f"{process.pid} {process.state} {' '.join(process.argv)[:200]}"
