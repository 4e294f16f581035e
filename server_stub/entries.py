"""The factory's own file: where it keeps and publishes things, and its entries, one for each site queue.

All problems of the file are reported together, each with its path, as in the pilot's own configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pilot_agent.config_check import Problem
from pilot_agent.config_read import parse_document
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.spelling import nearest
from server_stub.factory.entry import Entry, read_entry
from server_stub.factory.entry_submit import CLOUDS
from server_stub.factory.frontends import Frontend, read_frontends
from server_stub.factory.history import Kept
from server_stub.factory.reader import Reader

FILE_LIMIT_BYTES = 4 << 20
ENTRIES_LIMIT_BYTES = 32 << 20
MOST_NAMED = 20

MOST_COLLECT_SECONDS = 900
"""With a round of the factory on top it is still within the time for which a supervisor waits (WatchdogSec)."""

FILE_NAME = re.compile(r"[^\x00]{1,1000}")
DATABASE = re.compile(r"(sqlite:///|postgresql\+psycopg://)\S+")
LOOPBACK = re.compile(r"127\.[0-9.]+|::1|localhost")
URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?")


@dataclass(frozen=True, slots=True)
class Factory:
    """The whole file. ``url`` is how worker nodes reach the server that listens at ``address`` and ``port``, with HTTPS
    where it has a ``certificate`` (PEM, with those between it and its authority) and its ``key``; ``pilot`` is the
    configuration of every pilot, layer ``factory``; paths are absolute. ``database`` is the address of the store, else
    a file below ``state``; ``frontends`` are those that may ask for pilots; what lies in ``artifacts`` is published
    as it is."""

    name: str
    state: str
    payloads: str
    launcher: str
    url: str
    address: str = "127.0.0.1"
    port: int = 8080
    collect_seconds: int = 5
    uploads: bool = False
    certificate: str | None = None
    key: str | None = None
    database: str = ""
    artifacts: str | None = None
    kept: Kept = field(default_factory=Kept)
    pilot: Mapping[str, Json] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    frontends: tuple[Frontend, ...] = ()

    def entry(self, name: str) -> Entry:
        """The entry of that name. Raises ``PilotError`` (entry.unknown)."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        names = [entry.name for entry in self.entries]
        more = len(names) - MOST_NAMED
        known = ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "") or "none"
        message = f"the factory {self.name} has no entry {name!r}; it has {known}{nearest(name, names)}"
        hint = "name one of these, or add the entry to the factory's file; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "entry.unknown", message, hint))

    def pilot_directory(self, pilot_id: str) -> str:
        """The private directory with what one pilot was given and what it returned."""
        return os.path.join(self.state, "pilots", pilot_id)


def read_factory(path: str) -> Factory:
    """The factory that a YAML or JSON file describes; relative paths in it start at the file's directory.

    Raises ``PilotError`` (config.unreadable, config.syntax, config.invalid), the last with every problem.
    """
    try:
        content = read_bounded(path, limit_bytes=FILE_LIMIT_BYTES)
    except OSError as error:
        message = f"the factory's file {path} cannot be read: {error.strerror}"
        hint = "name an existing file with --config; the factory's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "config.unreadable", message, hint)) from error
    directory = os.path.dirname(os.path.abspath(path))
    document = parse_document(content, path)
    return parse_factory(_with_files(document, directory), directory)


def _with_files(document: Mapping[str, Json], directory: str) -> Mapping[str, Json]:
    """The document with the entries of its ``entries_files`` after its own. What is no list of names is left to be
    judged with all the rest."""
    names, own = document.get("entries_files"), document.get("entries") or []
    if not isinstance(names, list) or not isinstance(own, list):
        return document
    entries = list(own)
    for name in names:
        path = os.path.join(directory, str(name))
        try:
            found = parse_document(read_bounded(path, limit_bytes=ENTRIES_LIMIT_BYTES), path).get("entries")
        except OSError as error:
            message = f"the file {path} of entries_files cannot be read: {error.strerror}"
            hint = "name existing files; the factory's operator must act"
            raise PilotError(Failure(FailureKind.CONFIG, "config.unreadable", message, hint)) from error
        entries += found if isinstance(found, list) else []
    return {**document, "entries": entries}


