"""What a benchmark answered, as a score that can be relied on: a finite number with a unit, or the reason why not."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pilot_agent.benchmarks.declaration import LONGEST_UNIT
from pilot_agent.benchmarks.parts import parts_of
from pilot_agent.codec import CodecError, from_json
from pilot_agent.hookspecs import Benchmark
from pilot_agent.lifecycle.periodic_tasks import LONGEST_VALUE, MOST_ATTRIBUTES, OWN_ATTRIBUTES, OWN_PREFIXES
from pilot_agent.model import BenchmarkScore, Json
from pilot_agent.startd.classad import LiteralError, attribute_name, literal

LIMIT_BYTES = 1 << 20
MOST_REPETITIONS = 1000
MESSAGE_LIMIT = 500
MOST_CONDITIONS = 64
LONGEST_CONDITION = 512


class AnswerError(ValueError):
    """An answer that is no score; the message says what is wrong with it and where."""


def from_function(record: Benchmark, answer: Json, *, builtin: bool) -> BenchmarkScore:
    """The score that a function returned. Raises ``AnswerError``."""
    try:
        return _checked(record, from_json(BenchmarkScore, answer), builtin=builtin)
    except CodecError as error:
        raise AnswerError(str(error)) from None


def from_program(record: Benchmark, directory: str, output: bytes, *, truncated: bool) -> BenchmarkScore:
    """The score in the file that ``record.result`` names, or in what the program said. Raises ``AnswerError``."""
    if record.result is not None:
        place, text = record.result, _file(directory, record.result)
    else:
        place, text = "its output", _last_words(output, truncated=truncated)
    document = _parsed(place, text)
    return _checked(record, _score(record, place, document), builtin=False)


def spread_of(repetitions: tuple[float, ...]) -> float | None:
    """The range of several scores as a share of their median; None for fewer than two, or of nothing."""
    middle = median(repetitions) if len(repetitions) > 1 else 0.0
    return round((max(repetitions) - min(repetitions)) / middle, 4) if middle else None


def median(numbers: Sequence[float]) -> float:
    """The middle of some numbers, at least one; the module of the standard library costs 10 ms."""
    ordered, half = sorted(numbers), len(numbers) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def advertised_name(name: str) -> str:
    """The attribute of the machine ad that holds the score of the benchmark ``name``."""
    return "BENCHMARK_" + "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name).upper()


def _file(directory: str, name: str) -> bytes:
    root = os.path.realpath(directory)
    path = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath((root, path)) != root:
        raise AnswerError(f"{name} leads out of its directory")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise AnswerError(f"{name} cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AnswerError(f"{name} is no plain file")
        if status.st_size > LIMIT_BYTES:
            raise AnswerError(f"{name} has {status.st_size} bytes, {LIMIT_BYTES} at most are read")
        return file.read(LIMIT_BYTES)


def _last_words(output: bytes, *, truncated: bool) -> bytes:
    """All that the program said where that is one object, else its last line."""
    if truncated:
        raise AnswerError(f"it wrote more than {LIMIT_BYTES >> 10} KiB, and its answer must be its last line")
    text = output.strip()
    if not text:
        raise AnswerError("it said nothing; a JSON object with score and unit is needed")
    return text if text.startswith(b"{") and text.endswith(b"}") and b"}\n{" not in text else text.splitlines()[-1]


def _parsed(place: str, text: bytes) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        begun = text[:60].decode("utf-8", "replace")
        raise AnswerError(f"{place} is no JSON: {error}; it begins with {begun!r}") from None


def _score(record: Benchmark, place: str, document: Json) -> BenchmarkScore:
    score = _at(place, document, record.score_at)
    own = document if isinstance(document, dict) and record.score_at == "score" else {}
    unit = own.get("unit") or record.unit
    if not unit:
        raise AnswerError(f"{place} names no unit")
    repetitions, message = own.get("repetitions", []), own.get("message", "")
    return BenchmarkScore(
        record.name,
        score,
        unit,
        0.0,
        attributes={**_parts(record, place, document), **_mapping(place, own, "attributes")},
        repetitions=tuple(repetitions) if isinstance(repetitions, list) else repetitions,
        spread=own.get("spread"),
        conditions=_mapping(place, own, "conditions"),
        message=message if isinstance(message, str) else "",
    )


def _parts(record: Benchmark, place: str, document: Json) -> dict[str, Json]:
    """What ``parts_at`` leads to, as attributes. A suite without parts still has its score."""
    if not record.parts_at:
        return {}
    try:
        found = parts_of(_at(place, document, record.parts_at))
    except AnswerError:
        return {}
    return {advertised_name(f"{record.name}_{name}"): number for name, number in found.items()}


def _mapping(place: str, document: Mapping[str, Json], name: str) -> dict[str, Json]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise AnswerError(f"{name} in {place} is no mapping")
    return found


def _at(place: str, document: Json, path: str) -> Json:
    """What ``path`` leads to: names of mappings and numbers of lists, with dots between them."""
    found, walked = document, ""
    for part in path.split("."):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            where = f"; the way ends at {walked}" if walked else ""
            raise AnswerError(f"{place} has no {path}{where}")
        walked = f"{walked}.{part}" if walked else part
    return found


def _checked(record: Benchmark, found: BenchmarkScore, *, builtin: bool) -> BenchmarkScore:
    """The score under the name and version that were declared, with what reaches the ad and the report in bounds."""
    found = replace(
        found, name=record.name, version=record.version, cached=False, message=found.message[:MESSAGE_LIMIT]
    )
    if found.status != "ok":
        return replace(found, score=None, attributes={}, repetitions=(), spread=None)
    _require_number("score", found.score)
    if not isinstance(found.unit, str) or not found.unit.isprintable() or not 0 < len(found.unit) <= LONGEST_UNIT:
        raise AnswerError(f"the unit {found.unit!r} is none: {LONGEST_UNIT} printable characters at most")
    if not isinstance(found.repetitions, tuple) or len(found.repetitions) > MOST_REPETITIONS:
        raise AnswerError(f"repetitions are no list of {MOST_REPETITIONS} numbers at most")
    for number in found.repetitions:
        _require_number("a repetition", number)
    if found.spread is not None:
        _require_number("spread", found.spread)
    own = {advertised_name(record.name): found.score, f"{advertised_name(record.name)}_UNIT": found.unit}
    return replace(
        found,
        spread=spread_of(found.repetitions) if found.spread is None else found.spread,
        attributes={**_attributes(found.attributes, builtin=builtin), **own},
        conditions=_conditions(found.conditions),
    )


def _require_number(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AnswerError(f"{what} is {value!r}, a {type(value).__name__} and no number"[:200])
    if not math.isfinite(value) or value < 0:
        raise AnswerError(f"{what} is {value}; a finite number that is not negative is needed"[:200])


def _attributes(given: Mapping[str, Json], *, builtin: bool) -> dict[str, Json]:
    """The attributes that a benchmark may set. Raises ``AnswerError`` for one that cannot be in the ad, or is not its
    own."""
    if len(given) > MOST_ATTRIBUTES:
        raise AnswerError(f"it gives {len(given)} attributes, {MOST_ATTRIBUTES} at most are taken")
    for name, value in given.items():
        low = name.lower()
        if not builtin and (low.startswith(OWN_PREFIXES) or low in OWN_ATTRIBUTES):
            raise AnswerError(f"the attribute {name[:100]}: the pilot or HTCondor itself gives it a value")
        try:
            attribute_name(name)
            text = literal(value)
        except LiteralError as error:
            raise AnswerError(f"the attribute {name[:100]}: {error}") from None
        if len(text) > LONGEST_VALUE:
            raise AnswerError(f"the attribute {name[:100]} has more than {LONGEST_VALUE} characters")
    return dict(given)


def _conditions(given: Mapping[str, Json]) -> dict[str, Json]:
    try:
        texts = {name: json.dumps(value, allow_nan=False) for name, value in given.items()}
    except (ValueError, TypeError) as error:
        raise AnswerError(f"conditions: {error}") from None
    small = {name: given[name] for name, text in texts.items() if len(text) <= LONGEST_CONDITION}
    return dict(list(small.items())[:MOST_CONDITIONS])
