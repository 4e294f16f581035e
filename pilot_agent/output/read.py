"""Reads a report into a ``Reading``: what is missing or of the wrong type becomes empty, and every text is cleaned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilot_agent.model import Json
from pilot_agent.output.jobs import jobs_told
from pilot_agent.output.reading import (
    CHECK_STATUSES,
    Bound,
    Candidate,
    CheckRow,
    Containers,
    FactRow,
    FitFor,
    Problem,
    Reading,
    Span,
    Told,
    Way,
    Ways,
    Wish,
)
from pilot_agent.output.words import clean, finite, value_text


def read(report: Json) -> Reading:
    """The report as a ``Reading``; never raises, whatever JSON it is."""
    data = _mapping(report)
    pilot, outcome = _mapping(data.get("pilot")), _mapping(data.get("outcome"))
    problem = _problem(outcome.get("failure"))
    status = _text(outcome, "status")
    fit = tuple(_fit(item) for item in _mappings(data.get("verdicts")))
    return Reading(
        host=_text(pilot, "host") or "unknown host",
        user=_text(pilot, "user"),
        version=_text(pilot, "version"),
        pilot_id=_text(pilot, "id"),
        started=_text(pilot, "started"),
        finished=_text(pilot, "finished"),
        layers=tuple(value_text(item) for item in _sequence(pilot.get("config"))),
        status=status,
        problem=problem,
        problems=tuple(p for item in _sequence(data.get("failures")) if (p := _problem(item)) is not None),
        fit=fit or (FitFor("", status == "ok" and problem is None, problem, None),),
        checks=tuple(_check(item) for item in _mappings(data.get("checks"))),
        containers=_containers(data.get("container")),
        cvmfs=_ways(data.get("cvmfs")),
        facts=tuple(_facts(_mapping(data.get("node")))),
        spans=tuple(_span(item) for item in _mappings(data.get("timeline"))),
        jobs=jobs_told(data.get("jobs")),
        services=tuple(_service(item) for item in _mappings(data.get("services"))),
        benchmarks=tuple(_benchmark(item) for item in _mappings(data.get("benchmarks"))),
        plugins=tuple(_plugin(item) for item in _mappings(data.get("plugins"))),
        leftovers=tuple(_leftover(item) for item in _sequence(data.get("leftovers"))),
        attributes=tuple((clean(str(k)), value_text(v)) for k, v in _mapping(data.get("ad")).items()),
    )


def _mapping(value: Json) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Json) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Json) -> list[dict[str, Any]]:
    return [item for item in _sequence(value) if isinstance(item, dict)]


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return "" if value is None or value == "" else value_text(value)


def _seconds(data: dict[str, Any], key: str) -> float:
    """At most a century, either way: what is longer is damage."""
    number = finite(data.get(key)) or 0.0
    return float(number) if abs(number) < 3.2e9 else 0.0


def _problem(value: Json) -> Problem | None:
    data = _mapping(value)
    if not data:
        return None
    message = _text(data, "message") or "no reason was given"
    kind, code, hint = (_text(data, key) for key in ("kind", "code", "hint"))
    return Problem(kind, code, message, hint, _text(data, "stage"), _text(data, "plugin"))


def _fit(data: dict[str, Any]) -> FitFor:
    problem = _problem(data.get("failure"))
    fit = data.get("fit") is True and problem is None
    return FitFor(_text(data, "vo"), fit, problem, _containers(data.get("container")), _ways(data.get("cvmfs")))


def _check(data: dict[str, Any]) -> CheckRow:
    status = data.get("status")
    return CheckRow(
        name=_text(data, "name") or "(no name)",
        status=status if status in CHECK_STATUSES else "skip",
        message=_text(data, "message"),
        hint=_text(data, "hint"),
        where=_text(data, "where") or "host",
        kind=_text(data, "kind"),
        code=_text(data, "code"),
        vo=_text(data, "vo"),
    )


def _containers(value: Json) -> Containers | None:
    data = _mapping(value)
    if not data:
        return None
    runtime = _mapping(data.get("runtime"))
    words = " ".join(_text(runtime, key) for key in ("path", "version", "mode") if runtime)
    candidates = [
        Candidate(
            path=_text(item, "candidate"),
            platform=_text(item, "platform"),
            taken=item.get("taken") is True,
            proven=item.get("proven") is True,
            reason=_text(item, "reason"),
            seconds=max(_seconds(item, "seconds"), 0.0),
            seen=_seen(_mapping(item.get("facts"))),
        )
        for item in _mappings(data.get("why"))
    ]
    default = _text(_mapping(data.get("image")), "default")
    decision, cell, reason = (_text(data, key) for key in ("decision", "cell", "reason"))
    return Containers(decision, cell, reason, words, default, tuple(candidates), tuple(_wishes(data)))


def _ways(value: Json) -> Ways | None:
    data = _mapping(value)
    if not data:
        return None
    decision, cell, reason = (_text(data, key) for key in ("decision", "cell", "reason"))
    ways = [
        Way(_text(rung, "name"), _text(rung, "mode"), _text(rung, "state"), _text(rung, "reason"))
        for rung in _mappings(data.get("rungs"))
    ]
    return Ways(decision, cell, reason, tuple(ways))


def _seen(facts: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((clean(name), text) for name, text in _words(facts, *facts))


def _wishes(data: dict[str, Any]) -> Iterator[Wish]:
    """Binds, options and variables, in this order."""
    named = (("bind", "binds", _bind), ("option", "options", _option), ("variable", "environment", _variable))
    for kind, key, what in named:
        for item in _mappings(data.get(key)):
            given = item.get("given") is True
            yield Wish(kind, what(item), _text(item, "asked_by"), given, _text(item, "reason"))


def _bind(item: dict[str, Any]) -> str:
    source, destination = _text(item, "source"), _text(item, "destination")
    words = source if destination in ("", source) else f"{source} at {destination}"
    return f"{words}, read-only" if item.get("read_only") is True else words


def _option(item: dict[str, Any]) -> str:
    return _text(item, "option") + (", for jobs with GPUs" if item.get("with_gpus") is True else "")


def _variable(item: dict[str, Any]) -> str:
    return _text(item, "name")


def _facts(node: dict[str, Any]) -> Iterator[FactRow]:
    for group, names in node.items():
        for name, entry in _mapping(names).items():
            data = _mapping(entry)
            source, status = _text(data, "source"), data.get("status")
            yield FactRow(
                group=clean(str(group)),
                name=clean(str(name)),
                value=data.get("value"),
                unit=_text(data, "unit"),
                status=status if status in ("known", "absent") else "unknown",
                source=source,
                detail=_text(data, "detail"),
                where=_text(data, "where"),
                bounds=_bounds(_mappings(data.get("limits")), source),
            )


def _bounds(limits: list[dict[str, Any]], source: str) -> tuple[Bound, ...]:
    """The limits, smallest first. The one that the fact names as its source decides, else the smallest."""
    pairs = [(number, _text(item, "source")) for item in limits if (number := finite(item.get("number"))) is not None]
    pairs.sort()
    deciding = next((n for n, (_, named) in enumerate(pairs) if named == source), 0)
    return tuple(Bound(named, number, place == deciding) for place, (number, named) in enumerate(pairs))


def _span(data: dict[str, Any]) -> Span:
    return Span(
        stage=_text(data, "stage") or "(no stage)",
        plugin=_text(data, "plugin"),
        what=_text(data, "what") or "(no name)",
        start=_seconds(data, "start"),
        seconds=max(_seconds(data, "seconds"), 0.0),
        status=_text(data, "status") or "unknown",
        detail=_text(data, "detail"),
    )


def _words(data: dict[str, Any], *keys: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, text) for key in keys if (text := _text(data, key)) and data.get(key) not in ([], {}))


def _service(data: dict[str, Any]) -> Told:
    words = _words(data, "ready_after_seconds", "pid", "message", "attributes")
    return Told(_text(data, "name") or "(no name)", _text(data, "status"), words)


def _benchmark(data: dict[str, Any]) -> Told:
    words = _words(
        data, "message", "seconds", "cached", "version", "repetitions", "spread", "conditions", "image", "attributes"
    )
    status = _text(data, "status")
    return Told(_text(data, "name") or "(no name)", status, words, finite(data.get("score")), _text(data, "unit"))


def _plugin(data: dict[str, Any]) -> Told:
    status = "failed" if data.get("error") else "loaded"
    return Told(_text(data, "name") or "(no name)", status, _words(data, "source", "hooks", "declared", "error"))


def _leftover(item: Json) -> Told:
    data = _mapping(item)
    name = _text(data, "what")
    if not name:
        name = " ".join(word for key in ("kind", "pid", "path") if (word := _text(data, key))) or value_text(item)
    others = [key for key in data if key not in ("what", "kind", "pid", "path", "cause")]
    return Told(name, _text(data, "cause"), _words(data, *others))
