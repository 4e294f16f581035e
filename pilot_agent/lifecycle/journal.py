"""What must be undone, on disk before it is done: whoever is left after a crash reads it here.

JSON lines, each synced. An entry is open until a ``closed`` line names its number. The file lies in the workspace's
private directory, which no job can reach.
"""

from __future__ import annotations

import os

from pilot_agent.lifecycle.identity import Identity, whole
from pilot_agent.light import dumps, loads, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

LIMIT_BYTES = 16 << 20


class ProcessEntry:
    """A process to be stopped: by ``stop_signal`` (a number), then, after ``stop_seconds``, killed.

    ``identity`` is None when the pilot died between the entry and the start, or just after the start.
    """

    __slots__ = ("identity", "label", "number", "stop_seconds", "stop_signal")

    def __init__(self, number: int, label: str, stop_signal: int, stop_seconds: float) -> None:
        self.number = number
        self.label = label
        self.stop_signal = stop_signal
        self.stop_seconds = stop_seconds
        self.identity: Identity | None = None


class MountEntry:
    """A mount to be undone by the command ``undo``."""

    __slots__ = ("number", "path", "undo")

    def __init__(self, number: int, path: str, undo: tuple[str, ...]) -> None:
        self.number = number
        self.path = path
        self.undo = undo


class CommandEntry:
    """A command that undoes what a setup made: run once, for ``seconds`` at most, in ``directory``. Raises
    ``KeyError``, ``TypeError`` or ``ValueError`` for a line that says no such thing."""

    __slots__ = ("argv", "directory", "environment", "label", "number", "seconds", "started")

    def __init__(self, number: int, line: dict[str, Any]) -> None:
        self.number = number
        self.label = _text(line["label"])
        self.argv = tuple(map(_text, line["argv"]))
        self.environment = {_text(name): _text(value) for name, value in dict(line["environment"]).items()}
        self.directory = _text(line["directory"])
        self.seconds = _seconds(line["seconds"])
        self.started = _seconds(line["pilot_started"])
        if not self.argv or any(not name or "=" in name for name in self.environment):
            raise ValueError("it cannot be run")


class GroupEntry:
    """A control group that was made at ``path``. ``before`` are the controllers that the group above handed down
    without it."""

    __slots__ = ("before", "number", "path")

    def __init__(self, number: int, path: str, before: tuple[str, ...]) -> None:
        self.number = number
        self.path = path
        self.before = before


class OpenEntries:
    """What is still to be undone, in the order in which it was made."""

    __slots__ = ("commands", "directories", "groups", "mounts", "processes")

    def __init__(self) -> None:
        self.commands: list[CommandEntry] = []
        self.directories: list[str] = []
        self.groups: list[GroupEntry] = []
        self.processes: list[ProcessEntry] = []
        self.mounts: list[MountEntry] = []


