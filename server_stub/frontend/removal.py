"""When pilots that nobody needs any more are taken back: those in the queue first, then whole idle ones.

A pilot that runs a job is never taken back. Each step needs the condition to hold for several cycles, all of them with
complete queries: GlideinWMS drained a whole pool when one query had failed (glideinwms issue 282), and so
``cycle.decide`` calls nothing of this on a partial one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from server_stub.frontend.pressure import EntryState


class Removal(enum.StrEnum):
    """What a factory should take back beyond the request's numbers: nothing; pilots that it has not handed to the site
    yet (WAIT); those in the site's queue as well (IDLE); and those that run without any job (WHOLE)."""

    NO = "NO"
    WAIT = "WAIT"
    IDLE = "IDLE"
    WHOLE = "WHOLE"


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many cycles an entry has more than is needed before something happens; the numbers of GlideinWMS's
    ``choose_remove_excess_type``. ``margin`` is how many more than asked for do not matter."""

    wait_cycles: int = 5
    remove_cycles: int = 10
    margin: int = 0


def excess(entry: EntryState, keep_queued: int, patience: Patience) -> bool:
    """Whether the entry has pilots for which there is no use: queued ones beyond those to keep, or idle ones that no
    waiting job can use."""
    return entry.queued > keep_queued + patience.margin or entry.useless_slots > 0


def removal(entry: EntryState, keep_queued: int, cycles: int, patience: Patience) -> Removal:
    """What to take back after ``cycles`` cycles with an excess."""
    if cycles <= patience.wait_cycles:
        return Removal.NO
    if cycles <= patience.remove_cycles:
        return Removal.WAIT
    if entry.queued > keep_queued + patience.margin or entry.useless_slots == 0:
        return Removal.IDLE
    return Removal.WHOLE
