"""Acting on what frontends ask for: one round decides, submits and takes back, and says what it did and why not more.

Whatever goes wrong at one entry is told and leaves that entry alone for a while; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from pilot_agent.model import FailureKind, PilotError
from server_stub.batch import BatchSystem
from server_stub.entries import Factory
from server_stub.factory import demand
from server_stub.factory.controller import PACE, Plan, Situation, Take, decide
from server_stub.factory.demand import Held, Key
from server_stub.factory.entry import LOCAL, Entry
from server_stub.factory.log import tell
from server_stub.factory.pilots import WAITING, Pilot
from server_stub.factory.store import Store
from server_stub.factory.texts import shown
from server_stub.submit import Credentials, no_credentials, submit_pilots

MINUTE_SECONDS = 60.0
ROUND_SECONDS = 15.0
"""For so long a round submits; then the batch system is asked about its jobs again."""
AT_ONCE = 10
NAMED = 20
"""Of the entries that a line of the log is about."""
FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0
LEAVING_SECONDS = 900.0
"""A removal that nothing came of for so long is asked for again."""

Lend = Callable[[Entry, tuple[str, ...]], Credentials]
"""What pilots of an entry take along, of their frontend's credentials of these names."""


def lend_nothing(entry: Entry, names: tuple[str, ...]) -> Credentials:
    """For pilots of frontends that hand over no credentials."""
    return no_credentials


Count = Callable[[str, str, int], None]
"""Notes for how many pilots of a frontend something was done (``submitted``, ``removed``), or not (``refused``)."""


def count_nothing(frontend: str, what: str, pilots: int) -> None:
    """For a factory that is not watched."""


def never() -> bool:
    """Of a factory that nobody stops."""
    return False


@dataclass(slots=True)
class _Pause:
    until: float
    seconds: float
    why: str


