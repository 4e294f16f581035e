"""Binds of jobs' containers: who asks for which, which of them the node has, and which are allowed.

A look at a path happens in a child, as one at a dead mount would never return.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.config_images import BIND_PATH
from pilot_agent.containers.command import TARGET_DIRECTORY, Bind, BindError
from pilot_agent.containers.restrictions import OfLayer, lies_under
from pilot_agent.model import BindVerdict, Failure, FailureKind, Json, PilotError
from pilot_agent.process import Runner, WakeUp

LOOK_SECONDS = 10.0
"""How long one look at all sources may take."""

OF_THE_CONTAINER = ("/", "/proc", "/sys", "/dev", "/.singularity.d")
"""What the runtime makes itself; a bind there would take it away."""

IN_SCRATCH = (TARGET_DIRECTORY, "/tmp", "/var/tmp")  # noqa: S108 - directories of the container
"""What lies in the scratch directory of jobs and of programs of plugins, and everything below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindWish:
    """A directory or file of the node that somebody wants in jobs' containers.

    ``asked_by`` is what the report says: a layer of the configuration, a setup, a plugin, or the pilot itself
    (``built_in``: no restriction holds for it, as it has a switch of its own). ``required``: without it the pilot ends;
    otherwise it is left out where the node has no such source.
    """

    source: str
    destination: str
    asked_by: str
    read_only: bool = False
    required: bool = False
    built_in: bool = False

    @classmethod
    def configured(cls, entry: Json, asked_by: str) -> BindWish:
        """From a valid entry of ``containers.binds``: ``source[:destination[:ro]]`` or a mapping."""
        if isinstance(entry, str):
            return cls.of(entry, asked_by)
        return cls(
            source=entry["source"],
            destination=entry.get("destination") or entry["source"],
            read_only=bool(entry.get("read_only")),
            required=bool(entry.get("required")),
            asked_by=asked_by,
        )

    @classmethod
    def of(cls, text: str, asked_by: str) -> BindWish:
        """From ``source[:destination[:ro|rw]]``. Raises ``PilotError`` (container.bind) with who asked."""
        try:
            bind = Bind.parse(text)
        except BindError as error:
            raise _error(FailureKind.CONFIG, f"{asked_by}: {error}", "whoever asked for it corrects the bind") from None
        return cls(source=bind.source, destination=bind.target, read_only=bind.read_only, asked_by=asked_by)


def judge_binds(
    wishes: Sequence[BindWish],
    allowed: Sequence[OfLayer],
    *,
    scratch: str = TARGET_DIRECTORY,
    private: str | None = None,
    wake: WakeUp | None = None,
) -> tuple[BindVerdict, ...]:
    """One verdict for each wish, in their order. Of several binds to one place the last that can be given counts, but
    none comes in place of a required one that is not required itself.

    ``allowed`` are the directories that each layer lets sources lie under, ``scratch`` is where jobs' scratch directory
    appears, ``private`` is the pilot's own, which no job sees. Raises ``PilotError`` (container.bind) for a required
    one that cannot be given, and ``Interrupted``.
    """
    reasons = [_shape(wish, scratch) for wish in wishes]
    sound = [wish for wish, reason in zip(wishes, reasons, strict=True) if not reason]
    looks = _look_at_all(sound, allowed, wake)
    found = [None if reason else next(looks) for reason in reasons]
    reasons = [
        reason or _refusal(wish, look, allowed, private)
        for wish, reason, look in zip(wishes, reasons, found, strict=True)
    ]
    writable = {
        look["path"]: wish
        for wish, reason, look in zip(wishes, reasons, found, strict=True)
        if look is not None and not reason and not wish.read_only
    }
    reasons = [
        reason or _exchangeable(wish, look, writable) for wish, reason, look in zip(wishes, reasons, found, strict=True)
    ]
    reasons = _of_each_place_one(wishes, reasons)
    for wish, reason in zip(wishes, reasons, strict=True):
        if wish.required and reason not in ("", ASKED_BEFORE):
            raise _required(wish, reason)
    return tuple(
        BindVerdict(wish.source, wish.destination, wish.read_only, wish.asked_by, given=not reason, reason=reason)
        for wish, reason in zip(wishes, reasons, strict=True)
    )


MISSING = "the node has no such file or directory"
DEAD = f"a look at it did not return within {LOOK_SECONDS:g} s: the mount that it is on is dead"
ASKED_BEFORE = "it was asked for before"


def _of_each_place_one(wishes: Sequence[BindWish], reasons: Sequence[str]) -> list[str]:
    """The reasons, with those for which another wish for the same place counts."""
    winners: dict[str, BindWish] = {}
    for wish, reason in zip(wishes, reasons, strict=True):
        place = os.path.normpath(wish.destination)
        if not reason and (wish.required or place not in winners or not winners[place].required):
            winners[place] = wish
    given: set[str] = set()
    told = []
    for wish, reason in zip(wishes, reasons, strict=True):
        place = os.path.normpath(wish.destination)
        if not reason:
            reason = _settled(wish, winners[place], place in given)
        if not reason:
            given.add(place)
        told.append(reason)
    return told


