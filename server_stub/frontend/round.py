"""One cycle for real: the pool and the factories are asked, the decision is made, and the factories are told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pilot_agent.model import Json, PilotError
from server_stub.frontend.client import FactoryClient, OutdatedError
from server_stub.frontend.configuration import FactoryPlan, Frontend, entry_limits
from server_stub.frontend.cycle import Decision, Memory, Request, Settings, Snapshot, decide, told_missing
from server_stub.frontend.identity import Identity
from server_stub.frontend.kept import Kept, KeptOffers, State
from server_stub.frontend.pool import PoolReader, PoolView
from server_stub.frontend.pressure import Limits
from server_stub.frontend.slots import batch_job
from server_stub.frontend.together import Together
from server_stub.frontend.told import CycleTold, EntryTold, FactoryTold, entries_told, unmatched
from server_stub.frontend.wake import Wake
from server_stub.frontend.wire import EntryLimits, Offered, named_by_job, request_document

OLD_STATES_SECONDS = 600.0
"""What a factory's batch system told longer ago proves no excess."""
MOST_LISTED, MOST_PAGES = 500, 10
"""Of an entry's pilots, of which the newest come first: so many in one answer, and so many answers."""
PARTS = ("pool", "factories", "decision", "requests")
"""Where a cycle's time goes."""
AHEAD_SECONDS = 300.0
"""A set of requests that was decided so much later than now no factory takes."""
GRACE_SECONDS = 5.0
"""So much longer than a factory's own deadline its thread may take."""


class Credentials(Protocol):
    """What pilots and sites are given to prove themselves with."""

    def deliver(
        self, client: FactoryClient, offered: Offered, wanted: Sequence[Request]
    ) -> Mapping[str, tuple[str, ...]]:
        """Hand over what the factory lacks for what is ``wanted`` of it; for each of its entries, by its whole name,
        the ids of what a pilot there gets. Raises ``PilotError``; called in a thread, for different factories at
        once."""
        ...


class NoCredentials:
    """The factory has tokens of its own for its entries."""

    def deliver(
        self, client: FactoryClient, offered: Offered, wanted: Sequence[Request]
    ) -> Mapping[str, tuple[str, ...]]:
        """Nothing to hand over."""
        return {}


