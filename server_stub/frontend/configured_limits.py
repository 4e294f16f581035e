"""Limits, totals, tuning and patience as an operator writes them; the defaults are those of the records."""

from __future__ import annotations

from server_stub.factory.reader import Reader
from server_stub.frontend.pressure import Ceiling, Limits, Totals, Tuning
from server_stub.frontend.removal import Patience


def read_limits(reader: Reader, default: Limits) -> Limits:
    """An entry's limits; what is not said is as in ``default``."""
    limits = Limits(
        least_pilots=reader.integer("least_pilots", default=default.least_pilots, minimum=0),
        most_pilots=reader.integer("most_pilots", default=default.most_pilots, minimum=0),
        most_queued=reader.integer("most_queued", default=default.most_queued, minimum=0),
        reserve=reader.integer("reserve", default=default.reserve, minimum=0),
        idle_slots=_ceiling(reader, "idle_slots", default.idle_slots),
        new_per_cycle=reader.integer("new_per_cycle", default=default.new_per_cycle, minimum=1),
        probation_pilots=reader.integer("probation_pilots", default=default.probation_pilots, minimum=0),
    )
    if limits.least_pilots > limits.most_pilots:
        reader.note("least_pilots", f"{limits.least_pilots} is more than most_pilots, {limits.most_pilots}")
    reader.refuse_others()
    return limits


def read_totals(reader: Reader) -> Totals:
    """Limits of all entries together."""
    default = Totals()
    totals = Totals(
        pilots=_ceiling(reader, "pilots", default.pilots),
        idle_slots=_ceiling(reader, "idle_slots", default.idle_slots),
        new_per_cycle=reader.integer("new_per_cycle", default=default.new_per_cycle, minimum=1),
    )
    reader.refuse_others()
    return totals


def read_tuning(reader: Reader) -> Tuning:
    """How quickly requests grow, and from which rate of failures on an entry is on probation."""
    default = Tuning()
    tuning = Tuning(
        attenuation=reader.number("attenuation", default=default.attenuation, minimum=1),
        relative_to_queue=reader.number("relative_to_queue", default=default.relative_to_queue, minimum=1),
        failure_rate=reader.number("failure_rate", default=default.failure_rate, minimum=0, maximum=1),
    )
    reader.refuse_others()
    return tuning


def read_patience(reader: Reader) -> Patience:
    """For how many cycles there must be too many pilots before they are taken back."""
    default = Patience()
    patience = Patience(
        wait_cycles=reader.integer("wait_cycles", default=default.wait_cycles, minimum=0),
        remove_cycles=reader.integer("remove_cycles", default=default.remove_cycles, minimum=0),
        margin=reader.integer("margin", default=default.margin, minimum=0),
    )
    if patience.remove_cycles < patience.wait_cycles:
        reader.note("remove_cycles", f"must not be less than wait_cycles, {patience.wait_cycles}")
    reader.refuse_others()
    return patience


def _ceiling(reader: Reader, key: str, default: Ceiling) -> Ceiling:
    """``{most, curb}``; a curb that is not given is no larger than the most."""
    below = reader.below(key)
    most = below.integer("most", default=default.most, minimum=0)
    ceiling = Ceiling(most, below.integer("curb", default=min(default.curb, most), minimum=0))
    if ceiling.curb > ceiling.most:
        below.note("curb", f"{ceiling.curb} is more than most, {ceiling.most}")
    below.refuse_others()
    return ceiling
