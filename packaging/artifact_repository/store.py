"""The operator's own copy of the repository: what is signed, what waits for signatures, and the artifacts.

``metadata/`` holds every version that has all its signatures (``3.targets.json``); ``drafts/`` the one version of a
role that lacks some; ``targets/`` the artifacts under their names; ``backups/`` what ``metadata`` and ``drafts`` were
before each change.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from payload.console import BuildError
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer
from tuf.repository import Repository

from artifact_repository.keys import LETTERS

TOP_LEVEL = (Root.type, Targets.type, Snapshot.type, Timestamp.type)
LIFETIMES: Mapping[str, timedelta] = {
    Root.type: timedelta(days=365),
    Targets.type: timedelta(days=90),
    Snapshot.type: timedelta(days=7),
    Timestamp.type: timedelta(hours=12),
}
"""How long what a role signs is believed. A delegated role has that of ``targets``. A pilot that is shown old metadata
for ever (a freeze) notices it when the timestamp has expired, so that one lives for hours only."""
BACKUPS_KEPT = 50
_VERSIONED = re.compile(r"([1-9][0-9]*)\.(.+)\.json")


@dataclass(frozen=True, slots=True)
class Standing:
    """One role as it stands: its newest complete version, whether another waits, and who must sign that."""

    role: str
    version: int
    expires: datetime | None
    draft_version: int | None
    missing: int
    unsigned: tuple[str, ...]


class Store(Repository):
    """The repository in ``directory``; ``signers`` sign whatever is changed, as far as a role lets them."""

    def __init__(self, directory: Path, signers: Mapping[str, CryptoSigner] | None = None) -> None:
        self.directory = directory
        self._signers = dict(signers or {})

    @property
    def metadata(self) -> Path:
        """The directory of what is complete."""
        return self.directory / "metadata"

    @property
    def drafts(self) -> Path:
        """The directory of what lacks signatures."""
        return self.directory / "drafts"

    @property
    def artifacts(self) -> Path:
        """The directory of the artifacts."""
        return self.directory / "targets"

    def exists(self) -> bool:
        """Whether a repository was made here."""
        return self._newest(Root.type) is not None or self.draft(Root.type) is not None

    @contextmanager
    def changing(self, what: str) -> Iterator[None]:
        """Only one who changes it at a time, with a backup of what was before. BuildError."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with (self.directory / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._back_up(what)
                yield
        except OSError as error:
            raise BuildError(f"{error.filename or self.directory}: {error.strerror}") from error
        except RepositoryError as error:
            raise BuildError(f"{what}: {error}") from error

    def roles(self) -> list[str]:
        """The four top-level roles, then the delegated ones by name."""
        targets = self.targets() if self._known(Targets.type) else None
        delegated = targets.delegations.roles if targets and targets.delegations else None
        return [*TOP_LEVEL, *sorted(delegated or ())]

    def draft(self, role: str) -> Metadata[Any] | None:
        """The version that lacks signatures, or None. BuildError."""
        path = self.drafts / f"{role}.json"
        return _read(path) if path.is_file() else None

    def complete(self, role: str) -> Metadata[Any] | None:
        """The newest version that has all its signatures, or None. BuildError."""
        newest = self._newest(role)
        return None if newest is None else _read(self.metadata / f"{newest}.{role}.json")

    def open(self, role: str) -> Metadata[Any]:
        """What a change begins with: the draft if there is one, else the newest version, else an empty first one."""
        found = self.draft(role) or self.complete(role)
        if found is not None:
            return found
        if role not in TOP_LEVEL:
            return Metadata(Targets())
        empty: dict[str, Signed] = {one.type: one for one in (Root(), Targets(), Snapshot(), Timestamp())}
        return Metadata(empty[role])

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Sign the next version and keep it: as complete, or as a draft where signatures are missing."""
        newest = self._newest(role)
        md.signed.version = (newest or 0) + 1
        lifetime = LIFETIMES.get(role, LIFETIMES[Targets.type])
        md.signed.expires = (datetime.now(UTC) + lifetime).replace(microsecond=0)
        md.signatures.clear()
        self.sign(role, md)

    def sign(self, role: str, md: Metadata[Any]) -> None:
        """Add the signatures of all keys at hand that this role knows."""
        for keyid in self._authorised(role, md):
            if keyid in self._signers:
                md.sign(self._signers[keyid], append=True)
        self._keep(role, md)

    def standing(self, role: str) -> Standing:
        """How the role stands. BuildError."""
        complete, draft = self.complete(role), self.draft(role)
        missing, unsigned = self._missing(role, draft) if draft is not None else (0, ())
        return Standing(
            role,
            complete.signed.version if complete is not None else 0,
            complete.signed.expires if complete is not None else None,
            draft.signed.version if draft is not None else None,
            missing,
            unsigned,
        )

    @property
    def targets_infos(self) -> dict[str, MetaFile]:
        """What a snapshot lists: the newest complete version of each role that signs artifacts."""
        found = {}
        for role in (name for name in self.roles() if name not in (Root.type, Snapshot.type, Timestamp.type)):
            version = self._newest(role)
            if version is not None:
                found[f"{role}.json"] = self._info(role, version)
        return found

    @property
    def snapshot_info(self) -> MetaFile:
        """What a timestamp lists: the newest snapshot."""
        version = self._newest(Snapshot.type)
        if version is None:
            raise BuildError("there is no snapshot that has its signatures")
        return self._info(Snapshot.type, version)

    def _info(self, role: str, version: int) -> MetaFile:
        # With length and digest: a mirror cannot feed a pilot without end, nor another version of the same number.
        data = (self.metadata / f"{version}.{role}.json").read_bytes()
        return MetaFile.from_data(version, data, ["sha256"])

    def _known(self, role: str) -> bool:
        return self._newest(role) is not None or self.draft(role) is not None

    def _newest(self, role: str) -> int | None:
        versions = []
        for path in self.metadata.glob(f"*.{role}.json") if self.metadata.is_dir() else ():
            match = _VERSIONED.fullmatch(path.name)
            if match and match[2] == role:
                versions.append(int(match[1]))
        return max(versions, default=None)

    def _delegators(self, role: str, md: Metadata[Any]) -> list[Root | Targets]:
        """Whose keys must have signed it: for a root also those of the root before."""
        if role == Root.type:
            before = self.complete(Root.type)
            return [md.signed, *([before.signed] if before is not None else [])]
        if role in TOP_LEVEL:
            return [self.root()]
        return [self.targets()]

    def _authorised(self, role: str, md: Metadata[Any]) -> list[str]:
        keyids: dict[str, None] = {}
        for delegator in self._delegators(role, md):
            keyids |= dict.fromkeys(self._role(delegator, role).keyids)
        return list(keyids)

    @staticmethod
    def _role(delegator: Root | Targets, role: str) -> Any:
        try:
            return delegator.get_delegated_role(role)
        except ValueError:
            raise BuildError(f"nobody was given the role {role}; `delegate` does it") from None

    def _missing(self, role: str, md: Metadata[Any]) -> tuple[int, tuple[str, ...]]:
        missing = 0
        unsigned: dict[str, Any] = {}
        for delegator in self._delegators(role, md):
            self._role(delegator, role)
            result = delegator.get_verification_result(role, md.signed_bytes, md.signatures)
            missing = max(missing, result.missing)
            unsigned |= result.unsigned if result.missing else {}
        return missing, tuple(keyid[:LETTERS] for keyid in unsigned)

    def _keep(self, role: str, md: Metadata[Any]) -> None:
        draft = self.drafts / f"{role}.json"
        if self._missing(role, md)[0]:
            _write(draft, md)
            return
        _write(self.metadata / f"{md.signed.version}.{role}.json", md)
        draft.unlink(missing_ok=True)

    def _back_up(self, what: str) -> None:
        present = [path for path in (self.metadata, self.drafts) if path.is_dir()]
        if not present:
            return
        backups = self.directory / "backups"
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        target = backups / f"{moment}-{re.sub(r'[^a-z]+', '-', what)}"
        for path in present:
            shutil.copytree(path, target / path.name)
        for old in sorted(backups.iterdir())[:-BACKUPS_KEPT]:
            shutil.rmtree(old)


def _read(path: Path) -> Metadata[Any]:
    try:
        return Metadata.from_file(str(path))
    except (RepositoryError, OSError, ValueError) as error:
        hint = "the directory backups/ beside it has what it was before each change"
        raise BuildError(f"{path} cannot be read ({error}); {hint}") from error


def _write(path: Path, md: Metadata[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(deepcopy(md).to_bytes(JSONSerializer(compact=False)))
    os.replace(new, path)
