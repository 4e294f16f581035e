"""Stand-in distributions on a host, and the repositories that they mount."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import tarballs
from tests.testbed.command import CommandError
from tests.testbed.hosts import Host
from tests.testbed.inspection import HostMount, HostProcess
from tests.testbed.trees import PILOT

CONFIGURATION = "config.example.org"
"""The configuration repository: it says where all others are, and so must be mounted first."""
COMMANDS = ("mountrepo", "umountrepo", "cvmfsexec")
LIBRARY = "dist/usr/lib/libcvmfs_fuse3.so"
LOCAL = "dist/etc/cvmfs/default.local"
PLAIN = ("-noI", "-noD", "-noF", "-noX")
"""Nothing is packed: it costs more time than the space is worth."""
PROXY = 'CVMFS_HTTP_PROXY="DIRECT"\n'

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Server:
    """A directory of a host in the place of CVMFS's servers."""

    host: Host
    directory: str

    def publish(
        self, repository: str, files: Mapping[str, str], *, revision: int = 1, copies: Mapping[str, str] | None = None
    ) -> None:
        """Make a repository with these files, or its next revision, and with ``copies`` of paths of the host. Without
        files it mounts as an empty directory that tells nothing of itself, as the real client leaves one behind that
        could not mount."""
        image, content = self.image(repository), f"{self.directory}/{repository}"
        _run(self.host, ["rm", "-rf", content, image])
        _run(self.host, ["mkdir", "-p", content])
        for name, text in files.items():
            _write(self.host, f"{content}/{name}", text)
        for name, source in (copies or {}).items():
            _run(self.host, ["cp", "-a", source, f"{content}/{name}"])
        told = {"fqrn": repository, "revision": revision, "nioerr": 0, "host": self.address} if files else {}
        attributes = [word for key, value in told.items() for word in ("-p", f"/ x user.{key}={value}")]
        _run(self.host, ["mksquashfs", content, image, "-quiet", "-no-progress", "-noappend", *PLAIN, *attributes])
        _run(self.host, ["chmod", "-R", "a+rX", self.directory])

    def publish_htcondor(self, repository: str) -> str:
        """Make a repository with the testbed's HTCondor; the path below /cvmfs of a link to it, as sites have one to
        the release that is in use."""
        place = f"{self.directory}.htcondor"
        release = tarballs.unpack(self.host.path(place))
        inside = f"{place}/{release.relative_to(self.host.path(place))}".rstrip("/.")
        _run(self.host, ["ln", "-s", f"/cvmfs/{repository}/releases/used", f"{place}.link"])
        copies = {"releases/used": inside, "current": f"{place}.link"}
        self.publish(repository, {"releases/new_repository": "HTCondor\n"}, copies=copies)
        _run(self.host, ["rm", "-rf", place, f"{place}.link"])
        return f"/cvmfs/{repository}/current"

    def publish_configuration(self) -> None:
        """The configuration repository for what else is published here."""
        self.publish(CONFIGURATION, {"etc/cvmfs/default.conf": f"CVMFS_SERVER_URL={self.address}\n"})

    @property
    def address(self) -> str:
        """How a client is told of it: the second slash keeps mountrepo from looking for /var in the distribution."""
        return f"/{self.directory}"

    def image(self, repository: str) -> str:
        """Where a repository lies; without this file the server does not answer for it."""
        return f"{self.directory}/{repository}.squashfs"

    def remove(self) -> None:
        """Take all of it away."""
        _run(self.host, ["rm", "-rf", self.directory])


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution below ``directory`` of a host, which belongs to the pilots' account."""

    host: Host
    directory: str

    @classmethod
    def lay_out(cls, server: Server, directory: str) -> Distribution:
        """A fresh distribution, whose configuration repository is on this server."""
        made = cls(server.host, directory)
        for command in COMMANDS:
            made.write(command, (_HERE / command).read_text(encoding="utf-8"), executable=True)
        made.write("dist/usr/bin/cvmfs2", (_HERE / "cvmfs2").read_text(encoding="utf-8"), executable=True)
        made.write(LIBRARY, "")
        made.write("dist/.cvmfsexecdist", "disttype: standard\nmachtype: rhel9-x86_64\n")
        made.write("dist/etc/cvmfs/default.conf", "CVMFS_CACHE_BASE=/var/lib/cvmfs\n")
        made.write("dist/etc/cvmfs/default.d/60-example.conf", f"CVMFS_CONFIG_REPOSITORY={CONFIGURATION}\n")
        made.write(f"dist/etc/cvmfs/config.d/{CONFIGURATION}.conf", f"CVMFS_SERVER_URL={server.address}\n")
        made.write(LOCAL, PROXY)
        _run(made.host, ["mkdir", "-p", f"{directory}/dist/cvmfs", f"{directory}/dist/var/lib/cvmfs"], PILOT.name)
        return made

    def write(self, name: str, text: str, *, executable: bool = False) -> None:
        """Put a file into it."""
        path = f"{self.directory}/{name}"
        _write(self.host, path, text, PILOT.name)
        if executable:
            _run(self.host, ["chmod", "755", path], PILOT.name)

    def command(self, name: str, *words: str) -> list[str]:
        """The command line of one of its commands."""
        return [f"{self.directory}/{name}", *words]

    def run(self, name: str, *words: str, wrapper: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run one of its commands as the pilots' account, to its end."""
        return self.host.run([*wrapper, *self.command(name, *words)], user=PILOT.name, cwd="/")

    def mount(self, *repositories: str) -> None:
        """Mount the configuration repository and these. Raises CommandError with what the first that failed said."""
        for repository in (CONFIGURATION, *repositories):
            _check(self.run("mountrepo", repository))

    def point(self, repository: str) -> str:
        """Where mountrepo mounts it."""
        return f"{self.directory}/dist/cvmfs/{repository}"

    def mounts(self) -> list[HostMount]:
        """What is mounted of it in the host's own namespace."""
        return [mount for mount in self.host.mounts() if mount.target.startswith(f"{self.directory}/")]

    def clients(self, repository: str = "") -> list[HostProcess]:
        """The clients that run for it, in whichever namespace, or for one repository."""
        place = self.point(repository)
        return [
            process
            for process in self.processes()
            if process.argv[0].endswith("squashfuse_ll") and process.argv[-1].startswith(place)
        ]

    def processes(self) -> list[HostProcess]:
        """Every process with this directory in its command line."""
        return [
            process
            for process in self.host.processes()
            if process.state not in "ZX" and any(self.directory in word for word in process.argv)
        ]

    def signal(self, number: signal.Signals, processes: Sequence[HostProcess]) -> None:
        """Send a signal to processes of the host."""
        if processes:
            self.host.run(["kill", f"-{number.value}", *(str(process.pid) for process in processes)])

    def remove(self) -> None:
        """Take it away with whatever runs and is mounted of it."""
        self.signal(signal.SIGKILL, self.processes())
        for mount in reversed(self.mounts()):
            self.host.run(["umount", "-l", mount.target])
        _run(self.host, ["rm", "-rf", self.directory])


def _write(host: Host, path: str, text: str, user: str | None = None) -> None:
    _run(host, ["mkdir", "-p", path.rpartition("/")[0]], user)
    _check(host.run(["tee", path], user=user, input=text))


def _run(host: Host, argv: Sequence[str], user: str | None = None) -> None:
    _check(host.run(argv, user=user, cwd="/"))


def _check(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise CommandError(f"{' '.join(done.args)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
