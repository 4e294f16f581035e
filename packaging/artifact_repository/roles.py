"""What an operator does to the repository: makes it, gives roles away, adds artifacts, signs, changes keys."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from payload.console import BuildError
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets
from tuf.api.serialization import DeserializationError
from tuf.repository import AbortEdit

from artifact_repository.store import TOP_LEVEL, Store

KINDS = ("plugin", "config", "images", "files", "cvmfs", "condor", "payload")
"""What an artifact is for; the first directory of its name."""
VO_KINDS = ("plugin", "config", "images", "files")
"""What a VO signs for itself, below a directory of its own name: ``plugin/atlas/...``."""
_ROLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True, slots=True)
class Ceremony:
    """Who signs what from the beginning: role -> public keys, and how many of them are needed."""

    keys: Mapping[str, Sequence[Key]]
    thresholds: Mapping[str, int]


def require_new(store: Store) -> None:
    """BuildError where there is a repository already."""
    if store.exists():
        raise BuildError(f"{store.directory} is a repository already; another key comes with `rotate`")


def initialise(store: Store, ceremony: Ceremony) -> None:
    """The first version of all four roles. BuildError."""
    require_new(store)
    for role in TOP_LEVEL:
        _require_threshold(role, ceremony.thresholds[role], len(ceremony.keys[role]))
    with store.changing("init"):
        with store.edit_root() as root:
            root.consistent_snapshot = True
            for role in TOP_LEVEL:
                for key in ceremony.keys[role]:
                    root.add_key(key, role)
                root.roles[role].threshold = ceremony.thresholds[role]
        with store.edit_targets():
            pass


def delegate(store: Store, vo: str, keys: Sequence[Key], threshold: int) -> None:
    """Let a VO sign its own plugins, configuration and image dictionaries, and nothing else. BuildError."""
    if not _ROLE.fullmatch(vo) or vo in TOP_LEVEL:
        raise BuildError(f"{vo!r} is no name of a VO here: small letters, digits and . _ -, and none of the four roles")
    _require_threshold(vo, threshold, len(keys))
    with store.changing("delegate"):
        with store.edit_targets() as targets:
            if targets.delegations is None:
                targets.delegations = Delegations({}, {})
            if targets.delegations.roles is None or vo in targets.delegations.roles:
                raise BuildError(f"{vo} has been given its role already; another key comes with `rotate`")
            # A pattern matches within one directory only. Terminating: what the VO does not sign, nobody else does.
            paths = [f"{kind}/{vo}/*" for kind in VO_KINDS]
            targets.delegations.roles[vo] = DelegatedRole(vo, [], threshold, True, paths)
            for key in keys:
                targets.add_key(key, vo)
        with store.edit_targets(vo):
            pass


def revoke(store: Store, vo: str) -> None:
    """Take a VO's role away, with all that it signed. BuildError."""
    with store.changing("revoke"), store.edit_targets() as targets:
        roles = targets.delegations.roles if targets.delegations else None
        if not roles or vo not in roles:
            raise BuildError(f"{vo} has no role here")
        for keyid in list(roles[vo].keyids):
            targets.revoke_key(keyid, vo)
        del roles[vo]


def add(
    store: Store, file: Path, kind: str, *, vo: str | None = None, name: str | None = None, replace: bool = False
) -> str:
    """Put a file among the artifacts; the name under which pilots ask for it. Only with ``replace`` may a name get
    another content, which an index of others needs. BuildError."""
    name = name or file.name
    if not _NAME.fullmatch(name):
        raise BuildError(f"{name!r} is no name of an artifact: letters, digits and . _ + -, no directories")
    if kind not in KINDS or (vo is not None and kind not in VO_KINDS):
        allowed = ", ".join(VO_KINDS if vo is not None else KINDS)
        raise BuildError(f"{kind!r} is no kind of artifact {'of a VO' if vo else ''}; there are {allowed}")
    if kind == "plugin" and not name.endswith(".whl"):
        raise BuildError(
            f"{name} is no wheel, and pilots load no other plugins; `pip wheel --no-deps DIRECTORY` makes one"
        )
    path = str(PurePosixPath(kind, vo or "", name))
    role = vo or Targets.type
    with store.changing("add"):
        target = store.artifacts / path
        try:
            found = TargetFile.from_file(path, str(file), ["sha256"])
        except (OSError, ValueError) as error:
            raise BuildError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
        with store.edit_targets(role) as targets:
            before = targets.targets.get(path)
            if before is not None and before.hashes != found.hashes and not replace:
                message = f"{path} is signed with another content; give this one another name, with its version in it, "
                message += "or --replace it"
                raise BuildError(message)
            targets.targets[path] = found
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return path