def parse_factory(document: Mapping[str, Json], directory: str) -> Factory:
    """The factory that ``document`` describes. Raises ``PilotError`` (config.invalid) with every problem."""
    problems: list[Problem] = []
    reader = Reader(document, "", directory, problems)
    factory = Factory(
        name=reader.name("name"),
        state=reader.path("state"),
        payloads=reader.path("payloads"),
        launcher=reader.path("launcher"),
        url=reader.text("url", URL).rstrip("/"),
        address=reader.text("address", default="127.0.0.1"),
        port=reader.integer("port", default=8080, minimum=1, maximum=65535),
        collect_seconds=reader.integer("collect_seconds", default=5, minimum=1, maximum=MOST_COLLECT_SECONDS),
        uploads=reader.boolean("uploads", default=False),
        certificate=reader.path("certificate", default="") or None,
        key=reader.path("key", default="") or None,
        database=reader.text("database", DATABASE, default=""),
        artifacts=reader.path("artifacts", default="") or None,
        kept=Kept(
            reader.integer("keep_pilots_days", default=90, minimum=2),
            reader.integer("keep_documents_days", default=30, minimum=1),
        ),
        pilot=reader.pilot("pilot", "factory"),
        entries=_entries(reader.items("entries"), directory, problems),
    )
    names = frozenset(entry.name for entry in factory.entries)
    factory = replace(factory, frontends=read_frontends(reader.mappings("frontends"), names))
    reader.words("entries_files", FILE_NAME)
    if not factory.database:
        factory = replace(factory, database=f"sqlite:///{os.path.join(factory.state, 'factory.sqlite')}")
    reader.refuse_others()
    noted = {problem.path for problem in problems}
    together = [*_https_problems(factory), *_upload_problems(factory)]
    problems += [problem for problem in together if problem.path not in noted]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        message = f"the factory's file has {count}: " + "; ".join(f"{p.path}: {p.message}" for p in problems)
        hint = "correct the named keys; the factory's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    return factory


def _https_problems(factory: Factory) -> list[Problem]:
    """What does not go together of certificate, key and the address that pilots are told."""
    if (factory.certificate is None) != (factory.key is None):
        missing = "key" if factory.key is None else "certificate"
        return [Problem(missing, "factory", "missing; HTTPS needs both certificate and key")]
    if factory.certificate is not None and factory.url.startswith("http://"):
        return [Problem("url", "factory", "must begin with https://, as there is a certificate")]
    if factory.uploads and factory.url.startswith("http://"):
        said = "must begin with https://, as pilots prove by a token who they are: give certificate and key, or put a"
        return [Problem("url", "factory", f"{said} proxy that speaks HTTPS in front; or turn off uploads")]
    if factory.frontends and factory.url.startswith("http://") and not LOOPBACK.fullmatch(factory.address):
        said = "frontends prove by a token who they are: give certificate and key, or let only this host reach the"
        return [Problem("frontends", "factory", f"{said} server (address: 127.0.0.1), with a proxy that speaks HTTPS")]
    return []


def _upload_problems(factory: Factory) -> list[Problem]:
    """No file comes home from a machine of a cloud."""
    silent = [entry.name for entry in factory.entries if entry.type in CLOUDS]
    if factory.uploads or not silent:
        return []
    said = f"must be true: from machines of a cloud (entry {silent[0]}) nothing comes home but what pilots send"
    return [Problem("uploads", "factory", said)]


def _entries(items: Iterable[Json], directory: str, problems: list[Problem]) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for index, item in enumerate(items):
        path = f"entries[{index}]"
        if not isinstance(item, Mapping):
            problems.append(Problem(path, "factory", "expected a mapping with name, site and payload"))
            continue
        entry = read_entry(Reader(item, f"{path}.", directory, problems))
        if entry.name and entry.name in {other.name for other in entries}:
            problems.append(Problem(f"{path}.name", "factory", f"{entry.name!r} is the name of an earlier entry too"))
        entries.append(entry)
    return tuple(entries)
