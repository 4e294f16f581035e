"""The frontend as a service: one cycle after the other until it is told to stop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from pilot_agent.codec import to_json
from pilot_agent.model import PilotError
from pilot_agent.process import Interrupted
from server_stub import supervisor
from server_stub.factory.log import tell
from server_stub.frontend.configuration import Frontend
from server_stub.frontend.doors import application, doors
from server_stub.frontend.figures import Figures
from server_stub.frontend.identity import load_identity
from server_stub.frontend.kept import Kept, State
from server_stub.frontend.pool import PoolReader
from server_stub.frontend.round import Credentials, Round
from server_stub.frontend.told import CycleTold
from server_stub.frontend.wake import Wake
from server_stub.frontend.wallet import Wallet

FIXED = ("name", "state", "address", "port")
"""Of the configuration: what a running frontend cannot change."""
LEAST_PAUSE_SECONDS = 1.0
MakeCredentials = Callable[[Frontend], Credentials]


def hand_over(frontend: Frontend) -> Credentials:
    """The credentials that the file names. Raises ``PilotError`` (credential.signing_key)."""
    return Wallet(frontend.name, frontend.credentials, frontend.state)


@dataclass
class Daemon:
    """A running frontend. ``again`` reads the configuration anew; after ``most_cycles`` it ends by itself."""

    frontend: Frontend
    again: Callable[[], Frontend] | None = None
    most_cycles: int | None = None
    python: tuple[str, ...] = (sys.executable,)
    make_credentials: MakeCredentials = hand_over
    clock: Callable[[], float] = time.time
    figures: Figures = field(default_factory=Figures)

    def run(self) -> None:
        """Until SIGTERM or SIGINT; SIGHUP takes the configuration as it is now. What is under way then is left: nothing
        is lost by that. Raises ``PilotError`` where it cannot begin."""
        state = State(self.frontend.state)
        log = structlog.get_logger("server_stub.frontend")
        with ExitStack() as stack:
            wake = stack.enter_context(Wake())
            stack.enter_context(state.mine())
            round_ = self._round(self.frontend, state, wake)
            if self.frontend.port:
                app = application(self.figures, frozen_cycles=self.frontend.settings.frozen_cycles, began=self.clock())
                stack.enter_context(doors(self.frontend.address, self.frontend.port, app))
            factories = [plan.name for plan in self.frontend.factories]
            kept = state.load()
            tell(log.info, "running", frontend=self.frontend.name, factories=factories, cycle=kept.cycle)
            supervisor.ready(f"asks {', '.join(factories)}")
            try:
                self._cycles(round_, kept, state, wake)
            except Interrupted:
                pass
            finally:
                supervisor.stopping()
                tell(log.info, "stopped", frontend=self.frontend.name)

    def _cycles(self, round_: Round, kept: Kept, state: State, wake: Wake) -> None:
        done = 0
        while self.most_cycles is None or done < self.most_cycles:
            if wake.reloading:
                wake.reloading = False
                supervisor.reloading()
                round_ = self._reloaded(round_, state, wake)
                supervisor.ready("took its configuration again")
            began = time.monotonic()
            kept = self._cycle(round_, kept)
            done += 1
            supervisor.alive(f"cycle {kept.cycle}")
            if done != self.most_cycles:
                left = self.frontend.cycle_seconds - (time.monotonic() - began)
                wake.wait(max(left, LEAST_PAUSE_SECONDS))

    def _cycle(self, round_: Round, kept: Kept) -> Kept:
        """One cycle; whatever goes wrong in it is told, and the next one begins where the last whole one ended."""
        log = structlog.get_logger("server_stub.frontend")
        try:
            kept, told = round_.run(kept)
            round_.state.tell(to_json(told))
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - the service goes on
            self.figures.failures.inc()
            tell(log.error, "cycle.failed", message=f"{type(error).__name__}: {error}"[:1000])
            return kept
        self.figures.tell(told)
        tell(log.warning if told.frozen else log.info, "cycle", **summary(told))
        for row in told.entries:
            tell(log.debug, "entry", **to_json(row))
        return kept

    def _round(self, frontend: Frontend, state: State, wake: Wake) -> Round:
        """Raises ``PilotError`` (key.*)."""
        attributes = frontend.settings.policy.job_attributes
        pool = PoolReader(
            frontend.pool, frontend.access_points, attributes, frontend.lengths, wake, self.python, _still_asking
        )
        identity = load_identity(frontend.name, frontend.key)
        return Round(frontend, identity, state, pool, wake, self.make_credentials(frontend), self.clock)

    def _reloaded(self, round_: Round, state: State, wake: Wake) -> Round:
        """The next cycles by the configuration as it is now; by the old one where that is wrong."""
        log = structlog.get_logger("server_stub.frontend")
        if self.again is None:
            return round_
        before = self.frontend
        try:
            newer = self.again()
            kept = {name: getattr(before, name) for name in FIXED}
            made = self._round(replace(newer, **kept), state, wake)
        except PilotError as error:
            self.figures.reload_failures.inc()
            tell(log.error, "reload.failed", code=error.failure.code, message=error.failure.message)
            return round_
        fixed = [name for name in FIXED if getattr(before, name) != getattr(newer, name)]
        self.frontend = made.frontend
        tell(log.info, "reloaded", factories=[plan.name for plan in newer.factories], needs_restart=fixed)
        return made


def _still_asking() -> None:
    """Many access points that do not answer take their time."""
    supervisor.alive("asks the pool")


def summary(told: CycleTold) -> Mapping[str, Any]:
    """A cycle in one line of the log."""
    wrong = {row.name: row.problem for row in told.factories if row.problem}
    return {
        "cycle": told.cycle,
        "seconds": {part: round(seconds, 3) for part, seconds in told.seconds.items()},
        "idle_jobs": told.idle_jobs,
        "unmatched_jobs": told.unmatched_jobs,
        "slots": told.slots,
        "idle_slots": told.idle_slots,
        "entries": len(told.entries),
        "queued": sum(row.queued for row in told.entries),
        "pilots": sum(row.running for row in told.entries),
        "asked_queued": sum(row.asked_queued for row in told.entries),
        "asked_pilots": sum(row.asked_pilots for row in told.entries),
        "removing": sorted(f"{row.entry}@{row.factory}" for row in told.entries if row.remove != "NO"),
        **({"frozen": told.frozen} if told.frozen else {}),
        **({"factories": wrong} if wrong else {}),
        **({"given_up": list(told.given_up)} if told.given_up else {}),
        **({"closed": dict(told.closed)} if told.closed else {}),
    }
