"""What mirrors and pilots see: signed metadata of every version, artifacts under names that hold their digest.

Everything but ``timestamp.json`` has a name that never means another content, so that caches and mirrors may keep it;
that one file, written last, makes a publication visible.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from payload.console import BuildError
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from artifact_repository.store import LIFETIMES, Store

TIMESTAMP = "timestamp.json"
BUNDLE_SCHEMA = "pilot-agent/trust/1"
PLACE = "https://publication.invalid"
"""The publication as the pilot's own code sees it when it is tried before it is visible."""


@dataclass(frozen=True, slots=True)
class Published:
    """Versions of what became visible, how many artifacts it lists, and until when pilots believe it."""

    root: int
    snapshot: int
    timestamp: int
    artifacts: int
    expires: datetime


def publish(store: Store, destination: Path) -> Published:
    """Sign a new timestamp, and a new snapshot where anything changed, and make it all visible in ``destination``.
    Before that it is fetched as a pilot would fetch it, from the very first root on. BuildError."""
    with store.changing("publish"):
        _require_complete(store, Root.type)
        _require_complete(store, Targets.type)
        store.do_snapshot(force=_is_old(store, Snapshot.type))
        _require_complete(store, Snapshot.type)
        store.do_timestamp(force=True)
        timestamp = _require_complete(store, Timestamp.type)
        metadata = _place_metadata(store, destination)
        count = _place_artifacts(store, destination)
        staged = store.metadata / f"{timestamp.signed.version}.{Timestamp.type}.json"
        _try(store, destination, staged)
        _copy(staged, metadata / TIMESTAMP)
    root, snapshot = store.complete(Root.type), store.complete(Snapshot.type)
    assert root is not None
    assert snapshot is not None
    return Published(
        root.signed.version, snapshot.signed.version, timestamp.signed.version, count, timestamp.signed.expires
    )


def bundle(store: Store) -> dict[str, Any]:
    """What a factory adds to the payload: the root of trust, with the newest timestamp and snapshot as a floor, so that
    a pilot that has seen nothing yet cannot be shown what was true long ago; and the moment of that, before which no
    node's clock is right. BuildError."""
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"schema": BUNDLE_SCHEMA, "made": made} | {
        role: _require_complete(store, role).to_dict() for role in (Root.type, Timestamp.type, Snapshot.type)
    }


def check_bundle(content: bytes, name: str) -> None:
    """Refuse what no pilot would begin with: a bundle whose root does not vouch for itself and the other roles.
    BuildError."""
    try:
        told = json.loads(content)
        if told["schema"] != BUNDLE_SCHEMA:
            raise BuildError(f"{name} has the schema {str(told['schema'])[:80]!r}, and {BUNDLE_SCHEMA} is needed")
        root: Metadata[Root] = Metadata.from_dict(told["root"])
        timestamp: Metadata[Timestamp] = Metadata.from_dict(told["timestamp"])
        snapshot: Metadata[Snapshot] = Metadata.from_dict(told["snapshot"])
        for role, metadata in ((Root.type, root), (Timestamp.type, timestamp), (Snapshot.type, snapshot)):
            root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        if timestamp.signed.snapshot_meta.version != snapshot.signed.version:
            raise BuildError(f"{name}: its timestamp is of another snapshot; `artifacts.py bundle` writes it anew")
    except (ValueError, KeyError, TypeError, AttributeError, RepositoryError, RecursionError) as error:
        raise BuildError(
            f"{name} is no bundle that pilots would believe ({error}); `artifacts.py bundle` writes one"
        ) from error


def artifacts(store: Store) -> Iterator[tuple[str, TargetFile]]:
    """Who signs what: role and artifact, of what is complete. BuildError."""
    for name in store.targets_infos:
        role = name.removesuffix(".json")
        signed = _require_complete(store, role).signed
        assert isinstance(signed, Targets)
        yield from ((role, target) for target in signed.targets.values())


def _require_complete(store: Store, role: str) -> Metadata[Any]:
    standing, found = store.standing(role), store.complete(role)
    blocking = role in (Root.type, Snapshot.type, Timestamp.type)
    if found is not None and not (blocking and standing.draft_version is not None):
        return found
    if standing.draft_version is None:
        raise BuildError(f"there is no metadata of {role}; `init` makes it")
    whose = ", ".join(standing.unsigned)
    raise BuildError(
        f"{role} version {standing.draft_version} lacks {standing.missing} signatures, of the keys {whose}: "
        f"`sign` with --keys adds them"
    )


def _is_old(store: Store, role: str) -> bool:
    """Whether half of the time for which it is believed has passed."""
    found = store.complete(role)
    return found is not None and found.signed.expires - datetime.now(UTC) < LIFETIMES[role] / 2


def _place_metadata(store: Store, destination: Path) -> Path:
    metadata = destination / "metadata"
    metadata.mkdir(parents=True, exist_ok=True)
    for source in sorted(store.metadata.glob("*.json")):
        if not source.name.endswith(f".{Timestamp.type}.json"):
            _copy(source, metadata / source.name)
    return metadata


def _place_artifacts(store: Store, destination: Path) -> int:
    count = 0
    for _, target in artifacts(store):
        source = store.artifacts / target.path
        try:
            with source.open("rb") as file:
                target.verify_length_and_hashes(file)
        except OSError as error:
            raise BuildError(f"{source} is signed and missing: {error.strerror}") from error
        except RepositoryError as error:
            raise BuildError(f"{source} is another file than the one that was signed") from error
        (prefixed,) = target.get_prefixed_paths()
        _copy(source, destination / "targets" / prefixed)
        count += 1
    return count


def _copy(source: Path, target: Path) -> None:
    """In one step, and not at all where the target holds the same already: what was damaged there is put right."""
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file, source.open("rb") as reader:
            shutil.copyfileobj(reader, file)
            os.fchmod(file.fileno(), 0o644)
        os.replace(name, target)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _try(store: Store, destination: Path, timestamp: Path) -> None:
    """Fetch everything as a pilot does that knows the first root only. BuildError where one would refuse it."""
    first = (store.metadata / f"1.{Root.type}.json").read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "artifacts").mkdir()
        updater = Updater(
            str(place), f"{PLACE}/metadata/", str(place / "artifacts"), f"{PLACE}/targets/",
            fetcher=_Publication(destination, timestamp), bootstrap=first,
        )  # fmt: skip
        try:
            updater.refresh()
            for role, target in artifacts(store):
                found = updater.get_targetinfo(target.path)
                if found is None or found.hashes != target.hashes:
                    raise BuildError(f"{target.path}, which {role} signs, is not what a pilot would be given")
                updater.download_target(found)
        except (RepositoryError, DownloadError) as error:
            raise BuildError(f"pilots would refuse this publication, nothing was made visible: {error}") from error


class _Publication(FetcherInterface):
    """The directory that is published, with the timestamp that is not there yet."""

    def __init__(self, directory: Path, timestamp: Path) -> None:
        self._directory = directory
        self._timestamp = timestamp

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = PurePosixPath(unquote(urlsplit(url).path)).relative_to("/")
        path = self._timestamp if name.name == TIMESTAMP else self._directory / name
        if not path.is_file():
            raise DownloadHTTPError(f"{url}: not found", 404)
        return iter([path.read_bytes()])


def write_bundle(store: Store, path: Path) -> None:
    """Write the bundle of ``bundle`` to ``path``. BuildError."""
    try:
        path.write_text(json.dumps(bundle(store), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from error
