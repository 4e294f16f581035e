"""Programs of the node, found by looking: on the search path and in the usual places, without starting any.

What lies on a network file system is looked at in a child with a deadline, one for each such mount, and what only an
automounter would bring is not looked at: neither may hold the probe, nor cost more than its own programs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from pilot_agent.codec import CodecError, from_json
from pilot_agent.model import Json
from pilot_agent.probes.answers import Answer, FileStatus
from pilot_agent.probes.mountinfo import Mount, mount_of, parse_mountinfo, read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.search_path import exchangeable

LOOK_SECONDS = 2.0
_MOST_DIRECTORIES = 64
_MOST_MOUNTS = 8
_MOST_LINKS = 40

Wanted = Callable[[str], bool]
"""Whether a file name is one of those looked for."""


@dataclass(frozen=True, slots=True)
class Program:
    """A file with the name of a program: where it was found, where its links lead, and whether it may be started.

    ``mount`` is the mount point of the network file system it lies on; empty for a local one. ``exposed`` says why
    everybody on the node may exchange it; empty when not.
    """

    name: str
    path: str
    real: str
    executable: bool = True
    mount: str = ""
    exposed: str = ""


@dataclass(frozen=True, slots=True)
class Programs:
    """All programs found, in the order of the directories, but for those that everybody may exchange; ``untold`` is
    what was passed over or could not be looked at, and why."""

    found: tuple[Program, ...] = ()
    untold: Mapping[str, str] = field(default_factory=dict)

    def named(self, *names: str) -> tuple[Program, ...]:
        """The programs with these names, in the order of the names; each file once, under whatever name."""
        ordered = [program for name in names for program in self.found if program.name == name]
        first: dict[str, Program] = {}
        for program in ordered:
            first.setdefault(program.real, program)
        return tuple(first.values())


@dataclass(slots=True)
class Places:
    """Where paths of a node lie: its mounts, read once, those of them that may hang (``suspects``, each with a slash at
    its end), and what was found out about single links."""

    node: Node
    mounts: tuple[Mount, ...]
    suspects: tuple[str, ...]
    links: dict[str, str | None] = field(default_factory=dict)
    statuses: dict[str, FileStatus | None] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Node) -> Places:
        """The places of a node."""
        mounts = read_mounts(node)
        points = (mount.point for mount in mounts if mount.shared or mount.kind == "autofs")
        return cls(node, mounts, tuple(f"{point}/" for point in points if point != "/"))

    def far(self, path: str) -> Mount | None:
        """The mount that looking at ``path`` may hang on or would make; None for a local file system, and for the
        root of a node that boots from a network: without it nothing works anyway."""
        if not f"{path}/".startswith(self.suspects):
            return None
        mount = mount_of(self.mounts, path)
        if mount is None or mount.point == "/":
            return None
        return mount if mount.shared or mount.kind == "autofs" else None

    def flags(self, mount: Mount) -> tuple[str, ...]:
        """How a file system is mounted there, such as ``rw``, ``nosuid``: the sixth field of the kernel's list."""
        found: tuple[str, ...] = ()
        for line in (self.node.read("/proc/self/mountinfo", limit_bytes=4 << 20) or "").split("\n"):
            fields = line.split(" ")
            if len(fields) > 5 and fields[2] == mount.device and parse_mountinfo(line)[:1] == (mount,):
                found = tuple(fields[5].split(","))
        return found

    def resolve(self, path: str, *, near: bool = True) -> str:
        """``path`` with its links followed; with ``near`` only as far as local file systems go."""
        if "\0" in path:
            return path
        done, todo = "", [part for part in path.split("/") if part]
        followed = 0
        while todo:
            part = todo.pop(0)
            if part == ".":
                continue
            if part == "..":
                done = os.path.dirname(done).rstrip("/")
                continue
            here = f"{done}/{part}"
            if near and self.far(here):
                return "/".join((here, *todo))
            target = self._link(here) if followed < _MOST_LINKS else None
            if target is None:
                done = here
                continue
            followed += 1
            todo = [piece for piece in target.split("/") if piece] + todo
            done = "" if target.startswith("/") else done
        return done or "/"

    def status(self, path: str) -> FileStatus | None:
        """``node.status``, looked at once."""
        if path not in self.statuses:
            self.statuses[path] = self.node.status(path)
        return self.statuses[path]

    def _link(self, path: str) -> str | None:
        if path not in self.links:
            self.links[path] = self.node.link(path)
        return self.links[path]