@dataclass(frozen=True, slots=True)
class Round:
    """All that a cycle needs."""

    frontend: Frontend
    identity: Identity
    state: State
    pool: PoolReader
    wake: Wake
    credentials: Credentials
    clock: Callable[[], float] = time.time

    def run(self, kept: Kept) -> tuple[Kept, CycleTold]:
        """One cycle; what it leaves to the next, and what it tells. Raises ``Interrupted``, ``OSError``."""
        now, marks = self.clock(), [time.monotonic()]
        asking = Together({plan.name: self._offers(plan) for plan in self.frontend.factories}, self.wake)
        view = self.pool.read(now, kept.heard)
        marks.append(time.monotonic())
        offers, factories = self._gathered(asking, now)
        marks.append(time.monotonic())
        current = [known.offered for known in offers.values()]
        snapshot = self._snapshot(view, current, now)
        decision = self._decided(snapshot, current, kept.memory)
        marks.append(time.monotonic())
        fresh = {row.name for row in factories if row.offers == "fresh"}
        answers, problems, sequence = self._send(decision, offers, fresh, next_sequence(kept.sequence, now))
        marks.append(time.monotonic())
        certain = {name for name in fresh if offers[name].offered.observed_seconds <= OLD_STATES_SECONDS}
        left = Kept(_unconcluded(decision.memory, certain), view.heard, sequence, kept.cycle + 1)
        self.state.save(left)
        rows = tuple(replace(row, problem=problems.get(row.name, row.problem)) for row in factories)
        return left, self._told(left, view, decision, rows, entries_told(decision, snapshot, current, answers), marks)

    def _told(
        self,
        left: Kept,
        view: PoolView,
        decision: Decision,
        factories: tuple[FactoryTold, ...],
        entries: tuple[EntryTold, ...],
        marks: list[float],
    ) -> CycleTold:
        """The whole cycle; ``marks`` are its beginning and the ends of its parts."""
        parts = {name: end - begin for name, begin, end in zip(PARTS, marks, marks[1:], strict=False)}
        return CycleTold(
            frontend=self.frontend.name,
            cycle=left.cycle,
            at=self.clock() - (time.monotonic() - marks[0]),
            sequence=left.sequence,
            seconds={**parts, "cycle": marks[-1] - marks[0]},
            frozen=decision.frozen,
            frozen_cycles=left.memory.frozen_cycles,
            missing=view.missing,
            closed=view.closed,
            given_up=view.given_up,
            idle_jobs=len(view.jobs),
            unmatched_jobs=unmatched(decision),
            unserved_jobs=left.memory.unserved,
            groups=len(decision.groups),
            slots=len(view.slots),
            idle_slots=int(view.slots.idle.sum()),
            factories=factories,
            entries=entries,
            cycle_seconds=self.frontend.cycle_seconds,
            pid=os.getpid(),
        )

    def _offers(self, plan: FactoryPlan) -> Callable[[], tuple[Offered, Json]]:
        def ask() -> tuple[Offered, Json]:
            client = FactoryClient(plan, self.identity, self.frontend.settings.vo.name)
            try:
                return client.offers()
            finally:
                client.close()

        return ask

    def _gathered(
        self, asking: Together[tuple[Offered, Json]], now: float
    ) -> tuple[dict[str, KeptOffers], list[FactoryTold]]:
        """What the factories offer, or lately offered where they are away, and how it stands with each."""
        patience = max((plan.most_seconds for plan in self.frontend.factories), default=0.0) + GRACE_SECONDS
        results = asking.results(patience)
        offers: dict[str, KeptOffers] = {}
        told = []
        for plan in self.frontend.factories:
            result = results[plan.name]
            if not isinstance(result, Exception):
                offered, document = result
                self.state.keep_offers(plan.name, document, now)
                offers[plan.name] = KeptOffers(now, offered)
                age = offered.observed_seconds
                problem = f"its batch system has not answered for {age:.0f} s" if age > OLD_STATES_SECONDS else ""
                row = FactoryTold(plan.name, plan.url, "fresh", 0.0, len(offered.offers), problem, offered.left_out)
            else:
                row = self._away(plan, result, now, offers)
            told.append(row)
        return offers, told

    def _away(self, plan: FactoryPlan, error: Exception, now: float, offers: dict[str, KeptOffers]) -> FactoryTold:
        last = self.state.offers(plan.name, self.frontend.settings.vo.name)
        age = now - last.received if last is not None else 0.0
        if last is None or not 0 <= age <= plan.keep_seconds:
            return FactoryTold(plan.name, plan.url, "none", age, 0, _said(error))
        offers[plan.name] = last
        return FactoryTold(plan.name, plan.url, "kept", age, len(last.offered.offers), _said(error))

    def _snapshot(self, view: PoolView, offered: list[Offered], now: float) -> Snapshot:
        return Snapshot(
            now=now,
            jobs=view.jobs,
            slots=view.slots,
            offers=[offer for one in offered for offer in one.offers],
            states={name: state for one in offered for name, state in one.states.items()},
            closed=frozenset(view.closed),
            missing=tuple(f"{name} ({why})" for name, why in view.missing.items()),
            job_seconds=self.frontend.job_seconds,
        )

    def _decided(self, snapshot: Snapshot, offered: list[Offered], memory: Memory) -> Decision:
        if not snapshot.offers:
            # Without any entry there is nothing to decide, and no reason to forget what was asked for.
            why = ["no factory offers any entry", *([told_missing(snapshot.missing)] if snapshot.missing else [])]
            return Decision((), memory, frozen="; ".join(why))
        return decide(snapshot, settings_for(self.frontend, offered), memory)

    def _send(
        self,
        decision: Decision,
        offers: Mapping[str, KeptOffers],
        fresh: set[str],
        sequence: int,
    ) -> tuple[dict[str, Json], dict[str, str], int]:
        """The factories' answers and what went wrong with others, by name, and the largest number that was used. One
        that did not answer just now is not asked for anything: it goes on with what it knows."""
        plans = [plan for plan in self.frontend.factories if plan.name in fresh]
        sending = Together(
            {plan.name: self._request(plan, decision, offers[plan.name].offered, sequence) for plan in plans},
            self.wake,
        )
        patience = 2 * max((plan.most_seconds for plan in plans), default=0.0) + GRACE_SECONDS
        answers, problems = {}, {}
        for name, result in sending.results(patience).items():
            if isinstance(result, Exception):
                problems[name] = _said(result)
            else:
                answers[name], used = result
                sequence = max(sequence, used)
        return answers, problems, sequence

    def _request(
        self, plan: FactoryPlan, decision: Decision, offered: Offered, sequence: int
    ) -> Callable[[], tuple[Json, int]]:
        wanted = [request for request in decision.requests if request.entry.endswith(f"@{plan.name}")]

        def send() -> tuple[Json, int]:
            client = FactoryClient(plan, self.identity, self.frontend.settings.vo.name)
            try:
                given = self.credentials.deliver(client, offered, wanted)
                named = with_names(client, wanted)
                vo = self.frontend.settings.vo.name
                return put(
                    client,
                    lambda number: request_document(number, plan.lifetime_seconds, named, vo, given),
                    sequence,
                )
            finally:
                client.close()

        return send


