"""Credentials as frontends send them: judged by their form, and turned into what the vault takes."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server_stub.credentials.kinds import IDENTIFIER, LATEST, NAME, Kind, Label, Purpose
from server_stub.credentials.sealing import SEALED_LIMIT_BYTES
from server_stub.factory.bodies import first_problem

MOST_AT_ONCE = 500
LARGEST_SEALED = (SEALED_LIMIT_BYTES + 2) // 3 * 4
BODY_LIMIT_BYTES = 4 << 20

Body = TypeVar("Body", bound=BaseModel)
Id = Annotated[str, Field(pattern=f"^{IDENTIFIER.pattern}$")]
EntryName = Annotated[str, Field(pattern=f"^({NAME.pattern})?$")]


class SealedCredential(BaseModel):
    """One credential, sealed with the key ``encryption_id`` of the offers. ``entry`` empty: for every entry.
    ``expires`` is in epoch seconds, and not later than the content says itself."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Kind
    purpose: Purpose
    entry: EntryName = ""
    expires: Annotated[int, Field(ge=1, le=LATEST)]
    encryption_id: Annotated[str, Field(min_length=1, max_length=64)]
    sealed: Annotated[str, Field(min_length=1, max_length=LARGEST_SEALED, json_schema_extra={"format": "byte"})]


class NamedCredential(SealedCredential):
    """One of several."""

    id: Id


class CredentialSet(BaseModel):
    """Several at once."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    credentials: Annotated[list[NamedCredential], Field(max_length=MOST_AT_ONCE)]


class CredentialError(ValueError):
    """A body that is no credential; the message names the place, and nothing that was sent."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What the vault is asked to keep."""

    label: Label
    encryption: str
    sealed: bytes


def read_one(body: bytes) -> SealedCredential:
    """The credential in a body. Raises ``CredentialError``."""
    return _read(SealedCredential, body)


def read_several(body: bytes) -> CredentialSet:
    """The credentials in a body. Raises ``CredentialError``."""
    return _read(CredentialSet, body)


def _read(model: type[Body], body: bytes) -> Body:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise CredentialError(first_problem(error)) from None


def offered(given: SealedCredential, name: str, *, frontend: str, factory: str) -> Offered:
    """A credential as this frontend's, under its label. Raises ``CredentialError``."""
    try:
        label = Label(frontend, factory, name, given.kind, given.purpose, given.entry, given.expires)
    except ValueError as error:
        raise CredentialError(str(error)) from None
    try:
        return Offered(label, given.encryption_id, base64.b64decode(given.sealed, validate=True))
    except (binascii.Error, ValueError):
        raise CredentialError("sealed: it is no base64") from None
