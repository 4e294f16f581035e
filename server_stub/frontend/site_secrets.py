"""Site credentials from where the frontend's file says: a file that somebody keeps fresh, or a command's output.

A command's output is a secret: nothing of it is in any log, message or file of the frontend. Its standard error is what
it may say when it fails.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass, field

from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.process import run
from server_stub.credentials.contents import expiry
from server_stub.credentials.kinds import SECRET_LIMIT_BYTES
from server_stub.frontend.credential_plans import SiteCredential
from server_stub.frontend.identity import OTHERS

SAID_CHARACTERS = 200
AGAIN_SECONDS = 300.0
"""A command that failed is left alone so long."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One credential as it is now. Times are epoch seconds; ``mark`` tells one content from another."""

    content: bytes = field(repr=False)
    made: float
    expires: int
    mark: str

    def worn(self, now: float, before_seconds: float) -> bool:
        """Whether there should be a newer one."""
        return self.expires - now < (before_seconds or (self.expires - self.made) / 2)


class SiteSecrets:
    """What the plans give, kept in memory as long as it is good. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Secret] = {}
        self._failed: dict[str, tuple[float, PilotError]] = {}

    def get(self, plan: SiteCredential, now: float | None = None) -> Secret:
        """The credential of a plan. Raises ``PilotError`` (credential.source) where there is none that counts."""
        moment = time.time() if now is None else now
        with self._lock:
            found = self._read(plan, moment) if plan.file else self._from_command(plan, moment)
            self._known[plan.name] = found
            return found

    def _read(self, plan: SiteCredential, now: float) -> Secret:
        try:
            if os.stat(plan.file).st_mode & OTHERS:
                raise _failed(plan, f"accounts beside its owner may use {plan.file}; chmod 0600 it")
            content = read_bounded(plan.file, limit_bytes=SECRET_LIMIT_BYTES + 1)
        except OSError as error:
            raise _failed(plan, f"{plan.file} cannot be read: {error.strerror}") from error
        return self._judged(plan, content, now)

    def _from_command(self, plan: SiteCredential, now: float) -> Secret:
        known = self._known.get(plan.name)
        if known is not None and not known.worn(now, plan.renew_before_seconds):
            return known
        tried, problem = self._failed.get(plan.name, (0.0, None))
        if problem is None or now - tried >= AGAIN_SECONDS:
            try:
                made = self._judged(plan, _printed(plan), now)
            except PilotError as error:
                self._failed[plan.name] = (now, error)
                problem = error
            else:
                self._failed.pop(plan.name, None)
                return made
        if known is not None and known.expires > now:
            return known
        raise problem

    def _judged(self, plan: SiteCredential, content: bytes, now: float) -> Secret:
        try:
            ends = expiry(plan.kind, content)
        except ValueError as error:
            raise _failed(plan, f"what it gives is no {plan.kind.value}: {error}") from error
        mark = hashlib.sha256(content).hexdigest()
        known = self._known.get(plan.name)
        same = known is not None and known.mark == mark
        if known is not None and same and (ends is not None or not known.worn(now, 0.0)) and known.expires > now:
            return known
        expires = int(now) + plan.lasts_seconds if ends is None else ends
        if expires <= now:
            raise _failed(plan, "what it gives has expired")
        return Secret(content, now, expires, mark)


def _printed(plan: SiteCredential) -> bytes:
    done = run(
        plan.command,
        deadline_seconds=plan.most_seconds,
        environment=os.environ,
        output_limit_bytes=SECRET_LIMIT_BYTES + 1,
    )
    if not done.ok:
        # `explain` may quote standard output.
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-SAID_CHARACTERS:]
        how = f"exit code {done.code}" if done.code is not None else "it did not end in time, or could not be started"
        raise _failed(plan, f"{plan.command[0]} failed ({how}){': ' if said else ''}{said}")
    return done.stdout.strip() + b"\n"


def _failed(plan: SiteCredential, found: str) -> PilotError:
    message = f"no {plan.kind.value} {plan.name} for sites: {found}"
    hint = "see `credentials.sites` in the frontend's file, and whoever keeps it fresh; the VO's operator must act"
    return PilotError(Failure(FailureKind.CREDENTIAL, "credential.source", message, hint, retry=True))
