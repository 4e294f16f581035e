"""Looking into a host from outside: its paths, processes and mounts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LINKS_FOLLOWED = 40


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A process as the host itself numbers it."""

    pid: int
    parent: int
    uid: int
    state: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostMount:
    """A line of the host's mount table."""

    target: str
    kind: str
    source: str
    options: str


def resolve(root: Path, inside: PurePosixPath) -> PurePosixPath:
    """Follow the symbolic links of a path, but for its last component, as one whose root is `root` would.

    Returns a path relative to that root. Raises OSError when links go round in a circle.
    """
    done = PurePosixPath()
    todo = [part for part in inside.parts if part not in ("/", ".")]
    followed = 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = done.parent
            continue
        step = done / part
        if todo and (root / step).is_symlink():
            followed += 1
            if followed > LINKS_FOLLOWED:
                raise OSError(f"too many symbolic links in {inside}")
            target = PurePosixPath(os.readlink(root / step))
            done = PurePosixPath() if target.is_absolute() else done
            todo = [p for p in target.parts if p not in ("/", ".")] + todo
            continue
        done = step
    return done


def read_process(directory: Path) -> HostProcess | None:
    """Read one process; None when it ended meanwhile."""
    try:
        status = (directory / "status").read_text(encoding="utf-8", errors="replace")
        arguments = (directory / "cmdline").read_bytes()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    argv = tuple(word.decode(errors="replace") for word in arguments.split(b"\0")[:-1])
    return HostProcess(
        pid=int(directory.name),
        parent=int(fields["PPid"]),
        uid=int(fields["Uid"].split()[0]),
        state=fields["State"].split()[0],
        argv=argv or (f"[{fields['Name'].strip()}]",),
    )


def belongs_to_host(process: HostProcess) -> bool:
    """Whether a process is the testbed's own: the host's reaper or the sleeper that it watches."""
    return process.pid == 1 or (process.parent == 1 and process.argv == ("/bin/sleep", "infinity"))


def parse_mount(line: str) -> HostMount:
    """Read a line of /proc/PID/mountinfo: the optional fields end with a lone hyphen (proc(5))."""
    words = line.split(" ")
    kind, source = words[words.index("-") + 1 :][:2]
    return HostMount(target=words[4], kind=kind, source=source, options=words[5])
