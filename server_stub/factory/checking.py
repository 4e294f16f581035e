"""Whether a factory can do its work: each thing that it needs is looked at, and nothing is changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.spelling import unit_of
from server_stub.batch import BatchJob
from server_stub.entries import Factory
from server_stub.factory.checking_https import check_certificate
from server_stub.factory.checking_sites import check_sites
from server_stub.factory.entry import Entry
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.findings import Finding, bad, doubtful, failed, good
from server_stub.running import read_running

LEAST_FREE_MIB = 1024
FEW_TOKENS = 10
LAUNCHER_BEGINS = b"#!"
PAYLOAD_BEGINS = {"pyz": b"#!", "sh": b"#!"}
NEEDED_BITS = stat.S_IRWXG | stat.S_IRWXO


class Questions(Protocol):
    """What is asked of the batch system."""

    def schedd(self) -> str:
        """The access point's name."""
        ...

    def queue(self, factory: str) -> Mapping[JobId, BatchJob]:
        """The factory's jobs."""
        ...


def check_factory(factory: Factory, batch: Questions, *, now: float | None = None) -> Iterator[Finding]:
    """Every finding, in the order in which things are needed."""
    moment = time.time() if now is None else now
    yield good("file", f"{factory.name}: {entries_of(len(factory.entries))}")
    yield from check_state(factory)
    yield check_store(factory)
    yield from check_payloads(factory)
    yield check_launcher(factory)
    yield from check_certificate(factory, moment)
    yield check_address(factory)
    yield check_access_point(factory, batch)
    for entry in factory.entries:
        yield from check_entry(factory, entry, moment)
    yield from check_descriptions(factory)
    yield from check_sites(factory)


def check_state(factory: Factory) -> Iterator[Finding]:
    """The directory that holds everything: private, and with room."""
    try:
        found = os.stat(factory.state)
    except FileNotFoundError:
        yield good("state", f"{factory.state} will be made at the first start")
        return
    except OSError as error:
        yield bad("state", f"{factory.state} cannot be read: {error.strerror}", "let the factory's account own it")
        return
    if not os.access(factory.state, os.W_OK | os.X_OK):
        yield bad("state", f"this account may not write to {factory.state}", "let the factory's account own it")
    elif found.st_mode & NEEDED_BITS:
        mode = stat.S_IMODE(found.st_mode)
        yield doubtful("state", f"others may enter {factory.state} (mode {mode:o})", "the next start makes it 0700")
    else:
        yield good("state", factory.state)
    free = shutil.disk_usage(factory.state).free >> 20
    if free < LEAST_FREE_MIB:
        hint = "make room, or keep less: keep_pilots_days, keep_documents_days"
        yield doubtful("disk", f"{free} MiB are free below {factory.state}", hint)


def check_store(factory: Factory) -> Finding:
    """The store answers, and this version knows its revision."""
    from sqlalchemy.engine import make_url

    from server_stub.factory.database import HEAD, stored_revision

    shown = make_url(factory.database).render_as_string(hide_password=True)
    try:
        found = stored_revision(factory.database)
    except PilotError as error:
        return failed("store", error.failure)
    if found is None:
        return good("store", f"{shown} is empty; the first start prepares it")
    if found > HEAD:
        hint = "run the version of the factory that wrote it, or a later one"
        return bad("store", f"{shown} has revision {found}, this factory knows up to {HEAD}", hint)
    if found < HEAD:
        return doubtful("store", f"{shown} has revision {found}", f"the next start brings it to {HEAD}: keep a copy")
    return good("store", f"{shown}, revision {found}")


def check_payloads(factory: Factory) -> Iterator[Finding]:
    """Each payload that an entry asks for is there; with its digest, by which a pilot's report can be told."""
    for name in sorted({entry.payload_file for entry in factory.entries}):
        path = os.path.join(factory.payloads, name)
        try:
            with open(path, "rb") as file:
                begins, size = file.read(2), os.fstat(file.fileno()).st_size
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            hint = f"put {name} into {factory.payloads} (`make payload` builds it)"
            yield bad("payload", f"{path} cannot be read: {error.strerror}", hint)
            continue
        if begins != LAUNCHER_BEGINS:
            hint = "put what `make payload` built there"
            yield bad("payload", f"{path} is no program", hint, kind=FailureKind.CORRUPTION)
        else:
            yield good("payload", f"{path}: {size / 2**20:.1f} MiB, sha256 {digest}")


def check_launcher(factory: Factory) -> Finding:
    """The job's program."""
    try:
        with open(factory.launcher, "rb") as file:
            begins = file.read(2)
    except OSError as error:
        hint = "name packaging/launcher.sh of the same version as the payload"
        return bad("launcher", f"{factory.launcher} cannot be read: {error.strerror}", hint)
    if begins != LAUNCHER_BEGINS:
        return bad("launcher", f"{factory.launcher} is no script", "name packaging/launcher.sh")
    return good("launcher", factory.launcher)


