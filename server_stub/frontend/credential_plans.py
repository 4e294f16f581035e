"""What the frontend's file says of credentials: how pilots' tokens are made, and where those of sites come from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from server_stub.credentials.idtoken import IDENTITY
from server_stub.credentials.kinds import IDENTIFIER, Kind
from server_stub.factory.reader import Reader

SITE_KINDS = (Kind.SCITOKEN.value, Kind.X509.value, Kind.SSH_KEY.value)
WORD = re.compile(r"[^\x00]{1,4096}")
OFFER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(@[A-Za-z0-9][A-Za-z0-9_.-]{0,62})?")
DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
FIELDS = {"site": "Example", "entry": "example", "factory": "example", "frontend": "example", "trust_domain": "example"}
"""What an identity may name, with a harmless value of each."""
USUAL_IDENTITY = "{site}@{frontend}"
DAY = 86400


@dataclass(frozen=True, slots=True)
class PilotTokens:
    """How a pilot's IDTOKEN is made: with the pool's key ``key_id`` from the file ``signing_key``, for ``identity``,
    in which ``{site}``, ``{entry}``, ``{factory}``, ``{frontend}`` and ``{trust_domain}`` stand for names. It lasts the
    entry's walltime and ``queue_seconds`` more, ``most_seconds`` at most."""

    signing_key: str
    trust_domain: str
    key_id: str = ""
    identity: str = USUAL_IDENTITY
    queue_seconds: int = DAY
    most_seconds: int = 7 * DAY


@dataclass(frozen=True, slots=True)
class SiteCredential:
    """A credential that a site asks for: in a ``file``, or printed by a ``command`` (argument list) that runs whenever
    the last one has only ``renew_before_seconds`` left, half of its time where that is 0. One that does not say when it
    ends is told to last ``lasts_seconds``. For the ``entries`` named (``entry`` or ``entry@factory``), all where none
    is."""

    name: str
    kind: Kind
    file: str = ""
    command: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    factories: tuple[str, ...] = ()
    renew_before_seconds: int = 0
    lasts_seconds: int = 30 * DAY
    most_seconds: float = 60.0

    def serves(self, entry: str, factory: str) -> bool:
        """Whether pilots of an entry of a factory get it."""
        if self.factories and factory not in self.factories:
            return False
        return not self.entries or entry in self.entries or f"{entry}@{factory}" in self.entries


@dataclass(frozen=True, slots=True)
class CredentialPlans:
    """All of it. Without ``pilots`` factories have tokens of their own for their entries."""

    pilots: PilotTokens | None = None
    sites: tuple[SiteCredential, ...] = ()


def read_credentials(reader: Reader) -> CredentialPlans:
    """What a mapping describes; what is wrong is noted by the reader."""
    pilots = _pilots(reader.below("pilots")) if reader.has("pilots") else None
    sites: list[SiteCredential] = []
    for one in reader.mappings("sites"):
        plan = _site(one)
        if plan.name and plan.name in {other.name for other in sites}:
            one.note("name", f"{plan.name!r} is the name of an earlier credential too")
        sites.append(plan)
    reader.refuse_others()
    return CredentialPlans(pilots, tuple(sites))


def _pilots(reader: Reader) -> PilotTokens:
    plan = PilotTokens(
        signing_key=reader.path("signing_key"),
        trust_domain=reader.text("trust_domain", DOMAIN),
        key_id=reader.text("key_id", IDENTIFIER, default=""),
        identity=reader.text("identity", default=USUAL_IDENTITY),
        queue_seconds=reader.integer("queue_seconds", default=DAY, minimum=0, maximum=30 * DAY),
        most_seconds=reader.integer("most_seconds", default=7 * DAY, minimum=60, maximum=90 * DAY),
    )
    try:
        whole = plan.identity.format_map(FIELDS)
    except (KeyError, ValueError, IndexError, AttributeError):
        whole = ""
    if not IDENTITY.fullmatch(whole):
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        reader.note("identity", f"expected an identity such as {USUAL_IDENTITY}; it may name {known}")
    reader.refuse_others()
    return plan


def _site(reader: Reader) -> SiteCredential:
    kind = reader.choice("kind", SITE_KINDS)
    plan = SiteCredential(
        name=reader.text("name", IDENTIFIER),
        kind=Kind(kind) if kind in SITE_KINDS else Kind.SCITOKEN,
        file=reader.path("file", default=""),
        command=reader.words("command", WORD),
        entries=reader.words("entries", OFFER),
        factories=reader.words("factories"),
        renew_before_seconds=reader.integer("renew_before_seconds", default=0, minimum=0, maximum=30 * DAY),
        lasts_seconds=reader.integer("lasts_seconds", default=30 * DAY, minimum=3600, maximum=366 * DAY),
        most_seconds=reader.number("most_seconds", default=60, minimum=1, maximum=600),
    )
    if bool(plan.file) == bool(plan.command):
        reader.note("file", "name either a file or a command (a list of words) that prints it")
    elif plan.command and not plan.command[0].startswith("/"):
        reader.note("command", "begins with the absolute path of the program")
    reader.refuse_others()
    return plan
