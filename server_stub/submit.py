"""Making pilots: a private directory for each, a submit description, and the hand-over to the batch system."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import replace

from pilot_agent.files import read_bounded, write_atomically, write_json
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from server_stub.batch import BatchSystem
from server_stub.credentials.kinds import FILES, Kind
from server_stub.entries import Factory
from server_stub.factory import site_keys
from server_stub.factory.description import description, makes_logs
from server_stub.factory.descriptions import user_data
from server_stub.factory.descriptions.clouds import has_user_data
from server_stub.factory.descriptions.parcel import (
    ENTRY_FILE,
    ERROR_FILE,
    EVENTS_FILE,
    FACTORY_FILE,
    LOGS_DIRECTORY,
    OUTPUT_FILE,
    REPORT_FILE,
    Parcel,
)
from server_stub.factory.entry import Entry
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.pressure import require_room
from server_stub.factory.store import Store
from server_stub.factory.tokens import Tokens, load_key

__all__ = ["ENTRY_FILE", "ERROR_FILE", "FACTORY_FILE", "OUTPUT_FILE", "REPORT_FILE", "submit_pilots"]

TOKEN_FILE = FILES[Kind.IDTOKEN]
UPLOAD_TOKEN_FILE = "upload.token"  # noqa: S105 - a file's name
DESCRIPTION_FILE = "pilot.sub"
TOKEN_LIMIT_BYTES = 64 << 10
SITE_KINDS = (Kind.SCITOKEN, Kind.X509, Kind.SSH_KEY)
NOTHING: Mapping[Kind, bytes] = {}
Credentials = Callable[[Pilot], Mapping[Kind, bytes]]
"""What a pilot is given: the contents by kind. Raises ``PilotError`` (token.missing, credential.expired, ...)."""


def no_credentials(pilot: Pilot) -> Mapping[Kind, bytes]:
    """For pilots that nobody sent anything for."""
    return NOTHING


def submit_pilots(
    factory: Factory,
    entry: Entry,
    count: int,
    store: Store,
    batch: BatchSystem,
    *,
    vo: str = "",
    frontend: str = "",
    credentials: Credentials = no_credentials,
) -> list[Pilot]:
    """Submit ``count`` pilots to an entry, for a VO and a frontend where these are named; the pilots as stored.
    ``credentials`` gives what each takes along and what its site lets it in by.

    Raises ``PilotError``: entry.closed, entry.vo, entry.full (nothing was submitted), payload.missing, token.missing,
    pilot.unwritable, batch.failed (those that are not among the refused ones were submitted).
    """
    require_room(entry, count, store, vo=vo, frontend=frontend)
    digest = payload_digest(factory, entry)
    schedd = batch.schedd()
    pilots, paths, missing = [], [], None
    for _ in range(count):
        pilot = _new_pilot(factory, entry, digest, vo, frontend)
        proof = Tokens(factory.name, load_key(factory.state), store).issue(pilot.id) if factory.uploads else ""
        try:
            paths.append(prepare(factory, entry, pilot, schedd, proof, credentials(pilot)))
        except (PilotError, OSError) as error:  # no token, no room: those before it are submitted all the same
            shutil.rmtree(pilot.directory, ignore_errors=True)
            missing = error if isinstance(error, PilotError) else _unwritable(entry, error)
            break
        pilots.append(pilot)
        store.save(pilot)
    submitted = _hand_over(pilots, paths, store, batch)
    if missing is not None:
        raise missing
    return submitted


def _unwritable(entry: Entry, error: OSError) -> PilotError:
    place = f"{error.filename}: " if error.filename else ""
    message = f"the files of a pilot of the entry {entry.name} cannot be made: {place}{error.strerror or error}"
    hint = "see whether the disk is full, and who may read and write there; the factory's operator must act"
    return PilotError(Failure(FailureKind.CONFIG, "pilot.unwritable", message, hint, retry=True))


def _hand_over(pilots: list[Pilot], paths: list[str], store: Store, batch: BatchSystem) -> list[Pilot]:
    """Submit what was prepared. A pilot of which it is not known whether it was submitted stays prepared: its job
    tells."""
    answers = batch.submit_all(paths) if paths else []
    submitted, refusal = [], None
    for pilot, answer in zip(pilots, answers, strict=True):
        if isinstance(answer, JobId):
            submitted.append(replace(pilot, state=PilotState.QUEUED, job=answer))
            store.save(submitted[-1])
        else:
            refuse(pilot, answer.failure.message, store)
            refusal = refusal or answer
    if refusal is not None:
        raise refusal
    return submitted


def refuse(pilot: Pilot, message: str, store: Store) -> Pilot:
    """A pilot that was not submitted, as stored now; its tokens are of no more use."""
    refused = replace(pilot, state=PilotState.REFUSED, ended=time.time(), message=message)
    store.save(refused)
    drop_token(pilot.directory)
    return refused


def payload_digest(factory: Factory, entry: Entry) -> str:
    """The sha256 of the payload that the factory publishes for an entry. Raises ``PilotError`` (payload.missing)."""
    path = os.path.join(factory.payloads, entry.payload_file)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"the payload {path} cannot be read: {error.strerror}"
        hint = "build it with `make payload` and put it there; the factory's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "payload.missing", message, hint)) from error


def _new_pilot(factory: Factory, entry: Entry, digest: str, vo: str, frontend: str) -> Pilot:
    pilot_id = secrets.token_hex(6)
    directory = factory.pilot_directory(pilot_id)
    state, now = PilotState.PREPARED, time.time()
    return Pilot(
        pilot_id, entry.name, entry.site, entry.payload_file, digest, state, now, directory, vo=vo, frontend=frontend
    )


def prepare(
    factory: Factory,
    entry: Entry,
    pilot: Pilot,
    schedd: str = "",
    proof: str = "",
    given: Mapping[Kind, bytes] = NOTHING,
) -> str:
    """Make the pilot's private directory with all that its job takes along; the path of the submit description.
    ``schedd`` is the name of the access point, empty while unknown; ``proof`` the token for the pilot's uploads;
    ``given`` the credentials that its frontend sent for it.

    Raises ``PilotError`` (token.missing, description.unusable).
    """
    os.makedirs(pilot.directory, mode=0o700)
    if entry.tokens is not None and Kind.IDTOKEN not in given:
        _take_token(entry, pilot.directory)
    for kind, content in given.items():
        if kind is Kind.SSH_KEY:
            site_keys.keep(factory.state, pilot, content)
        else:
            write_atomically(os.path.join(pilot.directory, FILES[kind]), content)
    if factory.uploads:
        write_atomically(os.path.join(pilot.directory, UPLOAD_TOKEN_FILE), f"{proof}\n".encode("ascii"))
    write_json(os.path.join(pilot.directory, FACTORY_FILE), factory_layer(factory, schedd))
    write_json(
        os.path.join(pilot.directory, ENTRY_FILE),
        _with_address(factory, entry_layer(entry, Kind.IDTOKEN in given), pilot, renewed=Kind.IDTOKEN in given),
    )
    for name in (REPORT_FILE, EVENTS_FILE):
        write_atomically(os.path.join(pilot.directory, name), b"")
    if not makes_logs(entry):
        os.mkdir(os.path.join(pilot.directory, LOGS_DIRECTORY), mode=0o700)
    made = {DESCRIPTION_FILE: description(parcel := parcel_of(factory, entry, pilot, given))}
    if has_user_data(entry):
        made |= _user_data(parcel)
    for name, text in made.items():
        write_atomically(os.path.join(pilot.directory, name), text.encode())
    return os.path.join(pilot.directory, DESCRIPTION_FILE)


def parcel_of(factory: Factory, entry: Entry, pilot: Pilot, given: Container[Kind] = ()) -> Parcel:
    """What goes with a pilot, as its submit description needs it."""
    secret = [TOKEN_FILE] if entry.tokens is not None or Kind.IDTOKEN in given else []
    secret += [UPLOAD_TOKEN_FILE] if factory.uploads else []
    return Parcel(
        factory=factory.name,
        entry=entry,
        pilot=pilot.id,
        sha256=pilot.sha256,
        directory=pilot.directory,
        launcher=factory.launcher,
        payload=os.path.join(factory.payloads, entry.payload_file),
        address=f"{factory.url}/payload/{entry.payload_file}",
        secrets=tuple(secret),
        credentials={kind.value: _place(pilot, kind) for kind in SITE_KINDS if kind in given},
    )


def _place(pilot: Pilot, kind: Kind) -> str:
    """Where a credential really is: pilots that go by the same ssh key name the same file."""
    return os.path.realpath(os.path.join(pilot.directory, FILES[kind]))


def _user_data(parcel: Parcel) -> dict[str, str]:
    try:
        return user_data.files(parcel)
    except (OSError, ValueError) as error:
        message = f"no user data can be made for a machine of the entry {parcel.entry.name}: {error}"
        hint = "correct the launcher's path, or shorten the entry's configuration; the factory's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "description.unusable", message, hint)) from error


def factory_layer(factory: Factory, schedd: str = "") -> dict[str, Json]:
    """The pilot's configuration, layer ``factory``. What the factory's file gives as the names of instance and schedd
    goes before what is known here: an instance is this factory itself."""
    known = {"glidein": factory.name, **({"schedd": schedd} if schedd else {})}
    given: dict[str, Json] = factory.pilot.get("factory") or {}
    return _with(factory.pilot, "factory", **{**known, **given, "name": factory.name})


def entry_layer(entry: Entry, token: bool = False) -> dict[str, Json]:
    """The pilot's configuration, layer ``entry``; ``token`` says that the pilot has one from elsewhere than the entry's
    directory."""
    document = _with(_with(entry.pilot, "entry", name=entry.name), "site", name=entry.site)
    given: dict[str, Json] = document.get("site") or {}
    if entry.start_directory and "scratch" not in given:
        document = _with(document, "site", scratch=[entry.start_directory])
    if entry.proxies and "proxies" not in (document.get("cvmfs") or {}):
        document = _with(document, "cvmfs", proxies=list(entry.proxies))
    return _with(document, "pool", token=TOKEN_FILE) if token or entry.tokens is not None else document


def _with_address(factory: Factory, layer: dict[str, Json], pilot: Pilot, *, renewed: bool) -> dict[str, Json]:
    """The layer with the address to which this pilot sends its events and its report, where the factory takes them;
    from there it also fetches its token where a frontend keeps that fresh (``renewed``)."""
    if not factory.uploads:
        return layer
    layer = _with(layer, "upload", url=f"{factory.url}/pilots/{pilot.id}", token=UPLOAD_TOKEN_FILE)
    given: dict[str, Json] = layer.get("pool") or {}
    return {**layer, "pool": {"renew_token": True, **given}} if renewed else layer


def _with(document: Json, section: str, **values: Json) -> dict[str, Json]:
    return {**document, section: {**(document.get(section) or {}), **values}}


def _take_token(entry: Entry, directory: str) -> None:
    """Move one of the entry's tokens to the pilot's directory; no two pilots ever get the same."""
    if entry.tokens is None:
        return
    target = os.path.join(directory, TOKEN_FILE)
    try:
        with os.scandir(entry.tokens) as found:
            names = sorted(one.name for one in found if not one.name.startswith(".") and one.is_file())
    except OSError as error:
        raise _no_token(entry, f"the directory {entry.tokens} cannot be read: {error.strerror}") from error
    for name in names:
        try:
            _move(entry.tokens, name, target)
        except FileNotFoundError:  # another submission was quicker
            continue
        except OSError as error:
            raise _no_token(entry, f"{os.path.join(entry.tokens, name)} cannot be taken: {error.strerror}") from error
        os.chmod(target, 0o600)
        return
    raise _no_token(entry, f"the directory {entry.tokens} is empty")


def _move(directory: str, name: str, target: str) -> None:
    """Take a token file away; of several who try only one succeeds, on whatever file system the target is. Raises
    ``OSError``."""
    try:
        os.rename(os.path.join(directory, name), target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        ours = os.path.join(directory, f".{name}.{secrets.token_hex(6)}")
        os.rename(os.path.join(directory, name), ours)
        write_atomically(target, read_bounded(ours, limit_bytes=TOKEN_LIMIT_BYTES))
        os.unlink(ours)


def _no_token(entry: Entry, found: str) -> PilotError:
    message = f"no token for a pilot of the entry {entry.name}: {found}"
    hint = "put one token file for each pilot there; the VO must act"
    return PilotError(Failure(FailureKind.CREDENTIAL, "token.missing", message, hint, retry=True))


def drop_token(directory: str) -> None:
    """Delete the factory's copies of a pilot's tokens, once the pilot has no more use for them."""
    for name in (*FILES.values(), UPLOAD_TOKEN_FILE):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            # What a node sends home lands in this directory, under any name.
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            os.unlink(path)
