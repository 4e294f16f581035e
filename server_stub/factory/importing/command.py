"""``entries import SOURCE FILE``: entries as a file for ``entries_files``, or what would change."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from pilot_agent.codec import to_json
from pilot_agent.config_check import Problem
from pilot_agent.config_read import parse_document
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from server_stub.factory.entry import read_entry
from server_stub.factory.importing.common import Imported, difference, overridden, written
from server_stub.factory.importing.cric import entries_from_cric
from server_stub.factory.importing.fetching import content_of
from server_stub.factory.importing.glideinwms import entries_from_glideinwms
from server_stub.factory.importing.osg import entries_from_osg
from server_stub.factory.reader import Reader

MOST_NOTES = 5


def import_entries(parsed: argparse.Namespace) -> int:
    """0; 66 where an entry would be refused, which is told beside what has no counterpart. Raises ``PilotError``."""
    imported = _read(parsed.source, content_of(parsed.file, authorities=parsed.authorities), parsed.file)
    if not imported.entries:
        raise _nothing(parsed.file, parsed.source, imported.notes)
    if parsed.overrides:
        imported = overridden(imported, parse_document(content_of(parsed.overrides), parsed.overrides))
    problems = judge(imported)
    changes = difference(_entries_of(parsed.against), imported.entries) if parsed.against else None
    if parsed.json:
        found = {
            "entries": imported.entries,
            "pilot": imported.pilot,
            "notes": imported.notes,
            "changes": changes,
        }
        found["problems"] = [to_json(problem) for problem in problems]
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write(written(imported) if changes is None else "".join(f"{line}\n" for line in changes))
        said = [f"note: {note}" for note in imported.notes]
        said += [f"problem: {problem.path}: {problem.message}" for problem in problems]
        sys.stderr.write("".join(f"{line}\n" for line in said))
    return 66 if problems else 0


def _nothing(path: str, source: str, notes: Sequence[str]) -> PilotError:
    """A file without entries, put in place of the one before, would end every entry of a factory."""
    said = "".join(f"; {note}" for note in notes[:MOST_NOTES])
    more = f"; and {len(notes) - MOST_NOTES} more" if len(notes) > MOST_NOTES else ""
    message = f"{path} holds nothing that becomes an entry{said}{more}"
    hint = f"give what the source {source} really says, not an error page or a part; the factory's operator must act"
    return PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))


def judge(imported: Imported) -> list[Problem]:
    """What a factory would refuse of these entries, each with its entry's name."""
    problems: list[Problem] = []
    for entry in imported.entries:
        read_entry(Reader(entry, f"{entry['name']}.", "/", problems))
    return problems


def _read(source: str, content: bytes, path: str) -> Imported:
    if source == "glideinwms":
        return entries_from_glideinwms(content)
    try:
        document: Json = json.loads(content)
    except (ValueError, RecursionError) as error:
        message = f"{path} is no JSON: {error}"
        raise PilotError(Failure(FailureKind.CONFIG, "config.syntax", message, "give the source's own JSON")) from error
    return entries_from_cric(document) if source == "cric" else entries_from_osg(document)


def _entries_of(path: str) -> list[dict[str, Json]]:
    found = parse_document(content_of(path), path).get("entries")
    return [dict(one) for one in found if isinstance(one, dict) and "name" in one] if isinstance(found, list) else []