@dataclass(slots=True)
class Controller:
    """What one factory remembers between its rounds, none of which is needed: without it a round begins anew.
    ``stopped`` tells whether to leave what is not begun, ``count`` takes what was done."""

    store: Store
    batch: BatchSystem
    lend: Lend = lend_nothing
    stopped: Callable[[], bool] = never
    count: Count = count_nothing
    clock: Callable[[], float] = time.monotonic
    pauses: dict[tuple[str, str], _Pause] = field(default_factory=dict)
    leaving: dict[str, tuple[float, Pilot]] = field(default_factory=dict)

    def round(self, factory: Factory, *, observed: float | None, now: float | None = None) -> Plan:
        """Do what the requests want, as far as it may be done. ``observed`` is when the batch system last answered in
        full (epoch seconds)."""
        moment = time.time() if now is None else now
        wanted = demand.wanted(self.store)
        if not wanted:
            return Plan()
        plan = decide(self._situation(factory, wanted, observed, moment))
        limits = dict(plan.limited_by)
        self._take_back(plan.remove, factory, moment)
        names = {one.key: one.credentials for one in wanted}
        limits |= self._submit(plan.submit, names, factory)
        # As long as the store keeps it, also where an operator gave a long reason for a downtime.
        limits = {key: shown(why) for key, why in limits.items()}
        self._tell_limits(wanted, limits)
        return replace(plan, limited_by=limits)

    def _situation(
        self, factory: Factory, wanted: list[demand.Wanted], observed: float | None, now: float
    ) -> Situation:
        shut = self.store.closed_entries()
        entries = {entry.name: entry for entry in factory.entries}
        closed = {name: why for name, entry in entries.items() if (why := shut.get(name, "") or entry.closed(now))}
        return Situation(
            now=now,
            observed=observed,
            entries=entries,
            frontends={frontend.name: frontend for frontend in factory.frontends},
            wanted=wanted,
            held=demand.unfinished(self.store),
            closed=closed,
            paused={key: pause.why for key, pause in self.pauses.items() if pause.until > self.clock()},
            recent=demand.submitted_since(self.store, now - MINUTE_SECONDS),
            leaving=self._leaving(now),
        )

    def _leaving(self, now: float) -> dict[Key, Held]:
        """Pilots whose removal was asked for lately, as far as they are still counted."""
        found: dict[Key, Held] = {}
        for name, (asked, before) in list(self.leaving.items()):
            pilot = self.store.get(name)
            if pilot is None or pilot.state.final or now - asked > LEAVING_SECONDS:
                del self.leaving[name]
                continue
            key = (before.entry, before.frontend, before.vo)
            one = found.get(key, Held())
            waiting = pilot.state in WAITING
            found[key] = replace(one, waiting=one.waiting + waiting, running=one.running + (not waiting))
        return found

    def _submit(
        self, planned: Iterable[tuple[Key, int]], names: Mapping[Key, tuple[str, ...]], factory: Factory
    ) -> dict[Key, str]:
        """Submit in small portions, everybody's first one first, until the round is over; what kept it from more."""
        ends = self.clock() + ROUND_SECONDS
        left = dict(planned)
        limits: dict[Key, str] = {}
        while left:
            for key, number in list(left.items()):
                if self.clock() >= ends or self.stopped():
                    return {**limits, **dict.fromkeys(left, PACE)}
                portion = min(number, self._portion(key))
                why = self._submit_some(key, portion, names[key], factory)
                if why:
                    limits[key] = why
                if why or portion == number:
                    del left[key]
                else:
                    left[key] = number - portion
        return limits

    def _portion(self, key: Key) -> int:
        """How many to submit at once: a single one where the last time nothing came of it."""
        tried = (key[0], key[1]) in self.pauses or (key[0], "") in self.pauses
        return 1 if tried else AT_ONCE

    def _submit_some(self, key: Key, number: int, names: tuple[str, ...], factory: Factory) -> str:
        """Submit some pilots for one request; why it was not possible, or nothing."""
        entry, frontend, vo = key
        for pause in (self.pauses.get((entry, frontend)), self.pauses.get((entry, ""))):
            if pause is not None and pause.until > self.clock():
                return pause.why
        log = structlog.get_logger("server_stub.control")
        try:
            place = factory.entry(entry)
            lent = self.lend(place, names)
            pilots = submit_pilots(
                factory, place, number, self.store, self.batch, vo=vo, frontend=frontend, credentials=lent
            )
        except PilotError as error:
            failure = error.failure
            why = shown(f"{failure.code}: {failure.message}")
            # What may be the fault of what a frontend gave, as an odd proxy that the submission refuses, stops that
            # frontend alone; everything else the entry.
            missing = failure.kind is FailureKind.CREDENTIAL
            self._pause((entry, frontend if missing or names else ""), why, growing=not missing)
            self.count(frontend, "refused", number)
            tell(log.warning, "control.refused", entry=entry, frontend=frontend, vo=vo, asked=number, message=why)
            return why
        self.pauses.pop((entry, frontend), None)
        self.pauses.pop((entry, ""), None)
        self.count(frontend, "submitted", len(pilots))
        tell(log.info, "control.submitted", entry=entry, frontend=frontend, vo=vo, pilots=len(pilots))
        return ""

    def _pause(self, key: tuple[str, str], why: str, *, growing: bool) -> None:
        """Leave an entry, or a frontend there, alone: longer each time, where that may help."""
        before = self.pauses.get(key)
        seconds = FIRST_PAUSE_SECONDS
        if growing and before is not None:
            seconds = min(2 * before.seconds, LONGEST_PAUSE_SECONDS)
        self.pauses[key] = _Pause(self.clock() + seconds, seconds, why)

    def _take_back(self, takes: Iterable[Take], factory: Factory, now: float) -> None:
        for take in takes:
            pilots = self._chosen(take, factory)
            jobs = [pilot.job for pilot in pilots if pilot.job is not None]
            if not jobs:
                continue
            entry, frontend, vo = take.key
            log = structlog.get_logger("server_stub.control")
            try:
                removed = self.batch.remove(jobs, f"the frontend {frontend} wants fewer pilots")
            except PilotError as error:
                tell(log.warning, error.failure.code, entry=entry, frontend=frontend, message=error.failure.message)
                return
            self.count(frontend, "removed", removed)
            self.leaving |= {pilot.id: (now, pilot) for pilot in pilots}
            tell(
                log.info, "control.removed", entry=entry, frontend=frontend, vo=vo, queued=take.queued,
                running=take.running, pilots=removed,
            )  # fmt: skip

    def _chosen(self, take: Take, factory: Factory) -> list[Pilot]:
        """The pilots to take back."""
        if take.running:
            names = [name for name in take.names if name not in self.leaving]
            return demand.running_pilots(self.store, take.key, names)[: take.running]
        # What this host's own pool has in its queue no other batch system has got.
        everywhere = not take.unsubmitted or factory.entry(take.key[0]).type == LOCAL
        return demand.queued_pilots(self.store, take.key, take.queued, besides=self.leaving, unsubmitted=not everywhere)

    def _tell_limits(self, wanted: Iterable[demand.Wanted], limits: dict[Key, str]) -> None:
        """Note and log what has changed."""
        changed = {one.key: limits[one.key] for one in wanted if limits.get(one.key, one.limited_by) != one.limited_by}
        if not changed:
            return
        demand.note_limits(self.store, changed)
        log = structlog.get_logger("server_stub.control")
        for (frontend, reason), keys in _by_reason(changed).items():
            names = [f"{entry} ({vo})" for entry, _, vo in keys[:NAMED]]
            tell(log.info, "control.limited", frontend=frontend, limited_by=reason, requests=len(keys), entries=names)


def _by_reason(limits: Mapping[Key, str]) -> dict[tuple[str, str], list[Key]]:
    """A thousand entries with one reason are one line of the log."""
    found: dict[tuple[str, str], list[Key]] = {}
    for key, reason in limits.items():
        found.setdefault((key[1], reason), []).append(key)
    return found
