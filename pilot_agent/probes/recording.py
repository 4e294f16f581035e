"""Recordings of nodes: what probes read, ran and tried, kept so that it can be looked at again anywhere.

A recording is a directory::

    recording.json      schema, where it comes from ("recorded" on a machine, or "composed" from documentation)
    environment.json    the variables that probes look at
    root/               the files, at their paths
    readings/*.jsonl    one line per reading: {"read|names|stat|link": path, "found": ...}
    answers/*.json      one file per command and active test: {"key": ..., "answer": ...}

What a composed one does not hold is not there; what a recorded one does not hold is not known.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.light import sha256_hex
from pilot_agent.model import Json
from pilot_agent.trust.local import writable_by_others

SCHEMA = "pilot-agent/recording/1"
MANIFEST = "recording.json"
ENVIRONMENT = "environment.json"
# A machine without batch system or GPUs is recorded in 60 KB and 3,000 values, most of them names in directories.
_MOST_BYTES = 32 << 20
_MOST_VALUES = 1_000_000
_MOST_ANSWERS = 10_000
_DEEPEST = 50

Reading = Literal["read", "names", "stat", "link"]


class RecordingError(ValueError):
    """A directory that is no recording, or a damaged one; the message names the file."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that is looked at again: its files' root, what was read with what result, and the answers."""

    root: str
    complete: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[tuple[str, str], Json] = field(default_factory=dict)
    answers: Mapping[str, Json] = field(default_factory=dict)


def is_recording(directory: str) -> bool:
    """True when the directory holds a recording and not just a tree of files."""
    return os.path.isfile(os.path.join(directory, MANIFEST))


def load_recording(directory: str) -> Recording:
    """The recording in a directory. Raises ``RecordingError`` for one that is damaged, or larger than probes make."""
    files = _Files()
    try:
        manifest = files.document(os.path.join(directory, MANIFEST))
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
            raise RecordingError(f"{directory}/{MANIFEST}: its schema is not {SCHEMA}")
        path = os.path.join(directory, ENVIRONMENT)
        environment = files.document(path) if os.path.lexists(path) else {}
        if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
            raise RecordingError(f"{path}: expected variables and their values")
        readings = {
            (kind, line[kind]): line.get("found")
            for line in _lines(files, os.path.join(directory, "readings"))
            for kind in ("read", "names", "stat", "link")
            if isinstance(line.get(kind), str)
        }
        answers = {
            key_text(entry.get("key")): entry.get("answer")
            for entry in _answers(files, os.path.join(directory, "answers"))
        }
    except OSError as error:
        raise RecordingError(f"{error.filename or directory}: {error.strerror}") from error
    complete = manifest.get("origin") == "recorded"
    return Recording(os.path.join(directory, "root"), complete, environment, readings, answers)


def prepare_directory(path: str) -> None:
    """Make the directory of a recording, for this account alone, or take an empty one. Raises ``RecordingError`` for
    one that holds something, or that others could exchange or write into while probes do."""
    try:
        if os.path.islink(path.rstrip("/")):
            raise RecordingError("it is a link, and what it leads to may change; name the directory itself")
        os.makedirs(path, mode=0o700, exist_ok=True)
        reason = writable_by_others(path)
        if reason:
            raise RecordingError(f"{reason}; name a new directory in one that is yours")
        if os.listdir(path):
            raise RecordingError("it is not empty; name a new directory")
    except OSError as error:
        raise RecordingError(error.strerror or str(error)) from error


def key_text(key: Json) -> str:
    """How the answer to ``key`` is found: what a program was given may hold a secret, so it is kept without."""
    # Here and below only where something is recorded or played back: it compiles forty patterns, and every pilot
    # would wait for them.
    from pilot_agent.probes.redaction import redact_json

    return json.dumps(redact_json(key))


