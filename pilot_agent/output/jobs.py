"""What a report counts of jobs, as rows that every format can show."""

from __future__ import annotations

from pilot_agent.model import Json
from pilot_agent.output.reading import Told
from pilot_agent.output.words import clean, finite, number_text, seconds_text

TIMES = (
    ("validation_seconds", "from the pilot's start to HTCondor's"),
    ("busy_seconds", "a job ran"),
    ("idle_seconds", "no job ran"),
    ("busy_core_seconds", "cores in use, times their time"),
    ("idle_core_seconds", "cores not in use, times their time"),
)
MOST_NAMES = 100


def jobs_told(value: Json) -> tuple[Told, ...]:
    """How the runs ended, whose they were, and the times; nothing for a report of a pilot that ran none."""
    data = value if isinstance(value, dict) else {}
    started = finite(data.get("started"))
    if not started:
        return ()
    rows = [Told("started", _counted(started, "run"), ())]
    rows += [Told(clean(name), _counted(count, "run"), ()) for name, count in _numbers(data.get("ended"))]
    for key, kind in (("users", "user"), ("projects", "project")):
        accounts = data.get(key)
        for name, account in list(accounts.items())[:MOST_NAMES] if isinstance(accounts, dict) else ():
            rows.append(_account(f"{kind} {name}", account))
    times = [(key, text, seconds) for key, text in TIMES if (seconds := finite(data.get(key))) is not None]
    rows += [Told(_name(key), seconds_text(seconds), (("meaning", text),)) for key, text, seconds in times]
    return tuple(rows)


def _name(key: str) -> str:
    """The value has its unit."""
    return key.removesuffix("_seconds").replace("_", " ")


def _account(name: str, value: Json) -> Told:
    numbers = dict(_numbers(value))
    words = [("exit_zero", number_text(numbers.get("exit_zero", 0.0)))]
    words += [(key, seconds_text(numbers.get(key, 0.0))) for key in ("busy_seconds", "busy_core_seconds")]
    return Told(clean(name), _counted(numbers.get("jobs", 0.0), "run"), tuple(words))


def _numbers(value: Json) -> list[tuple[str, float]]:
    items = list(value.items())[:MOST_NAMES] if isinstance(value, dict) else []
    return [(str(name), number) for name, count in items if (number := finite(count)) is not None]


def _counted(number: float, what: str) -> str:
    return f"{number_text(number)} {what}" + ("" if number == 1 else "s")
