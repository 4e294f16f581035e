"""What a credential is, and what it is bound to: the words that both sides use and that no seal can be moved from."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""A frontend's, a factory's and an entry's name."""
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""How a frontend calls one of its credentials."""
SECRET_LIMIT_BYTES = 64 << 10
"""A proxy with a long chain has 20 KiB."""
LATEST = 2**53
"""No credential lasts longer: epoch seconds that a JSON number keeps exactly."""


class Kind(enum.StrEnum):
    """What it is in the terms of the field."""

    IDTOKEN = "idtoken"
    SCITOKEN = "scitoken"
    X509 = "x509"
    SSH_KEY = "ssh_key"


class Purpose(enum.StrEnum):
    """Who shows it: the pilot to its user pool, or the factory's batch system to the site."""

    PILOT = "pilot"
    SITE = "site"


FILES = {
    Kind.IDTOKEN: "pilot.token",
    Kind.SCITOKEN: "site.scitoken",
    Kind.X509: "site.proxy",
    Kind.SSH_KEY: "site.key",
}
"""What a credential of each kind is called in a pilot's private directory at the factory."""


@dataclass(frozen=True, slots=True)
class Label:
    """All that is known of a credential without opening it. ``entry`` is empty for one that any entry may get;
    ``expires`` is in whole epoch seconds. Raises ``ValueError`` for names that could be read as others."""

    frontend: str
    factory: str
    id: str
    kind: Kind
    purpose: Purpose
    entry: str
    expires: int

    def __post_init__(self) -> None:
        named = ((self.frontend, NAME), (self.factory, NAME), (self.id, IDENTIFIER))
        if not all(pattern.fullmatch(name) for name, pattern in named):
            raise ValueError("frontend, factory and id are names of letters, digits, '_', '.' and '-'")
        if self.entry and not NAME.fullmatch(self.entry):
            raise ValueError("entry is empty or the name of an entry")
        if (self.kind is Kind.IDTOKEN) != (self.purpose is Purpose.PILOT):
            raise ValueError("an idtoken is for the pilot, everything else for the site")
        if not 0 < self.expires <= LATEST:
            raise ValueError(f"expires is in epoch seconds, from 1 to {LATEST}")

    @property
    def bound(self) -> bytes:
        """The label as the seal is bound to it."""
        words = (self.frontend, self.factory, self.id, self.kind, self.purpose, self.entry, str(self.expires))
        return "|".join(words).encode("ascii")
