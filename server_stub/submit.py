"""Making pilots: a private directory for each, a submit description, and the hand-over to the batch system."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from dataclasses import replace

from pilot_agent.files import write_atomically, write_json
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from server_stub.batch import BatchSystem
from server_stub.entries import Factory
from server_stub.factory.entry import Entry
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.pressure import require_room
from server_stub.factory.store import Store
from server_stub.factory.tokens import Tokens, load_key

FACTORY_FILE = "factory.json"
ENTRY_FILE = "entry.json"
TOKEN_FILE = "pilot.token"  # noqa: S105 - a file's name
UPLOAD_TOKEN_FILE = "upload.token"  # noqa: S105 - a file's name
DESCRIPTION_FILE = "pilot.sub"
REPORT_FILE = "report.json"
EVENTS_FILE = "events.jsonl"
LOGS_DIRECTORY = "logs"
OUTPUT_FILE = "pilot.out"
ERROR_FILE = "pilot.err"
OUTPUTS = (REPORT_FILE, EVENTS_FILE, LOGS_DIRECTORY)


def submit_pilots(
    factory: Factory, entry: Entry, count: int, store: Store, batch: BatchSystem, *, vo: str = ""
) -> list[Pilot]:
    """Submit ``count`` pilots to an entry, for a VO where one is named; the pilots as stored.

    Raises ``PilotError``: entry.closed, entry.vo, entry.full (nothing was submitted), payload.missing, token.missing,
    batch.failed (those
    before it were submitted).
    """
    require_room(entry, count, store, vo=vo)
    digest = payload_digest(factory, entry)
    schedd = batch.schedd()
    return [_submit_one(factory, entry, digest, schedd, store, batch, vo) for _ in range(count)]


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


def _submit_one(
    factory: Factory, entry: Entry, digest: str, schedd: str, store: Store, batch: BatchSystem, vo: str
) -> Pilot:
    pilot_id = secrets.token_hex(6)
    directory = factory.pilot_directory(pilot_id)
    pilot = Pilot(
        pilot_id,
        entry.name,
        entry.site,
        entry.payload_file,
        digest,
        PilotState.PREPARED,
        time.time(),
        directory,
        vo=vo,
    )
    proof = Tokens(factory.name, load_key(factory.state), store).issue(pilot_id) if factory.uploads else ""
    path = prepare(factory, entry, pilot, schedd, proof)
    store.save(pilot)
    try:
        pilot = replace(pilot, state=PilotState.QUEUED, job=batch.submit(path))
    except PilotError as error:
        store.save(replace(pilot, state=PilotState.REFUSED, ended=time.time(), message=error.failure.message))
        drop_token(directory)
        raise
    store.save(pilot)
    return pilot


def prepare(factory: Factory, entry: Entry, pilot: Pilot, schedd: str = "", proof: str = "") -> str:
    """Make the pilot's private directory with all that its job takes along; the path of the submit description.
    ``schedd`` is the name of the access point, empty while unknown; ``proof`` the token for the pilot's uploads.

    Raises ``PilotError`` (token.missing).
    """
    os.makedirs(pilot.directory, mode=0o700)
    if entry.tokens is not None:
        _take_token(entry, pilot.directory)
    if factory.uploads:
        write_atomically(os.path.join(pilot.directory, UPLOAD_TOKEN_FILE), f"{proof}\n".encode("ascii"))
    write_json(os.path.join(pilot.directory, FACTORY_FILE), factory_layer(factory, schedd))
    write_json(os.path.join(pilot.directory, ENTRY_FILE), _with_address(factory, entry_layer(entry), pilot))
    # The batch system holds a job whose output is missing. Empty ones go along, so a pilot that ends before it writes
    # its own comes back all the same, with what it printed.
    for name in (REPORT_FILE, EVENTS_FILE):
        write_atomically(os.path.join(pilot.directory, name), b"")
    os.mkdir(os.path.join(pilot.directory, LOGS_DIRECTORY), mode=0o700)
    path = os.path.join(pilot.directory, DESCRIPTION_FILE)
    write_atomically(path, description(factory, entry, pilot).encode())
    return path


def factory_layer(factory: Factory, schedd: str = "") -> dict[str, Json]:
    """The pilot's configuration, layer ``factory``. What the factory's file gives as the names of instance and schedd
    goes before what is known here: an instance is this factory itself."""
    known = {"glidein": factory.name, **({"schedd": schedd} if schedd else {})}
    given: dict[str, Json] = factory.pilot.get("factory") or {}
    return _with(factory.pilot, "factory", **{**known, **given, "name": factory.name})


def entry_layer(entry: Entry) -> dict[str, Json]:
    """The pilot's configuration, layer ``entry``."""
    document = _with(_with(entry.pilot, "entry", name=entry.name), "site", name=entry.site)
    given: dict[str, Json] = document.get("site") or {}
    if entry.start_directory and "scratch" not in given:
        document = _with(document, "site", scratch=[entry.start_directory])
    if entry.proxies and "proxies" not in (document.get("cvmfs") or {}):
        document = _with(document, "cvmfs", proxies=list(entry.proxies))
    return document if entry.tokens is None else _with(document, "pool", token=TOKEN_FILE)