def look(node: Node, test: str, looking: Callable[[], Json], *, far: bool, seconds: float = LOOK_SECONDS) -> Answer:
    """What looking at something tells: at once on a local file system, else from a child with a deadline."""
    if not far:
        return Answer(looking())
    answer = node.ask(test, looking, seconds=seconds)
    # A composed node may have the files and no answer, and nothing in a recording hangs.
    return answer if answer.recorded else Answer(looking())


def find_programs(places: Places, wanted: Wanted, directories: Iterable[str]) -> Programs:
    """The files in these directories whose name is ``wanted``."""
    ordered = [path for path in dict.fromkeys(directories) if path.startswith("/") and "\0" not in path]
    seen: set[str] = set()
    found: list[Program] = []
    later: dict[str, list[str]] = {}
    untold = dict.fromkeys(ordered[_MOST_DIRECTORIES:], f"more than {_MOST_DIRECTORIES} directories")
    for directory in ordered[:_MOST_DIRECTORIES]:
        real = places.resolve(directory)
        # /bin and /usr/bin are the same directory on most nodes.
        if real in seen:
            continue
        seen.add(real)
        if not _put_off(places, real, directory, later, untold):
            found += _near_programs(places, wanted, directory, later, untold)
    far, unanswered = _far_programs(places, wanted, later)
    rank = {directory: number for number, directory in enumerate(ordered)}
    found = sorted([*found, *far], key=lambda program: rank.get(os.path.dirname(program.path), len(rank)))
    exposed = {program.path: f"passed over: {program.exposed}" for program in found if program.exposed}
    return Programs(tuple(program for program in found if not program.exposed), untold | unanswered | exposed)


def _put_off(places: Places, real: str, path: str, later: dict[str, list[str]], untold: dict[str, str]) -> bool:
    """True for what is not to be looked at here: it is noted for a child, or as something that nobody may look at."""
    mount = places.far(real)
    if mount is None:
        return False
    if mount.kind == "autofs":
        untold[path] = f"not looked at: the automounter on {mount.point} has not mounted it"
    elif mount.point not in later and len(later) >= _MOST_MOUNTS:
        untold[path] = f"not looked at: more than {_MOST_MOUNTS} network file systems are on the search path"
    else:
        later.setdefault(mount.point, []).append(path)
    return True


def _near_programs(
    places: Places, wanted: Wanted, directory: str, later: dict[str, list[str]], untold: dict[str, str]
) -> Iterable[Program]:
    for name in places.node.names(directory):
        path = f"{directory}/{name}"
        if wanted(name):
            real = places.resolve(path)
            if not _put_off(places, real, path, later, untold):
                yield from _program(places, path, real)


def _program(places: Places, path: str, real: str) -> Iterable[Program]:
    status = places.status(real)
    if status is not None and status.kind == "file":
        directory, name = os.path.split(path)
        exposed = exchangeable(f"{places.resolve(directory)}/{name}", real, places.status)
        yield Program(name, path, real, executable=bool(status.mode & 0o111), exposed=exposed)


def _far_programs(
    places: Places, wanted: Wanted, later: Mapping[str, Sequence[str]]
) -> tuple[list[Program], dict[str, str]]:
    """The programs on network file systems; a mount that does not answer costs its own ones only."""

    def trial(paths: Sequence[str]) -> Callable[[], Json]:
        return lambda: [asdict(program) for path in paths for program in _all_programs(places, wanted, path)]

    trials = {f"programs below {point}": trial(paths) for point, paths in later.items()}
    answers = places.node.ask_all(trials, seconds=LOOK_SECONDS) if trials else {}
    found: list[Program] = []
    untold: dict[str, str] = {}
    for (test, answer), (point, paths) in zip(answers.items(), later.items(), strict=True):
        value = answer.value if answer.recorded else trials[test]()
        if answer.problem and answer.recorded:
            untold |= dict.fromkeys(paths, f"{point} does not answer" if answer.hung else answer.problem)
        found += _read_programs(value, point)
    return found, untold


def _all_programs(places: Places, wanted: Wanted, path: str) -> Iterable[Program]:
    """What a directory holds, or one program; only for a process that may hang."""
    if wanted(os.path.basename(path)):
        yield from _program(places, path, places.resolve(path, near=False))
        return
    for name in places.node.names(path):
        if wanted(name):
            yield from _program(places, f"{path}/{name}", places.resolve(f"{path}/{name}", near=False))


def _read_programs(value: Json, point: str) -> Iterable[Program]:
    for entry in value if isinstance(value, list) else ():
        try:
            program = from_json(Program, entry)
        except CodecError:
            continue
        yield replace(program, mount=point)