def with_names(client: FactoryClient, wanted: list[Request]) -> list[Request]:
    """The requests with the idle pilots under the factory's own names for them, of which only it knows; others it would
    not find. Raises ``PilotError``."""
    found = []
    for request in wanted:
        if request.idle:
            jobs = list(map(batch_job, request.idle))
            names = _names(client, request.entry.partition("@")[0], set(jobs))
            request = replace(request, idle=tuple(names[job] for job in jobs if job in names))
        found.append(request)
    return found


def _names(client: FactoryClient, entry: str, jobs: set[str]) -> dict[str, str]:
    """The factory's names of running pilots there by their jobs, until all of these are among them."""
    found: dict[str, str] = {}
    parameters = {"entry": entry, "state": "running", "limit": str(MOST_LISTED)}
    for _ in range(MOST_PAGES):
        told = client.pilots(parameters)
        found |= named_by_job(told)
        after = told.get("after") if isinstance(told, dict) else ""
        if not after or jobs <= found.keys():
            break
        parameters["after"] = str(after)
    return found


def next_sequence(last: int, now: float) -> int:
    """The number of the next set: the moment in epoch microseconds, and more than the last one. One that was given
    while this machine's clock was far ahead, and that every factory refuses as one of the future, counts no more."""
    moment = int(now * 1e6)
    return moment if last > moment + int(AHEAD_SECONDS * 1e6) else max(last + 1, moment)


def put(client: FactoryClient, document: Callable[[int], dict[str, Json]], sequence: int) -> tuple[Json, int]:
    """The factory's answer, and the number of the set that it took. Where it knows a newer one, as after this
    machine's clock was set back, the set gets the next number. Raises ``PilotError``."""
    try:
        return client.put_requests(document(sequence)), sequence
    except OutdatedError as error:
        if error.known < sequence:
            raise
        newer = error.known + 1
        return client.put_requests(document(newer)), newer


def settings_for(frontend: Frontend, offered: list[Offered]) -> Settings:
    """The settings with the limits of every entry: the file's, and the factory's own where those are smaller."""
    limits = {
        offer.name: _smaller(entry_limits(frontend, offer.name), one.limits.get(offer.name, EntryLimits()))
        for one in offered
        for offer in one.offers
    }
    return replace(frontend.settings, limits=limits)


def _smaller(own: Limits, theirs: EntryLimits) -> Limits:
    total = own.most_pilots if theirs.total is None else min(own.most_pilots, theirs.total)
    queued = own.most_queued if theirs.idle is None else min(own.most_queued, theirs.idle)
    return replace(own, most_pilots=total, most_queued=queued, least_pilots=min(own.least_pilots, total))


def _unconcluded(memory: Memory, certain: set[str]) -> Memory:
    """The memory without what was counted at entries of other factories: old numbers are no proof of an excess."""
    cycles = {name: count if name.rpartition("@")[2] in certain else 0 for name, count in memory.excess_cycles.items()}
    return replace(memory, excess_cycles=cycles)


def _said(error: Exception) -> str:
    if isinstance(error, PilotError):
        return error.failure.message
    return f"{type(error).__name__}: {error}"
