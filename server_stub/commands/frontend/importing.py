"""``import glideinwms``: files for this frontend from those of another."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.usage import Parser
from server_stub.commands.tables import print_json
from server_stub.commands.tree import Command, Group

if TYPE_CHECKING:
    from server_stub.frontend.importing.glideinwms import ImportedFrontend

FILE_LIMIT_BYTES = 64 << 20


def _arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="the frontend.xml")
    parser.add_argument("--vo", required=True, metavar="NAME", help="whose jobs these are")
    parser.add_argument("--output", metavar="DIRECTORY", help="write the files there (default: print them)")
    parser.add_argument("--json", action="store_true", help="print JSON: documents by file, notes, problems")


def _import(parsed: argparse.Namespace) -> int:
    """0; 66 where the frontend would refuse a file, which is told."""
    from server_stub.frontend.importing.glideinwms import documents, frontend_from_glideinwms

    _name(parsed.vo)
    imported = frontend_from_glideinwms(_content(parsed.file), parsed.vo)
    found = dict(documents(imported))
    if not found:
        message = f"{parsed.file} has no enabled group, so nothing was made" + "".join(
            f"; {note}" for note in imported.notes[:3]
        )
        hint = "give a frontend.xml of GlideinWMS; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    problems = _problems(imported)
    if parsed.output:
        _write(parsed.output, found)
    if parsed.json:
        print_json({"documents": found, "notes": imported.notes, "problems": problems})
        return 66 if problems else 0
    if not parsed.output:
        sys.stdout.write("".join(f"# {name}\n{_text(document)}---\n" for name, document in found.items()))
    said = [f"note: {note}" for note in imported.notes] + [f"problem: {problem}" for problem in problems]
    sys.stderr.write("".join(f"{line}\n" for line in said))
    return 66 if problems else 0


def _name(vo: str) -> None:
    from server_stub.factory.reader import NAME

    if not NAME.fullmatch(vo):
        raise PilotError(Failure(FailureKind.USAGE, "usage", f"--vo {vo!r} is no name", "name the VO as its sites do"))


def _problems(imported: ImportedFrontend) -> list[str]:
    """What the readers of the documents would refuse."""
    from pilot_agent.config_check import validate
    from server_stub.frontend.configuration import parse_frontend

    found = []
    for group in imported.groups:
        try:
            parse_frontend(group.frontend, "/")
        except PilotError as error:
            found.append(f"{group.name}: {error.failure.message}")
        found += [f"{group.name}.pilots: {one.path}: {one.message}" for one in validate(group.pilot, "vo")]
    return found


def _write(directory: str, found: dict[str, dict[str, Json]]) -> None:
    paths = {os.path.join(directory, name): document for name, document in found.items()}
    there = [path for path in paths if os.path.lexists(path)]
    try:
        os.makedirs(directory, exist_ok=True)
        if there:
            raise FileExistsError(17, "exists already, and nothing was written", there[0])
        for path, document in paths.items():
            write_atomically(path, _text(document).encode(), mode=0o644)
            sys.stderr.write(f"wrote {path}\n")
    except OSError as error:
        message = f"{error.filename or directory}: {error.strerror}"
        hint = "name another directory; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "file.exists" if there else "usage", message, hint)) from error


def _text(document: dict[str, Json]) -> str:
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return text


def _content(path: str) -> bytes:
    try:
        return read_bounded(path, limit_bytes=FILE_LIMIT_BYTES)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise PilotError(Failure(FailureKind.CONFIG, "config.unreadable", message, "name an existing file")) from error


EXAMPLES = ("import glideinwms frontend.xml --vo example \\\n      --output /etc/pilot-frontend",)
HELP = "make a frontend's file of each group, and what its pilots are told"
COMMANDS = (
    Group(
        "import",
        "make files for this frontend from another's",
        (Command("glideinwms", HELP, _import, _arguments, EXAMPLES),),
        EXAMPLES,
    ),
)
