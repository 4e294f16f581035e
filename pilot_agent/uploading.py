"""One upload to the factory: last words, the events since the last upload that succeeded, scores among them, and the
report, as far as there are any; else a sign of life, if that was asked for.

Run as ``_upload WORKSPACE [heartbeat]``, short-lived, in the middle of a pilot's life or at its end. It says in one
line what went wrong and exits 1; whoever started it kills it when it takes too long.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pilot_agent.factory_connection import FactoryConnection
from pilot_agent.files import read_bounded, write_json
from pilot_agent.lifecycle.uploads import HEARTBEAT, PLAN_FILE, REPORT_FILE, TASK_SECONDS, WORDS_FILE
from pilot_agent.light import dumps, loads
from pilot_agent.workspace import Workspace

PROGRESS_FILE = "progress.json"
REPORT_LIMIT_BYTES = 16 << 20
BUFFER_BYTES = 1 << 20
"""Of events that could not be sent yet: the oldest beyond it are dropped."""
BATCH_BYTES = 256 << 10
_BEGINNING = re.compile(rb'\{"seconds": (-?[0-9]{1,12}(?:\.[0-9]{1,9})?), "event": "([!#-\[\]-~]{1,100})"')
"""Of a line as ``EventLog`` writes it."""
WORDS_LIMIT_BYTES = 64 << 10
JSON, LINES, TEXT = "application/json", "application/x-ndjson", "text/plain; charset=utf-8"
SCORE_EVENT = b'"event": "benchmark.ended"'
SCORE_NAMES = ("name", "score", "unit", "cached")


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole lines of the event log up to ``end``, the offset after them, and how many were dropped before them."""

    lines: bytes
    end: int
    dropped: int


def main(arguments: Sequence[str]) -> int:
    """0 when the factory took everything that was there, else 1."""
    # The pipeline becomes another program while this runs: then nobody is left who would end it.
    signal.alarm(int(TASK_SECONDS) + 1)
    try:
        upload(Workspace(arguments[0]), heartbeat=HEARTBEAT in arguments[1:])
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        # What the network said; the token is in no such text.
        sys.stdout.write(f"{type(error).__name__}: {error}"[:300] + "\n")
        return 1
    return 0


def upload(workspace: Workspace, *, heartbeat: bool = False) -> None:
    """Send what is new; with ``heartbeat`` a sign of life where nothing is. Raises ``OSError``, ``ValueError`` and
    ``http.client.HTTPException``."""
    plan = loads(read_bounded(os.path.join(workspace.upload, PLAN_FILE)))
    progress_path = os.path.join(workspace.upload, PROGRESS_FILE)
    progress = _progress(progress_path)
    factory = FactoryConnection(plan)
    with contextlib.closing(factory.connection):
        _send_words(factory, os.path.join(workspace.upload, WORDS_FILE))
        for batch in batches(workspace.events, progress["offset"]):
            progress["dropped"] += batch.dropped
            headers = {"X-Pilot-Offset": str(batch.end), "X-Pilot-Dropped": str(progress["dropped"])}
            factory.post("events", batch.lines, LINES, headers)
            _send_scores(factory, batch.lines, workspace)
            progress["offset"] = batch.end
            write_json(progress_path, progress)
        _send_report(factory, os.path.join(workspace.upload, REPORT_FILE))
        if heartbeat and not factory.heard:
            factory.offer("heartbeat", b"{}", JSON)


def _send_report(factory: FactoryConnection, path: str) -> None:
    if os.path.exists(path):
        report = read_bounded(path, limit_bytes=REPORT_LIMIT_BYTES + 1)
        if len(report) > REPORT_LIMIT_BYTES:
            raise ValueError(f"the report has more than {REPORT_LIMIT_BYTES} bytes")
        factory.post("report", report, JSON, {})
        os.unlink(path)


def _send_words(factory: FactoryConnection, path: str) -> None:
    if os.path.exists(path):
        factory.offer("last-words", read_bounded(path, limit_bytes=WORDS_LIMIT_BYTES), TEXT)
        os.unlink(path)


def _send_scores(factory: FactoryConnection, lines: bytes, workspace: Workspace) -> None:
    """The scores among these events. What the report will hold too is sent now: jobs may run for days until then."""
    found = [_score(line) for line in lines.splitlines() if SCORE_EVENT in line]
    scores = [score for score in found if score]
    if scores:
        document = {"cpu_model": _cpu_model(workspace.report), "benchmarks": scores}
        factory.offer("benchmarks", dumps(document).encode(), JSON)


def _score(line: bytes) -> dict[str, Any]:
    """A benchmark's score in an event, as a report holds it; nothing where it has none."""
    try:
        event = loads(line)
    except ValueError:
        return {}
    if not isinstance(event, dict) or event.get("event") != "benchmark.ended" or event.get("score") is None:
        return {}
    return {name: event.get(name) for name in SCORE_NAMES}


def _cpu_model(path: str) -> str:
    """The processor's model, as the report in the workspace tells it; it is there from the probes on."""
    try:
        found: Any = loads(read_bounded(path, limit_bytes=REPORT_LIMIT_BYTES))
    except (OSError, ValueError):
        return ""
    for name in ("node", "cpu", "model", "value"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def batches(path: str, offset: int) -> Iterator[Batch]:
    """The lines of an event log from ``offset`` on, in pieces; of more than ``BUFFER_BYTES`` only the newest. Of a line
    that fits into no piece there is only what event it was, when, and how long (``cut_bytes``)."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 <= offset <= size:
            offset = 0
        file.seek(offset)
        dropped, left = 0, _left(file) if size - offset > BUFFER_BYTES else 0
        while left > BUFFER_BYTES and (line := _whole_line(file)):
            left -= len(line)
            dropped += 1
        lines: list[bytes] = []
        end = file.tell()
        while line := _whole_line(file):
            if lines and sum(map(len, lines)) + len(line) > BATCH_BYTES:
                yield Batch(b"".join(lines), end, dropped)
                lines, dropped = [], 0
            lines.append(line)
            end = file.tell()
        if lines:
            yield Batch(b"".join(lines), end, dropped)


def _left(file: BinaryIO) -> int:
    """How many bytes there are to send from here on."""
    here, left = file.tell(), 0
    while line := _whole_line(file):
        left += len(line)
    file.seek(here)
    return left


def _whole_line(file: BinaryIO) -> bytes:
    """The next line as it is sent; empty where there is none, or none that is all written."""
    line = piece = file.readline(BATCH_BYTES)
    length = len(line)
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(BATCH_BYTES)
        length += len(piece)
    if not piece or length <= BATCH_BYTES:
        return line if piece else b""
    found = _BEGINNING.match(line)
    known = {"seconds": float(found[1]), "event": found[2].decode()} if found else {"event": "event.cut"}
    return dumps(known | {"cut_bytes": length}).encode() + b"\n"


def _progress(path: str) -> dict[str, int]:
    try:
        found = loads(read_bounded(path))
        return {"offset": int(found["offset"]), "dropped": int(found["dropped"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"offset": 0, "dropped": 0}