def check_address(factory: Factory) -> Finding:
    """The server can listen, or does."""
    from server_stub.factory.listening import try_address

    place = f"{factory.address}, port {factory.port}"
    running = read_running(factory.state)
    if running is not None:
        return good("address", f"the factory runs as process {running.pid} and listens at {place}")
    try:
        try_address(factory)
    except PilotError as error:
        return failed("address", error.failure)
    return good("address", f"{place} is free; nodes come to {factory.url}")


def check_access_point(factory: Factory, batch: Questions) -> Finding:
    """HTCondor answers this account."""
    try:
        jobs = batch.queue(factory.name)
    except PilotError as error:
        return failed("access point", error.failure)
    return good("access point", f"{batch.schedd() or 'it'} answers, {len(jobs)} pilots are in its queue")


def entries_of(number: int) -> str:
    """So many entries."""
    return f"{number} {unit_of(number, 'entries')}"


def check_entry(factory: Factory, entry: Entry, now: float) -> Iterator[Finding]:
    """Nothing keeps an entry from being used."""
    name = f"entry {entry.name}"
    closed = entry.closed(now)
    if closed:
        yield doubtful(name, f"takes no pilots: {closed}")
    if entry.tokens is None:
        return
    try:
        names = [one for one in sorted(os.listdir(entry.tokens)) if not one.startswith(".")]
        exposed = _exposed(entry.tokens, names)
    except OSError as error:
        hint = "make it, with one token file for each pilot to come; the VO must act"
        yield bad(name, f"its tokens {entry.tokens}: {error.strerror}", hint, kind=FailureKind.CREDENTIAL)
        return
    hint = "put one token file for each pilot to come there; the VO must act"
    if exposed:
        change = f"chmod 700 {entry.tokens}, and have tokens made anew that others have read; the VO must act"
        yield doubtful(name, f"others on this host can read {exposed[0]} in {entry.tokens}", change)
    left = len(names)
    if not left:
        yield bad(name, f"no token is left in {entry.tokens}", hint, kind=FailureKind.CREDENTIAL)
    elif left < FEW_TOKENS:
        told = "1 token is" if left == 1 else f"{left} tokens are"
        yield doubtful(name, f"{told} left in {entry.tokens}", hint)


def _exposed(directory: str, names: Sequence[str]) -> list[str]:
    """Those of the files that accounts beside their owner can read; none where they cannot enter the directory."""
    if not os.stat(directory).st_mode & 0o011:
        return []
    found = []
    for name in names:
        with suppress(FileNotFoundError):  # a submission took it
            if os.stat(os.path.join(directory, name)).st_mode & 0o044:
                found.append(name)
    return found


def check_frontends(factory: Factory) -> Iterator[Finding]:
    """Each frontend may ask for pilots somewhere."""
    for frontend in factory.frontends:
        name, vos = f"frontend {frontend.name}", ", ".join(frontend.vos)
        usable = [one for one in factory.entries if frontend.may_use(one.name) and frontend.vos_at(one.vos)]
        if usable:
            yield good(name, f"may ask for {vos} at {len(usable)} of {len(factory.entries)} entries")
        else:
            hint = "name one of its VOs in vos of an entry, and the entry in its entries where it has any"
            yield doubtful(name, f"may ask for {vos}, and no entry takes that", hint)


def check_descriptions(factory: Factory) -> Iterator[Finding]:
    """HTCondor's own parser takes what would be submitted to each entry."""
    from server_stub.condor.asking import ask

    texts, wrong = {}, []
    for entry in factory.entries:
        try:
            texts[entry.name] = _description(factory, entry)
        except PilotError as error:
            wrong.append(failed(f"entry {entry.name}", error.failure))
    yield from wrong
    try:
        answers = ask("parse", {"texts": texts})
    except PilotError as error:
        yield failed("descriptions", error.failure)
        return
    problems = {name: problem for name, problem in answers.items() if problem}
    for name, problem in problems.items():
        hint = "correct the entry's keys; HTCondor's parser said this of its submit description"
        yield bad(f"entry {name}", f"HTCondor does not take its description: {problem}", hint)
    if not problems and not wrong:
        yield good("descriptions", f"HTCondor takes those of {entries_of(len(texts))}")


def _description(factory: Factory, entry: Entry) -> str:
    from server_stub.factory.description import description
    from server_stub.submit import parcel_of

    directory = factory.pilot_directory("example")
    pilot = Pilot(
        "example", entry.name, entry.site, entry.payload_file, "0" * 64, PilotState.PREPARED, 0.0, directory,
        vo=entry.vos[0] if entry.vos else "",
    )  # fmt: skip
    return description(parcel_of(factory, entry, pilot))