@dataclass(slots=True)
class _Files:
    """The files of one recording, which may come from anybody: what they may hold together is bounded."""

    room_bytes: int = _MOST_BYTES
    room_values: int = _MOST_VALUES

    def content(self, path: str) -> bytes:
        """A regular file's content. Raises ``RecordingError``; ``OSError`` for one that cannot be read."""
        # Looked at before it is opened, as opening some devices does something.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise RecordingError(f"{path}: it is no regular file, but a directory, a link, a pipe or a device")
        content = read_bounded(path, limit_bytes=self.room_bytes + 1)
        self.room_bytes -= len(content)
        if self.room_bytes < 0:
            raise RecordingError(f"{path}: with this file the recording holds more than {_MOST_BYTES >> 20} MiB")
        # A value takes up to a hundred times as much memory as text.
        self.room_values -= sum(map(content.count, (b",", b"[", b"{")))
        if self.room_values < 0:
            raise RecordingError(f"{path}: with this file the recording holds more than {_MOST_VALUES} values")
        return content

    def document(self, path: str) -> Json:
        """The JSON in a file. Raises ``RecordingError``; ``OSError`` for one that cannot be read."""
        try:
            return _parsed(self.content(path))
        except RecordingError:
            raise
        except ValueError as error:
            raise RecordingError(f"{path}: no JSON ({error})") from error


def _parsed(text: bytes) -> Json:
    """The value of a JSON text. Raises ``ValueError`` also for one so deep that whoever walks through it would end."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [value]
    for _ in range(_DEEPEST):
        level = [item for part in level if isinstance(part, list | dict) for item in _items(part)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _items(part: list[Json] | dict[str, Json]) -> Iterable[Json]:
    return part.values() if isinstance(part, dict) else part


def _answers(files: _Files, directory: str) -> Iterator[dict[str, Json]]:
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for name in names[:_MOST_ANSWERS]:
        entry = files.document(os.path.join(directory, name))
        if not isinstance(entry, dict):
            raise RecordingError(f"{directory}/{name}: expected an object with key and answer")
        yield entry


def _lines(files: _Files, directory: str) -> Iterator[dict[str, Json]]:
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for name in names:
        path = os.path.join(directory, name)
        for number, line in enumerate(files.content(path).splitlines(), 1):
            # The last line of a probe that was killed may be cut.
            try:
                found = _parsed(line)
            except ValueError:
                continue
            if not isinstance(found, dict):
                raise RecordingError(f"{path}, line {number}: expected an object")
            yield found


@dataclass(frozen=True, slots=True)
class Recorder:
    """Keeps what one probe reads, in a directory that several probes share; secrets never reach the disk."""

    directory: str

    def file(self, path: str, content: bytes | None) -> None:
        """A file's content as far as it was read, or that it could not be read."""
        self._reading("read", path, "file" if content is not None else None)
        if content is None:
            return
        target = os.path.join(self.directory, "root", os.path.normpath("/" + path).lstrip("/"))
        from pilot_agent.probes.redaction import redact_bytes

        content = redact_bytes(content)
        # One probe may read more of a file than another, and a path may be both a file and, elsewhere, a directory.
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            if os.path.exists(target) and os.path.getsize(target) >= len(content):
                return
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            write_atomically(target, content)

    def reading(self, kind: Reading, path: str, found: Json) -> None:
        """What a listing, a look at a file's status or at a link told; None when it told nothing."""
        self._reading(kind, path, found)

    def answer(self, key: Json, answer: Json) -> None:
        """The answer of a command or an active test."""
        from pilot_agent.probes.redaction import redact_json

        text = key_text(key)
        words = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60]
        name = f"{words}-{sha256_hex(text.encode())[:8]}.json"
        entry = {"key": json.loads(text), "answer": redact_json(answer)}
        write_atomically(self._under("answers", name), json.dumps(entry, indent=1).encode())

    def _reading(self, kind: Reading, path: str, found: Json) -> None:
        from pilot_agent.probes.redaction import redact_json

        line = json.dumps({kind: path, "found": redact_json(found)}) + "\n"
        target = self._under("readings", f"{os.getpid()}.jsonl")
        descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _under(self, group: str, name: str) -> str:
        directory = os.path.join(self.directory, group)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return os.path.join(directory, name)


def finish_recording(directory: str, environment: Mapping[str, str], about: Mapping[str, Json]) -> None:
    """Make a directory that probes recorded into a recording: its variables and its manifest, written last."""
    os.makedirs(os.path.join(directory, "root"), mode=0o700, exist_ok=True)
    from pilot_agent.probes.redaction import kept_environment

    variables = json.dumps(kept_environment(environment), indent=1).encode()
    write_atomically(os.path.join(directory, ENVIRONMENT), variables)
    manifest = {"schema": SCHEMA, "origin": "recorded", **about}
    write_atomically(os.path.join(directory, MANIFEST), json.dumps(manifest, indent=1).encode())