def remove(store: Store, path: str) -> None:
    """Sign an artifact no longer. BuildError."""
    with store.changing("remove"):
        for role in store.roles():
            if role in TOP_LEVEL and role != Targets.type:
                continue
            with store.edit_targets(role) as targets:
                if targets.targets.pop(path, None) is None:
                    raise AbortEdit
                return
    raise BuildError(f"nobody signs {path}; `show` lists what is signed")


def rotate(store: Store, role: str, new: Sequence[Key], old: Sequence[str], threshold: int | None) -> None:
    """Give ``role`` other keys: ``new`` ones, and none of those whose identifiers begin as ``old`` says. BuildError."""
    with store.changing("rotate"):
        if role in TOP_LEVEL:
            with store.edit_root() as root:
                _change_keys(root, role, new, old, threshold)
            stale = [role] if role != Root.type else []
        else:
            with store.edit_targets() as targets:
                _change_keys(targets, role, new, old, threshold)
            stale = [role]
        for name in stale:
            # What the old keys signed is believed no longer.
            if store.complete(name) is not None or store.draft(name) is not None:
                with store.edit(name):
                    pass


def sign(store: Store, role: str) -> None:
    """Add the signatures of the keys at hand to the draft of ``role``. BuildError."""
    with store.changing("sign"):
        draft = store.draft(role)
        if draft is None:
            raise BuildError(f"nothing of {role} waits for a signature; `show` says what does")
        before = set(draft.signatures)
        store.sign(role, draft)
        if set(draft.signatures) == before:
            raise BuildError(
                f"none of these keys signs {role}; it waits for {', '.join(store.standing(role).unsigned)}"
            )


def accept(store: Store, role: str, file: Path) -> None:
    """Take over the signatures that somebody else has put on a copy of the draft of ``role``. BuildError."""
    with store.changing("accept"):
        draft = store.draft(role)
        if draft is None:
            raise BuildError(f"nothing of {role} waits for a signature; `show` says what does")
        try:
            signed: Metadata[Any] = Metadata.from_file(str(file))
        except (RepositoryError, DeserializationError, OSError, ValueError) as error:
            raise BuildError(f"{file}: {error}") from error
        if signed.signed_bytes != draft.signed_bytes:
            raise BuildError(
                f"{file} is not the draft that waits, {store.drafts / f'{role}.json'}: it says something else"
            )
        # Signatures that are none are kept out by what counts them.
        draft.signatures.update(signed.signatures)
        store.sign(role, draft)


def _change_keys(
    owner: Root | Targets, role: str, new: Sequence[Key], old: Sequence[str], threshold: int | None
) -> None:
    try:
        held = owner.get_delegated_role(role)
    except ValueError:
        raise BuildError(f"nobody was given the role {role}; `delegate` does it") from None
    for beginning in old:
        matching = [keyid for keyid in held.keyids if keyid.startswith(beginning)]
        if len(matching) != 1:
            raise BuildError(
                f"{len(matching)} keys of {role} begin with {beginning!r}; there are {', '.join(held.keyids)}"
            )
        owner.revoke_key(matching[0], role)
    for key in new:
        owner.add_key(key, role)
    held.threshold = threshold or held.threshold
    _require_threshold(role, held.threshold, len(held.keyids))


def _require_threshold(role: str, threshold: int, keys: int) -> None:
    if not 1 <= threshold <= keys:
        raise BuildError(f"{role} needs {threshold} signatures and has {keys} keys")
