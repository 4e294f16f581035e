"""A host: a Debian tree, run in namespaces of its own, that tests can enter, look into, cut off and stop."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tests.testbed.inspection import HostMount, HostProcess, belongs_to_host, parse_mount, read_process, resolve
from tests.testbed.namespaces import NEW_HOST, StartError, enter, read_line
from tests.testbed.network import PREFIX_LENGTH, Link, Network
from tests.testbed.trees import ACCOUNTS

INIT = Path(__file__).with_name("host_init.sh")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STOP_TIMEOUT_SECONDS = 120.0
_ACCOUNTS: Mapping[str, tuple[int, str]] = {"root": (0, "/root")} | {a.name: (a.uid, a.home) for a in ACCOUNTS}
NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the outer machine that a host sees."""

    outer: Path
    inside: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What a host is.

    `hidden` are glob patterns, relative to the tree's root, of what this host does not have. `names` maps
    host names to addresses for /etc/hosts; its own is added. `over` are directories laid over the tree, the uppermost
    first.
    """

    name: str
    address: str
    tree: Path
    domain: str
    names: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    over: tuple[Path, ...] = ()


class Host:
    """One machine of the grid. Its disk is an overlay on the tree, so it keeps its files over stop and start."""

    def __init__(self, plan: HostPlan, directory: Path, network: Network) -> None:
        self.plan = plan
        self.directory = directory
        self._network = network
        self._starter: subprocess.Popen[str] | None = None
        self._pid = 0
        self._link: Link | None = None

    def __repr__(self) -> str:
        return f"Host({self.plan.name!r}, {self.plan.address!r})"

    @property
    def running(self) -> bool:
        """Whether the host was started and still lives."""
        return self._starter is not None and self._starter.poll() is None

    @property
    def pid(self) -> int:
        """The host's first process, as the outer machine numbers it. Raises StartError when it does not run."""
        if not self.running:
            raise StartError(f"host {self.plan.name} does not run; call start() first")
        return self._pid

    @property
    def link(self) -> Link:
        """The host's cable, to be cut and joined."""
        if self._link is None:
            raise StartError(f"host {self.plan.name} has no link; call start() first")
        return self._link

    def start(self) -> None:
        """Bring the host up. Raises StartError with what its set-up printed when it does not come up."""
        if self.running:
            return
        self._prepare_disk()
        with (self.directory / "init.log").open("w", encoding="utf-8") as log:
            self._starter = subprocess.Popen(
                self._init_command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env={"PATH": SEARCH_PATH, "LANG": "C.UTF-8"},
            )
        try:
            self._pid = int(read_line(self._starter, f"host {self.plan.name}"))
            self._link = self._network.connect(self.plan.name, self._pid)
            self._send_binds(self._starter)
            read_line(self._starter, f"host {self.plan.name}")
        except (StartError, OSError) as error:
            said = (self.directory / "init.log").read_text(encoding="utf-8", errors="replace")
            self.stop()
            raise StartError(f"{error}: {said.strip()}") from error

    def stop(self) -> None:
        """Pull the plug: every process is killed, every mount goes; the disk stays. Returns when they are gone."""
        if self._starter is None:
            return
        subprocess.run(["kill", "-KILL", str(self._pid or self._starter.pid)], capture_output=True)
        # unshare waits for the first process, whose end waits for every process of its namespace.
        self._starter.communicate(timeout=STOP_TIMEOUT_SECONDS)
        self._starter = None
        self._link = None
        self._pid = 0
        self._network.disconnect(self.plan.name)

    def remove(self) -> None:
        """Stop the host and delete its disk."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run gives it
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the host to its end.

        It is root's unless `user` names an account, its directory is that account's home unless `cwd` says so, and
        its environment is a login's plus `env`. Its output goes through files, so a daemon it leaves behind does
        not hold the caller. Raises subprocess.TimeoutExpired after killing it.
        """
        with (
            tempfile.TemporaryFile("w+", errors="replace") as out,
            tempfile.TemporaryFile("w+", errors="replace") as err,
        ):
            stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
            door = self.popen(argv, user=user, cwd=cwd, env=env, stdin=stdin, stdout=out, stderr=err)
            if door.stdin is not None and input is not None:
                with suppress(BrokenPipeError), door.stdin:
                    door.stdin.write(input)
            ended = _wait(door, timeout_seconds)
            if not ended:
                self.signal(door, signal.SIGKILL)
            code = door.wait()
            out.seek(0)
            err.seek(0)
            output, errors = out.read(), err.read()
        if not ended:
            raise subprocess.TimeoutExpired(list(argv), timeout_seconds, output, errors)
        return subprocess.CompletedProcess(list(argv), code, output, errors)

    def popen(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program in the host.

        The process that is returned is the door (nsenter), which returns the program's exit status. Killing the door
        kills the program; to send it any other signal use `signal`.
        """
        return subprocess.Popen(
            self._command(argv, user, cwd),
            env=self._environment(user, env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def signal(self, door: subprocess.Popen[str], number: int) -> None:
        """Send a signal to the program behind a door that `popen` returned; nothing happens when it has ended."""
        listing = Path(f"/proc/{door.pid}/task/{door.pid}/children")
        if door.poll() is None:
            for child in listing.read_text(encoding="ascii").split():
                with suppress(ProcessLookupError):
                    os.kill(int(child), number)

    def path(self, inside: str | PurePosixPath) -> Path:
        """Return where the outer machine finds a path of the running host, for reading and writing.

        Symbolic links are followed as the host would; the last component is not. Through /proc/PID/root the kernel
        would follow absolute ones in the outer machine.
        """
        root = Path(f"/proc/{self.pid}/root")
        return root / resolve(root, PurePosixPath(inside))

    def processes(self) -> list[HostProcess]:
        """Return every process of the host but its first two (the reaper and its child)."""
        listing = self.path("/proc")
        found = (read_process(listing / name) for name in os.listdir(listing) if name.isdigit())
        return sorted((p for p in found if p is not None and not belongs_to_host(p)), key=lambda p: p.pid)

    def mounts(self) -> list[HostMount]:
        """Return the host's mount table."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
        return [parse_mount(line) for line in lines]

    def _init_command(self) -> list[str]:
        disk = self.directory
        plan = self.plan
        lower = ":".join(map(str, (*plan.over, plan.tree)))
        words = [lower, str(disk / "upper"), str(disk / "work"), str(disk / "root")]
        return [*NEW_HOST, "sh", str(INIT), *words, plan.name, f"{plan.address}/{PREFIX_LENGTH}"]

    def _send_binds(self, starter: subprocess.Popen[str]) -> None:
        if starter.stdin is None:
            raise ValueError("the host's first process has no standard input")
        for bind in self.plan.binds:
            starter.stdin.write(f"{'ro' if bind.read_only else 'rw'}\t{bind.outer}\t{bind.inside}\n")
        starter.stdin.write("go\n")
        starter.stdin.flush()

    def _prepare_disk(self) -> None:
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        plan = self.plan
        names = {**plan.names, plan.name: plan.address}
        lines = [f"{address} {name}.{plan.domain} {name}\n" for name, address in names.items()]
        self._write("etc/hosts", "127.0.0.1 localhost\n" + "".join(lines))
        self._write("etc/hostname", plan.name + "\n")
        self._write("etc/nsswitch.conf", NSSWITCH)
        self._write("etc/machine-id", hashlib.md5(plan.name.encode()).hexdigest() + "\n")
        for pattern in plan.hidden:
            for victim in plan.tree.glob(pattern):
                self._hide(PurePosixPath(victim.relative_to(plan.tree)))

    def _write(self, inside: str, text: str) -> None:
        path = self._upper(PurePosixPath(inside))
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)

    def _hide(self, inside: PurePosixPath) -> None:
        """Make overlayfs's sign for "deleted", which costs one node however large the directory is."""
        path = self._upper(inside)
        if not path.exists():
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))

    def _upper(self, inside: PurePosixPath) -> Path:
        """Return a path of the overlay's upper layer, its parents made with the tree's owners and modes."""
        upper = self.directory / "upper"
        for parent in reversed(inside.parents[:-1]):
            made = upper / parent
            if not made.exists():
                made.mkdir()
                status = (self.plan.tree / parent).stat()
                os.chown(made, status.st_uid, status.st_gid)
                made.chmod(stat.S_IMODE(status.st_mode))
        return upper / inside

    def _command(self, argv: Sequence[str], user: str | None, cwd: str | None) -> list[str]:
        account = _ACCOUNTS.get(user or "root")
        if account is None:
            raise ValueError(f"no account {user!r} in the testbed; it has {', '.join(sorted(_ACCOUNTS))}")
        uid, home = account
        identity = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--init-groups"]
        # The signal set here makes the program end with the door.
        return [*enter(self.pid), *identity, "--pdeathsig=KILL", "env", f"--chdir={cwd or home}", *argv]

    def _environment(self, user: str | None, extra: Mapping[str, str] | None) -> dict[str, str]:
        name = user or "root"
        home = _ACCOUNTS[name][1] if name in _ACCOUNTS else "/"
        login = {"PATH": SEARCH_PATH, "HOME": home, "USER": name, "LOGNAME": name, "LANG": "C.UTF-8"}
        return {**login, **(extra or {})}


def _wait(process: subprocess.Popen[str], seconds: float) -> bool:
    """Wait for a process to end and return whether it did, at once and not at the next round of a poll."""
    handle = os.pidfd_open(process.pid)
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