def _with_address(factory: Factory, layer: dict[str, Json], pilot: Pilot) -> dict[str, Json]:
    """The layer with the address to which this pilot sends its events and its report, where the factory takes them."""
    address = f"{factory.url}/pilots/{pilot.id}"
    return _with(layer, "upload", url=address, token=UPLOAD_TOKEN_FILE) if factory.uploads else layer


def _with(document: Json, section: str, **values: Json) -> dict[str, Json]:
    return {**document, section: {**(document.get(section) or {}), **values}}


def description(factory: Factory, entry: Entry, pilot: Pilot) -> str:
    """The submit description of a pilot's job. Every value in it was checked when the factory's file was read."""
    secret = [TOKEN_FILE] if entry.tokens is not None else []
    secret += [UPLOAD_TOKEN_FILE] if factory.uploads else []
    inputs = [FACTORY_FILE, ENTRY_FILE, *secret, *OUTPUTS]
    inputs.append(f"{factory.url}/payload/{entry.payload_file}")
    # The job's number exists only once it is submitted: the batch system puts it in the place of its own macros.
    numbers = "--set factory.cluster=$(Cluster) --set factory.process=$(Process)"
    layers = f"--config factory={FACTORY_FILE} --config entry={ENTRY_FILE} {numbers}"
    lines = {
        "universe": "vanilla",
        "executable": factory.launcher,
        "arguments": f'"--payload {entry.payload_file} --sha256 {pilot.sha256} -- run {layers} --output ."',
        "initialdir": pilot.directory,
        "output": OUTPUT_FILE,
        "error": ERROR_FILE,
        "log": "pilot.log",
        "getenv": "False",
        # A pilot that its site preempted is not started again; whether another one is wanted the factory decides.
        "requirements": f"({entry.requirements}) && (MY.NumJobStarts ?: 0) == 0",
        **_requests(entry),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_executable": "True",
        "transfer_input_files": ", ".join(inputs),
        "transfer_output_files": ", ".join(OUTPUTS),
        "kill_sig": "SIGTERM",
        "want_graceful_removal": "True",
        "periodic_remove": "JobStatus == 1 && NumJobStarts > 0",
        "notification": "Never",
        "My.PilotFactory": f'"{factory.name}"',
        "My.PilotEntry": f'"{entry.name}"',
        "My.PilotId": f'"{pilot.id}"',
    }
    if secret:
        lines["encrypt_input_files"] = ", ".join(secret)
    return "".join(f"{name} = {value}\n" for name, value in lines.items()) + "queue 1\n"


def _requests(entry: Entry) -> dict[str, str]:
    """What the job asks of the batch system; nothing where that decides."""
    asked = {
        "request_cpus": str(entry.cores) if entry.cores else "",
        "request_memory": f"{entry.memory_mib}M" if entry.memory_mib else "",
        "request_gpus": str(entry.gpus) if entry.gpus else "",
    }
    return {name: value for name, value in asked.items() if value}


def _take_token(entry: Entry, directory: str) -> None:
    """Move one of the entry's tokens to the pilot's directory; no two pilots ever get the same."""
    if entry.tokens is None:
        return
    target = os.path.join(directory, TOKEN_FILE)
    try:
        names = sorted(name for name in os.listdir(entry.tokens) if not name.startswith("."))
    except OSError as error:
        raise _no_token(entry, f"the directory {entry.tokens} cannot be read: {error.strerror}") from error
    for name in names:
        try:
            os.rename(os.path.join(entry.tokens, name), target)
        except FileNotFoundError:  # another submission was quicker
            continue
        os.chmod(target, 0o600)
        return
    raise _no_token(entry, f"the directory {entry.tokens} is empty")


def _no_token(entry: Entry, found: str) -> PilotError:
    message = f"no token for a pilot of the entry {entry.name}: {found}"
    hint = "put one token file for each pilot there; the VO must act"
    return PilotError(Failure(FailureKind.CREDENTIAL, "token.missing", message, hint, retry=True))


def drop_token(directory: str) -> None:
    """Delete the factory's copies of a pilot's tokens, once the pilot has no more use for them."""
    for name in (TOKEN_FILE, UPLOAD_TOKEN_FILE):
        path = os.path.join(directory, name)
        if os.path.lexists(path):
            os.unlink(path)
