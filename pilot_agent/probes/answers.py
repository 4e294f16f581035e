"""What a file's status, a program of the node and an active test tell, on the node or in a recording of it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from pilot_agent.codec import CodecError, from_json
from pilot_agent.model import Json

NOT_RECORDED = "not recorded: an active test needs the node itself"


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What stat(2) says of a file; ``kind`` is one of file, directory, link, device, other."""

    kind: str
    mode: int
    uid: int
    gid: int
    size_bytes: int
    device: str = ""

    @property
    def setuid_root(self) -> bool:
        """True for a program that runs as root whoever starts it."""
        return self.kind == "file" and bool(self.mode & stat.S_ISUID) and self.uid == 0


@dataclass(frozen=True, slots=True)
class Command:
    """How a program of the node ended. ``problem`` says why there is no exit code of its own (missing, hung, killed,
    not recorded); ``missing`` when there is no such program."""

    argv: tuple[str, ...]
    code: int | None = None
    stdout: str = ""
    stderr: str = ""
    problem: str = ""
    missing: bool = False
    recorded: bool = True

    @property
    def ok(self) -> bool:
        """True when it ended by itself with 0."""
        return self.code == 0 and not self.problem


@dataclass(frozen=True, slots=True)
class Answer:
    """What an active test answered. ``problem`` says why there is no ``value``: it failed, hung, or was not recorded
    (``recorded`` false). ``hung`` when it did not end in time; ``stuck`` when not even SIGKILL ended it."""

    value: Json = None
    problem: str = ""
    hung: bool = False
    stuck: bool = False
    recorded: bool = True


def status_of(found: os.stat_result) -> FileStatus:
    """The part of stat(2) that probes look at."""
    device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))
    kind = next((name for test, name in kinds if test(found.st_mode)), "device" if device else "other")
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if device else ""
    return FileStatus(kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_size, number)


def recorded_command(argv: tuple[str, ...], recorded: Json) -> Command:
    """How a program ended when the recording was made."""
    if recorded is None:
        return Command(argv, problem="not recorded", recorded=False)
    try:
        return from_json(Command, recorded)
    except CodecError as error:
        return Command(argv, problem=f"the recorded answer is damaged: {error}", recorded=False)


def recorded_answer(recorded: Json) -> Answer:
    """What a test answered when the recording was made."""
    if recorded is None:
        return Answer(problem=NOT_RECORDED, recorded=False)
    try:
        return from_json(Answer, recorded)
    except CodecError as error:
        return Answer(problem=f"the recorded answer is damaged: {error}", recorded=False)
