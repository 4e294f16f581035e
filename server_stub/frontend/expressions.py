"""ClassAd expressions over many pairs of ads, by HTCondor's own library and as seldom as possible.

An expression is evaluated once for each combination of the values that it reads: a thousand entries that differ only
in their names are one entry to an expression about countries. Nothing here evaluates Python.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pilot_agent.config_expressions import expression_problem
from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.frontend.bindings import classad2
from server_stub.frontend.jobs import Scalar

Values = npt.NDArray[np.float64]

UNDEFINED = float("-inf")
"""The outcome that depends on something that neither ad has. Below every number."""
ERROR = float("nan")
"""The outcome of an expression that makes no sense for these ads, or is no number."""

_INDIRECT = re.compile(r"\beval\s*\(", re.IGNORECASE)
_MINE = re.compile(r"\bMY\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression. Names it reads, in small letters: ``own`` from its own side (MY), ``other`` from the other
    one (TARGET), ``either`` without a side, which is its own side's where that has the name, else the other's."""

    text: str
    tree: Any
    own: frozenset[str]
    other: frozenset[str]
    either: frozenset[str]


def parse_expression(text: str, what: str) -> Expression:
    """The expression in ``text``; ``what`` names it in messages. Raises ``PilotError`` (config.invalid)."""
    problem = expression_problem(text)
    if problem is None and _INDIRECT.search(_QUOTED.sub('""', text)):
        problem = "calls eval(), which hides what it reads; write out the attributes"
    if problem is not None:
        raise _invalid(what, text, problem)
    library = classad2()
    try:
        tree = library.ExprTree(text)
        references = [name.lower() for name in library.ClassAd().externalRefs(tree) if name]
    except (ValueError, library.ClassAdException) as error:
        raise _invalid(what, text, "is no ClassAd expression") from error
    bare = frozenset(name.partition(".")[0] for name in references if not name.startswith("target."))
    other = frozenset(name[7:].partition(".")[0] for name in references if name.startswith("target."))
    # The library tells names with MY and names without a side alike.
    own = frozenset(name.lower() for name in _MINE.findall(_QUOTED.sub('""', text))) & bare
    return Expression(text, tree, own, other, bare - own)


def _invalid(what: str, text: str, problem: str) -> PilotError:
    shown = text if len(text) <= 100 else text[:97] + "..."
    message = f"{what} {problem}: {shown!r}"
    return PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, "correct the expression"))


def evaluate(
    expression: Expression, ours: Sequence[Mapping[str, Scalar]], theirs: Sequence[Mapping[str, Scalar]]
) -> Values:
    """The outcome for each pair, a row for each of ``ours``: numbers as they are, true and false as 1 and 0, else
    ``UNDEFINED`` or ``ERROR``."""
    mine, rows = _distinct(ours, expression.own | expression.either)
    others, columns = _distinct(theirs, expression.other | expression.either)
    outcomes = np.empty((len(mine), len(others)))
    ready = [(values, classad2().ClassAd(_defined(values))) for values in others]
    lent = {name for name in expression.either if any(values[name] is not None for values in others)}
    for row, values in enumerate(mine):
        outcomes[row] = _outcomes(expression, values, ready, lent)
    return outcomes[np.ix_(rows, columns)]


def _distinct(
    ads: Sequence[Mapping[str, Scalar]], names: frozenset[str]
) -> tuple[list[dict[str, Scalar]], npt.NDArray[np.intp]]:
    """The different ads as far as these names go, with every one of them, and for each ad which one it is."""
    numbers: dict[tuple[tuple[type, Scalar], ...], int] = {}
    which = np.empty(len(ads), np.intp)
    ordered = sorted(names)
    for place, ad in enumerate(ads):
        small = {name.lower(): value for name, value in ad.items()}
        # 1, 1.0 and true are equal to Python and not to an expression.
        read = tuple((type(value := small.get(name)), value) for name in ordered)
        which[place] = numbers.setdefault(read, len(numbers))
    return [dict(zip(ordered, (value for _, value in read), strict=True)) for read in numbers], which


def _outcomes(
    expression: Expression,
    mine: Mapping[str, Scalar],
    others: Sequence[tuple[Mapping[str, Scalar], Any]],
    lent: Collection[str],
) -> list[float]:
    """The outcomes for one ad of our side. The other side hangs below it under its name and is looked up like any
    attribute: that is six times as fast as a pair of ads that HTCondor matches. A name that an inner ad lacks would be
    looked for in the outer one, so both have all names, undefined where there is nothing. ``lent`` are the
    names without a side that any ad of the other one has."""
    library = classad2()
    outcomes = []
    own = {name: mine[name] for name in expression.own | expression.either}
    borrowed = [name for name in lent if own[name] is None]
    scope = library.ClassAd(_defined(own))
    for other, target in others:
        if borrowed:
            scope.update(_defined({name: other[name] for name in borrowed}))
        scope["TARGET"] = target
        outcomes.append(_number(expression.tree.eval(scope)))
    return outcomes


def _defined(values: Mapping[str, Scalar]) -> dict[str, object]:
    undefined = classad2().Value.Undefined
    return {name: undefined if value is None else value for name, value in values.items()}


def _number(value: object) -> float:
    # Not isinstance: the library's own words for undefined and error are integers to Python.
    if type(value) is bool or type(value) is int or type(value) is float:
        return float(value)
    return UNDEFINED if value is classad2().Value.Undefined else ERROR