class Journal:
    """Appends to the journal at ``path``. Every method raises ``OSError`` when it cannot be written: what cannot
    be recorded must not be made."""

    __slots__ = ("_next", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._next = max((int(line["n"]) for line in _lines(path)), default=0) + 1

    def directory(self, path: str) -> int:
        """A directory about to be made; the entry's number."""
        return self._entry({"kind": "directory", "path": path})

    def process(self, label: str, *, stop_signal: int, stop_seconds: float) -> int:
        """A process about to be started; the entry's number, for ``started`` and ``close``."""
        return self._entry(
            {"kind": "process", "label": label, "stop_signal": stop_signal, "stop_seconds": stop_seconds}
        )

    def started(self, number: int, identity: Identity) -> None:
        """Which process entry ``number`` became."""
        self._append({"n": number, "kind": "started", "identity": identity.to_json()})

    def mount(self, path: str, undo: Sequence[str]) -> int:
        """A mount about to be made at ``path``, and the command that undoes it; the entry's number."""
        return self._entry({"kind": "mount", "path": path, "undo": list(undo)})

    def group(self, path: str, before: Sequence[str]) -> int:
        """A control group about to be made at ``path``, and the controllers that the group above hands down now; the
        entry's number."""
        return self._entry({"kind": "group", "path": path, "before": list(before)})

    def command(
        self,
        label: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        directory: str,
        seconds: float,
        pilot_started: float,
    ) -> int:
        """A command that is to be run at the end, written before what it undoes is made; the entry's number.
        ``pilot_started``, in seconds since the epoch, is what the event of its end counts from."""
        line = {"kind": "command", "label": label, "argv": list(argv), "environment": dict(environment)}
        return self._entry({**line, "directory": directory, "seconds": seconds, "pilot_started": pilot_started})

    def close(self, number: int) -> None:
        """Entry ``number`` was undone."""
        self._append({"n": number, "kind": "closed"})

    def _entry(self, line: dict[str, Any]) -> int:
        number = self._next
        self._next += 1
        self._append({"n": number, **line})
        return number

    def _append(self, line: dict[str, Any]) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, b"\n" * torn + dumps(line).encode() + b"\n")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def read_journal(path: str) -> OpenEntries:
    """The open entries. A journal that is missing, torn or partly unreadable gives what can be read of it."""
    entries: dict[int, dict[str, Any]] = {}
    for line in _lines(path):
        number = int(line["n"])
        if line["kind"] == "closed":
            entries.pop(number, None)
        elif line["kind"] == "started":
            entries.setdefault(number, {"kind": "process"})["identity"] = line.get("identity")
        else:
            entries[number] = line
    found = OpenEntries()
    for number, line in sorted(entries.items()):
        _sort_in(found, number, line)
    return found


def _sort_in(found: OpenEntries, number: int, line: dict[str, Any]) -> None:
    try:
        if line["kind"] == "process":
            process = ProcessEntry(
                number, _text(line["label"]), _signal(line["stop_signal"]), _seconds(line["stop_seconds"])
            )
            if line.get("identity"):
                process.identity = Identity.from_json(line["identity"])
            found.processes.append(process)
        elif line["kind"] == "mount":
            found.mounts.append(MountEntry(number, _text(line["path"]), tuple(map(_text, line["undo"]))))
        elif line["kind"] == "command":
            found.commands.append(CommandEntry(number, line))
        elif line["kind"] == "group":
            found.groups.append(GroupEntry(number, _text(line["path"]), tuple(map(_text, line["before"]))))
        elif line["kind"] == "directory":
            found.directories.append(_text(line["path"]))
    except (KeyError, TypeError, ValueError):  # a damaged line; the search of descendants and mounts still runs
        return


# A job without a container may have written any line. What the kernel would refuse is found out here, where it costs
# that line, and not in the middle of a teardown.
def _text(value: Any) -> str:
    """A path, an argument. Raises ``ValueError`` for what can be none."""
    text = str(value)
    if b"\0" in os.fsencode(text):
        raise ValueError("a text with a zero byte")
    return text


def _seconds(value: Any) -> float:
    """Raises ``TypeError`` or ``ValueError`` for what is no time."""
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError("the number is too large") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError("it is no time")
    return seconds


def _signal(value: Any) -> int:
    """Raises ``TypeError`` or ``ValueError`` for what is no signal."""
    number = whole(value)
    if not 0 < number < signal.NSIG:
        raise ValueError("it is no signal")
    return number


def _lines(path: str) -> list[dict[str, Any]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        content = bytearray()
        while len(content) < LIMIT_BYTES and (chunk := os.read(descriptor, 1 << 16)):
            content += chunk
    except OSError:
        return []
    finally:
        os.close(descriptor)
    found = []
    for raw in bytes(content).split(b"\n"):
        try:
            line = loads(raw)
        except ValueError:  # torn by a crash, or the empty end
            continue
        if isinstance(line, dict) and isinstance(line.get("n"), int) and isinstance(line.get("kind"), str):
            found.append(line)
    return found
