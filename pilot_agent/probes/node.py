"""Reading a node below the directory that stands for its root: ``/``, or a recording of another machine.

This is the one way in which probes look at anything: files, listings, the status of files, commands, and active
tests. So all of it can be recorded, and looked at again elsewhere with the same facts. A reader of a recording never
leaves it, not through a link either. Everything is bounded, and what cannot be read is None.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from pilot_agent.codec import from_json_or_none
from pilot_agent.files import read_bounded
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Json
from pilot_agent.probes.answers import (
    Answer,
    Command,
    FileStatus,
    recorded_answer,
    recorded_command,
    status_of,
)
from pilot_agent.probes.parsing import parse_integer
from pilot_agent.probes.recording import Recorder, Recording, is_recording, key_text, load_recording
from pilot_agent.probes.search_path import find_program, status_here
from pilot_agent.process import Result, Runner, run

READ_LIMIT_BYTES = 256 << 10
COMMAND_SECONDS = 5.0
TEST_SECONDS = 5.0
COMMAND_LIMIT_BYTES = 256 << 10
USUAL_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_MOST_TEXT = 1000


@dataclass(frozen=True, slots=True)
class Node:
    """The files, programs and answers of a node; paths are absolute, as on the node itself.

    ``root`` stands for ``/``. With ``recorder`` everything that is read is kept; with ``recording`` nothing is run,
    and what was answered then is answered again.
    """

    root: str = "/"
    recorder: Recorder | None = None
    recording: Recording | None = None

    @classmethod
    def of(cls, context: Context) -> Node:
        """The node that a probe's context speaks of. Raises ``RecordingError`` for a damaged recording."""
        if context.root.strip("/") and is_recording(context.root):
            recording = load_recording(context.root)
            return cls(recording.root, recording=recording)
        return cls(context.root, recorder=Recorder(context.record) if context.record else None)

    @property
    def live(self) -> bool:
        """True when this is the machine the pilot runs on, so that active tests are allowed."""
        return self.root.startswith("/") and not self.root.strip("/")

    def path(self, path: str) -> str | None:
        """Where ``path`` of the node is for this process; None when it leads out of a recording."""
        if "\0" in path:
            return None
        if self.live:
            return path
        root = os.path.realpath(self.root)
        real = os.path.realpath(os.path.join(root, os.path.normpath("/" + path).lstrip("/")))
        return real if real == root or real.startswith(root + os.sep) else None

    def knows(self, path: str) -> bool:
        """False for a path that a recording made on a machine says nothing about, neither that it is missing."""
        if self.recording is None or not self.recording.complete:
            return True
        kinds = ("read", "names", "stat", "link")
        return any((kind, path) in self.recording.readings for kind in kinds) or self._exists_in_tree(path)

    def absence(self, name: str, looked_for: str, *paths: str, source: str = "") -> Fact:
        """The fact that the node does not have something; unknown when a recording does not hold ``paths``."""
        unknown = next((path for path in paths if not self.knows(path)), None)
        if unknown is not None:
            return Fact.unknown(name, f"not recorded: {unknown}", source=source)
        return Fact.absent(name, looked_for, source=source)

    def read_bytes(self, path: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> bytes | None:
        """The beginning of a file, or None when it is missing, unreadable or no file."""
        real = self.path(path)
        try:
            content = None if real is None else read_bounded(real, limit_bytes=limit_bytes)
        except OSError:
            content = None
        if self.recorder:
            self.recorder.file(path, content)
        return content

    def read(self, path: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> str | None:
        """The beginning of a file as text; bytes that are no UTF-8 are replaced. None when it cannot be read."""
        content = self.read_bytes(path, limit_bytes=limit_bytes)
        return None if content is None else content.decode("utf-8", "replace")

    def read_line(self, path: str) -> str | None:
        """The first line of a file without blanks around it; None when it cannot be read or is empty."""
        lines = (self.read(path, limit_bytes=4096) or "").splitlines()
        return (lines[0].strip() or None) if lines else None

    def read_integer(self, path: str) -> int | None:
        """The number in a file that holds one; None otherwise."""
        return parse_integer(self.read(path, limit_bytes=4096))

    def names(self, path: str) -> list[str]:
        """The sorted names in a directory; empty when it cannot be listed."""
        recorded = self._reading("names", path)
        if isinstance(recorded, list):
            return [name for name in recorded if isinstance(name, str)]
        real = self.path(path)
        try:
            found = None if real is None else sorted(os.listdir(real))
        except OSError:
            found = None
        if self.recorder:
            self.recorder.reading("names", path, found)
        return found or []

    def exists(self, path: str) -> bool:
        """True when something is at ``path``."""
        return self.status(path) is not None

    def status(self, path: str) -> FileStatus | None:
        """The status of what is at ``path``, links followed; None when it is missing or cannot be looked at."""
        recorded = self._reading("stat", path)
        if recorded is not None:
            return from_json_or_none(FileStatus, recorded)
        real = self.path(path)
        try:
            found = None if real is None else status_of(os.stat(real))
        except OSError:
            found = None
        if self.recorder:
            self.recorder.reading("stat", path, asdict(found) if found else None)
        return found

    def link(self, path: str) -> str | None:
        """The target of a symbolic link as written; None when there is no link at ``path``."""
        recorded = self._reading("link", path)
        if recorded is not None:
            return str(recorded)
        parent, name = os.path.split(path.rstrip("/"))
        real = self.path(parent or "/") if "\0" not in name else None
        try:
            found = None if real is None else os.readlink(os.path.join(real, name))
        except OSError:
            found = None
        if self.recorder:
            self.recorder.reading("link", path, found)
        return found

    def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        seconds: float = COMMAND_SECONDS,
        limit_bytes: int = COMMAND_LIMIT_BYTES,
    ) -> Command:
        """Run a program of the node, without a shell and with a deadline; in a recording what it said then.

        ``environment`` is all it gets; without one the plain search path and the C locale. Of a search path in it what
        everybody on the node may write to is passed over, and what comes after the program's own directory left out.
        """
        key = ["run", *argv]
        if not self.live:
            return recorded_command(tuple(argv), self._answer(key))
        command = _run_here(tuple(argv), environment, seconds, limit_bytes)
        if self.recorder:
            self.recorder.answer(key, asdict(command))
        return command

    def ask(self, test: str, trial: Callable[[], Json], *, seconds: float = TEST_SECONDS, here: bool = False) -> Answer:
        """What an active test answers; in a recording what it answered then.

        ``trial`` runs in a child of its own, so that nothing of it stays and a hang costs ``seconds``; with ``here``
        in this process, for what cannot hang. An ``OSError`` it raises becomes ``problem``, its errno name first.
        """
        if not here:
            return self.ask_all({test: trial}, seconds=seconds)[test]
        key = ["test", test]
        if not self.live:
            return recorded_answer(self._answer(key))
        answer = _try_here(trial)
        if self.recorder:
            self.recorder.answer(key, asdict(answer))
        return answer

    def ask_all(self, trials: Mapping[str, Callable[[], Json]], *, seconds: float = TEST_SECONDS) -> dict[str, Answer]:
        """What several active tests answer, by name: the same as ``ask`` of each, all at the same time, so that those
        that hang cost ``seconds`` together."""
        if not self.live:
            return {test: recorded_answer(self._answer(["test", test])) for test in trials}
        answers = _try_in_children(trials, seconds)
        if self.recorder:
            for test, answer in answers.items():
                self.recorder.answer(["test", test], asdict(answer))
        return answers

    def _exists_in_tree(self, path: str) -> bool:
        real = self.path(path)
        return real is not None and os.path.exists(real)

    def _reading(self, kind: str, path: str) -> Json:
        return None if self.recording is None else self.recording.readings.get((kind, path))

    def _answer(self, key: Json) -> Json:
        return None if self.recording is None else self.recording.answers.get(key_text(key))


def _run_here(
    argv: tuple[str, ...], environment: Mapping[str, str] | None, seconds: float, limit_bytes: int
) -> Command:
    began = time.monotonic()
    given = {"PATH": USUAL_PATH, "LC_ALL": "C"} if environment is None else dict(environment)
    program = argv[0]
    if environment is not None and "/" not in program:
        found = _search(program, given.get("PATH", ""), seconds)
        if isinstance(found, str):
            return Command(argv, problem=found)
        program, given["PATH"] = found
    left = max(seconds - (time.monotonic() - began), 0.1)
    ended = run((program, *argv[1:]), deadline_seconds=left, environment=given, output_limit_bytes=limit_bytes)
    return Command(
        argv=argv,
        code=ended.code,
        stdout=ended.stdout.decode("utf-8", "replace"),
        stderr=ended.stderr.decode("utf-8", "replace"),
        problem="" if ended.code is not None and not ended.timed_out else ended.explain(),
        missing=ended.error == "ENOENT",
    )


def _search(name: str, search_path: str, seconds: float) -> tuple[str, str] | str:
    """The program to start and the search path that it gets; or why none may be started. A dead mount on the search
    path costs a child, not this process."""

    def looking() -> Json:
        return find_program(name, [part for part in search_path.split(":") if part.startswith("/")], status_here)

    answer = _try_in_children({name: looking}, seconds)[name]
    if answer.problem:
        return f"{name} was not found on the search path: {answer.problem}"
    path, searched, passed_over = answer.value
    if path is None and passed_over:
        return f"{name} was not found where it may be started from: {'; '.join(passed_over)[:_MOST_TEXT]}"
    return path or name, ":".join(dict.fromkeys([*searched, *USUAL_PATH.split(":")]))


def _try_here(trial: Callable[[], Json]) -> Answer:
    try:
        return Answer(trial())
    except OSError as error:
        return Answer(problem=_os_problem(error))


def _try_in_children(trials: Mapping[str, Callable[[], Json]], seconds: float) -> dict[str, Answer]:
    """One child for each trial; the answers in the order of the trials, whichever child ends first."""

    def answering(trial: Callable[[], Json]) -> Callable[[], bytes]:
        return lambda: json.dumps(asdict(_try_here(trial))).encode()

    ended: dict[str, Answer] = {}
    with Runner() as runner:
        names = {
            runner.start_call(answering(trial), name=test, deadline_seconds=seconds): test
            for test, trial in trials.items()
        }
        while len(ended) < len(names):
            handle, result = runner.wait_any()
            ended[names[handle]] = _answer_of(result)
    return {test: ended[test] for test in trials}


def _answer_of(ended: Result) -> Answer:
    if ended.ok:
        try:
            return recorded_answer(json.loads(ended.answer))
        except ValueError:
            return Answer(problem="its answer cannot be read")
    return Answer(problem=ended.explain(), hung=ended.timed_out, stuck=ended.abandoned is not None)


def _os_problem(error: OSError) -> str:
    return f"{errno.errorcode.get(error.errno or 0, 'EIO')}: {error.strerror or error}"