def _settled(wish: BindWish, winner: BindWish, given: bool) -> str:
    """Why another wish for the same place stands for this one; empty when this one is given."""
    if (wish.source, wish.read_only) != (winner.source, winner.read_only):
        return f"{winner.asked_by} wants {winner.source}{' read-only' if winner.read_only else ''} there"
    return ASKED_BEFORE if given else ""


def _required(wish: BindWish, reason: str) -> PilotError:
    missing = reason in (MISSING, DEAD)
    message = f"the bind of {wish.source} that {wish.asked_by} requires cannot be given: {reason}"
    hint = f"{'the site provides it' if missing else 'it is allowed'}, or it is no longer required"
    return _error(FailureKind.NODE_RESOURCE if missing else FailureKind.CONFIG, message, hint)


def _exchangeable(wish: BindWish, look: Mapping[str, Json] | None, writable: Mapping[str, BindWish]) -> str:
    """Why a job could put something else, such as a link, where a bind's source is; empty when none can."""
    if look is None or wish.built_in:
        return ""
    for above, other in writable.items():
        if any(lies_under(directory, above) for directory in look["writable"]):
            return f"jobs could exchange it: it lies in {above}, where {other.asked_by} lets them write"
    return ""


def _shape(wish: BindWish, scratch: str) -> str:
    for path in (wish.source, wish.destination):
        if not re.fullmatch(BIND_PATH, path):
            return (
                f"{path!r} has a character that HTCondor cannot pass on: space, comma, colon, quote, $ ; or backslash"
            )
    place = os.path.normpath(wish.destination)
    if place in OF_THE_CONTAINER or place.startswith(("/proc/", "/sys/")):
        return f"the runtime itself makes {place} inside"
    if any(lies_under(place, directory) for directory in (scratch, *IN_SCRATCH)):
        return f"{place} lies in the job's own scratch directory"
    return ""


def _refusal(wish: BindWish, look: Mapping[str, Json] | None, allowed: Sequence[OfLayer], private: str | None) -> str:
    if look is None:
        return DEAD
    real = look["path"]
    physical: Mapping[str, str] = look["prefixes"]
    written = os.path.normpath(wish.source)
    for entry in () if wish.built_in else allowed:
        if not any(lies_under(real or written, physical[prefix] if real else prefix) for prefix in entry.allowed):
            leads = f"{real}, where it leads, is" if real and real != written else "it is"
            return f"{leads} not under what containers.allowed_binds allows: {entry}"
    if real is None:
        return MISSING
    if private is not None and (lies_under(real, private) or lies_under(private, real)):
        return "it would show jobs the pilot's private directory"
    return ""


def _look_at_all(
    wishes: Sequence[BindWish], allowed: Sequence[OfLayer], wake: WakeUp | None
) -> Iterator[Mapping[str, Json] | None]:
    """Where each source really is, and the directories of ``allowed``; None for one that holds who looks at it."""
    prefixes = sorted({prefix for entry in allowed for prefix in entry.allowed})
    # The pilot's own choice, on the node's root file system or found to answer before.
    if all(wish.built_in for wish in wishes):
        yield from (_looked(wish.source, prefixes) for wish in wishes)
        return
    sources = [wish.source for wish in wishes]
    while sources:
        with Runner(wake) as runner:
            rest = list(sources)
            handle = runner.start_call(
                lambda rest=rest: _tell(rest, prefixes),  # type: ignore[misc]
                name="bind sources",
                deadline_seconds=LOOK_SECONDS,
            )
            result = runner.wait(handle)
        answers = [json.loads(line) for line in result.stdout.splitlines() if line.endswith(b"}")][: len(rest)]
        yield from answers
        if len(answers) < len(rest):
            yield None
        sources = sources[len(answers) + 1 :]


def _tell(sources: Sequence[str], prefixes: Sequence[str]) -> bytes:
    for source in sources:
        sys.stdout.write(json.dumps(_looked(source, prefixes)) + "\n")
        sys.stdout.flush()
    return b""


def _looked(source: str, prefixes: Sequence[str]) -> dict[str, Json]:
    """Where ``source`` really is (None: nowhere) and which directories above it this account, as which jobs run, may
    write to."""
    real: str | None
    try:
        real = os.path.realpath(source, strict=True)
    except OSError:
        real = None
    writable = [directory for directory in _above(real or "/") if os.access(directory, os.W_OK)]
    return {"path": real, "writable": writable, "prefixes": {prefix: os.path.realpath(prefix) for prefix in prefixes}}


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _error(kind: FailureKind, message: str, hint: str) -> PilotError:
    return PilotError(Failure(kind, "container.bind", message, hint))
