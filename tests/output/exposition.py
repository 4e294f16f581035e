"""A strict reader of Prometheus' text exposition format 0.0.4, stricter than Prometheus: what it refuses is a mistake
even where a server would take it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
HELP = re.compile(rf"# HELP ({NAME}) ((?:[^\\\n]|\\[\\n])*)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram|summary|untyped)")
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|Inf)|NaN")
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,{LABEL})*)\}})? (\S+)")
ESCAPE = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass
class Metric:
    """One metric: its help, its type, and the value of each series by its labels."""

    help: str
    kind: str = ""
    series: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)


def parse(text: str) -> dict[str, Metric]:
    """The metrics of a text by name. Raises ``ValueError`` with the line that is not allowed: HELP, TYPE and samples
    of a metric stand together and in this order, no series comes twice, every line ends."""
    if text and not text.endswith("\n"):
        raise ValueError("the last line does not end")
    metrics: dict[str, Metric] = {}
    current = ""
    for line in text.split("\n")[:-1]:
        if found := HELP.fullmatch(line):
            current = found[1]
            if current in metrics:
                raise ValueError(f"a second group of {line!r}")
            metrics[current] = Metric(found[2])
        elif found := TYPE.fullmatch(line):
            if found[1] != current or metrics[current].kind or metrics[current].series:
                raise ValueError(f"TYPE out of place: {line!r}")
            metrics[current].kind = found[2]
        elif found := SAMPLE.fullmatch(line):
            _add(metrics, current, found, line)
        else:
            raise ValueError(f"no line of the format: {line!r}")
    return metrics


def _add(metrics: dict[str, Metric], current: str, found: re.Match[str], line: str) -> None:
    if found[1] != current or not metrics[current].kind:
        raise ValueError(f"sample out of place: {line!r}")
    if not NUMBER.fullmatch(found[3]):
        raise ValueError(f"no number: {line!r}")
    pairs = re.findall(LABEL, found[2] or "")
    labels = tuple((name, re.sub(r"\\.", lambda m: ESCAPE[m[0]], value[1:-1])) for name, value in map(_halves, pairs))
    if len({name for name, _ in labels}) < len(labels):
        raise ValueError(f"a label twice: {line!r}")
    if labels in metrics[current].series:
        raise ValueError(f"a series twice: {line!r}")
    metrics[current].series[labels] = float(found[3])


def _halves(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return name, value
