"""What a pilot gets of its frontend's credentials when it is submitted, and newer ones while it is on its way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import structlog

from pilot_agent.model import Json
from server_stub.credentials.kinds import Kind
from server_stub.entries import Factory
from server_stub.factory.entry import Entry
from server_stub.factory.live import Live
from server_stub.factory.log import tell
from server_stub.factory.pilots import Pilot
from server_stub.factory.vault import Vault

Credentials = Callable[[Pilot], Mapping[Kind, bytes]]


def lend(running: Live) -> Callable[[Entry, tuple[str, ...]], Credentials]:
    """For a factory's controller: what pilots of an entry get, of the site's credentials those of these names."""

    def choose(entry: Entry, names: tuple[str, ...]) -> Credentials:
        def give(pilot: Pilot) -> Mapping[Kind, bytes]:
            return running.vault.take(pilot, wanted=names, token=needs_token(running.factory, entry)).files

        return give

    return choose


def needs_token(factory: Factory, entry: Entry) -> bool:
    """Whether a pilot is of no use without its frontend's token: it is to join a pool, and has none from elsewhere."""
    pool: dict[str, Json] = {**(factory.pilot.get("pool") or {}), **(entry.pilot.get("pool") or {})}
    return entry.tokens is None and bool(pool.get("collectors")) and not pool.get("token")


def renew(vault: Vault, factory: Factory) -> None:
    """Bring pilots' files up to date; what is done, and what is not, is logged."""
    log = structlog.get_logger("server_stub.credentials")
    for one in vault.renew(os.path.join(factory.state, "pilots")):
        if one.problem:
            tell(log.warning, "credential.stale", pilot=one.pilot, file=one.file, message=one.problem)
        else:
            tell(log.info, "credential.renewed", pilot=one.pilot, file=one.file)


def tidy(vault: Vault) -> None:
    """Drop what is of no more use."""
    dropped = vault.tidy()
    if dropped:
        log = structlog.get_logger("server_stub.credentials")
        tell(log.info, "credentials.dropped", number=dropped)
