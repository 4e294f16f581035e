"""``report extract`` and ``report show``: a pilot's report out of a batch job's output, for programs and for people."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence

from pilot_agent.files import write_atomically
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.output.printed import Printed, find_printed
from pilot_agent.output.read import read
from pilot_agent.output.reading import Reading, Ways
from pilot_agent.output.startd_rows import Row, startd_rows
from pilot_agent.output.words import moment_text, seconds_text
from pilot_agent.printing import print_page, print_text
from pilot_agent.render import paragraph, table

TAIL_BYTES = 256 << 20
"""The report is at the end of a job's output; of a longer one only so much is looked at."""


def run_report(parsed: argparse.Namespace) -> int:
    """Print or write one report. Raises ``PilotError`` where there is none, or none that is whole."""
    text = _text(parsed.file)
    report = _own(text) if parsed.what == "show" else None
    if report is None:
        report = chosen(find_printed(text), parsed.file, parsed.pilot)
    if parsed.what == "show":
        print_page(page(read(report), startd_rows(report)))
        return 0
    content = json.dumps(report, indent=1) + "\n"
    if parsed.output is None:
        print_text(content)
        return 0
    try:
        write_atomically(os.path.abspath(parsed.output), content.encode(), mode=0o644)
    except OSError as error:
        message = f"the report cannot be written to {parsed.output}: {error.strerror}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message)) from error
    return 0


def chosen(found: list[Printed], file: str, pilot: str | None) -> Json:
    """The last whole report, of the pilot that was asked for. Raises ``PilotError``."""
    own = [one for one in found if pilot in (None, one.name)]
    if not own:
        others = ", ".join(sorted({one.name for one in found}))
        begun = f"no report of a pilot {pilot} begins in {file}; there are those of {others}" if found else ""
        message = begun or f"no report of a pilot begins in {file}"
        hint = "a pilot that runs prints none yet, and none with upload.print_report: false; is it the right file?"
        raise PilotError(Failure(FailureKind.USAGE, "report.missing", message, "" if begun else hint))
    whole = {one.name: one for one in own if not one.problem}
    if len(whole) > 1:
        message = f"{file} has the reports of {len(whole)} pilots: {', '.join(whole)}"
        raise PilotError(Failure(FailureKind.USAGE, "report.several", message, "choose one with --pilot ID"))
    if not whole:
        message = f"the report of pilot {own[-1].name} in {file} is not whole: {own[-1].problem}"
        hint = "report.json and events.jsonl in the pilot's output directory say the same, where that came back"
        raise PilotError(Failure(FailureKind.CORRUPTION, "report.damaged", message, hint))
    return next(iter(whole.values())).report


def page(report: Reading, startd: Sequence[Row] = ()) -> str:
    """What a report says in brief; ``startd`` is what it says of its HTCondor."""
    began, ended = moment_text(report.started), moment_text(report.finished or "?")
    paragraphs = [paragraph(f"Pilot {report.pilot_id} on {report.host}, {began} to {ended}")]
    paragraphs.append(paragraph(f"Outcome: {report.status}"))
    if report.problem is not None:
        paragraphs += [paragraph(line) for line in _problem(report)]
    if report.cvmfs is not None:
        paragraphs.append(paragraph(_cvmfs(report.cvmfs)))
    jobs = table([(job.name, job.status, _more(job.words)) for job in report.jobs])
    leftovers = table([(one.name, one.status) for one in report.leftovers])
    if startd:
        paragraphs.append(f"HTCondor\n{table(startd)}")
    paragraphs += [f"{title}\n{rows}" for title, rows in (("Jobs", jobs), ("Left on the node", leftovers)) if rows]
    stages = [(span.stage, seconds_text(span.seconds), span.status) for span in report.spans if span.is_stage]
    if stages:
        paragraphs.append(f"Stages\n{table(stages)}")
    return "\n\n".join(part.rstrip("\n") for part in paragraphs) + "\n"


def _problem(report: Reading) -> Iterator[str]:
    problem = report.problem
    if problem is not None:
        where = f" in stage {problem.stage}" if problem.stage else ""
        yield f"{problem.kind}: {problem.code}{where}: {problem.message}"
        if problem.hint:
            yield f"What to change: {problem.hint}"
        if problem.who:
            yield f"Who acts: {problem.who}"


def _cvmfs(ways: Ways) -> str:
    taken = next((f"{way.name}: {way.reason}" for way in ways.ways if way.state == "taken"), "no way was taken")
    return f"CVMFS: {ways.decision} ({ways.cell}); {taken}"


def _more(words: tuple[tuple[str, str], ...]) -> str:
    named = ((name.removesuffix("_seconds").replace("_", " "), text) for name, text in words)
    return ", ".join(text if name == "meaning" else f"{name} {text}" for name, text in named)


def _own(text: str) -> Json | None:
    """A report that is the whole text; None for anything else."""
    try:
        report = json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) and "outcome" in report else None


def _text(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.buffer.read(TAIL_BYTES).decode("utf-8", "replace")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message)) from error
