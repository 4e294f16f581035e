"""Parts of a Python expression as ClassAd expressions that mean exactly the same.

Python compares strings by case and ClassAds do not; Python fails where ClassAds go on with ``undefined``. So every term
knows its kind, and beside its text the condition on which Python would have failed there.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, replace


class Kind(enum.Enum):
    """What a value is; ``ANY`` where only the ads will tell."""

    BOOL = "a boolean"
    NUMBER = "a number"
    STRING = "a string"
    NONE = "None"
    ANY = "of an unknown type"


class NotConvertibleError(ValueError):
    """Something has no counterpart in a ClassAd expression; the message says what."""


@dataclass(frozen=True, slots=True)
class Term:
    """A ClassAd expression. ``fails`` is true where Python fails, empty where it never does; ``optional`` one may be
    undefined, which is Python's None. ``absorbs``: its truth is never true where Python
    fails, as it is undefined or false there. ``constant`` is what a literal holds."""

    text: str
    kind: Kind
    fails: str = ""
    optional: bool = False
    absorbs: bool = False
    constant: str | float | bool | None = None
    literal: bool = False

    @property
    def safe(self) -> bool:
        """Whether it is never true where Python fails."""
        return self.absorbs or not self.fails


def constant(value: object) -> Term:
    """A literal. Raises ``NotConvertibleError``."""
    if value is None:
        return Term("undefined", Kind.NONE, literal=True)
    if isinstance(value, bool):
        return Term("true" if value else "false", Kind.BOOL, constant=value, literal=True)
    if isinstance(value, int | float):
        if abs(value) >= 2**53 or value != value:
            raise NotConvertibleError(f"the number {value}")
        return Term(repr(value), Kind.NUMBER, constant=value, literal=True)
    if isinstance(value, str):
        return Term(quoted(value), Kind.STRING, constant=value, literal=True)
    raise NotConvertibleError(f"a literal of the type {type(value).__name__}")


def quoted(text: str) -> str:
    """A ClassAd string. Raises ``NotConvertibleError``."""
    if not text.isprintable():
        raise NotConvertibleError("a string with control characters")
    return json.dumps(text, ensure_ascii=False)


def any_of(*conditions: str) -> str:
    """One condition for several, between parentheses where it is more than one."""
    found = list(dict.fromkeys(condition for condition in conditions if condition))
    return f"({' || '.join(found)})" if len(found) > 1 else "".join(found)


def both(first: str, second: str) -> str:
    """``first && second``, where nothing on the second side is no condition at all."""
    return f"({first} && {second})" if second else ""


def truth(term: Term) -> Term:
    """What Python takes for true in it."""
    text = term.text
    match term.kind:
        case Kind.BOOL:
            made = f"({text} ?: false)" if term.optional else text
        case Kind.NUMBER:
            made = f"(({text} ?: 0) != 0)" if term.optional else f"({text} != 0)"
        case Kind.STRING:
            made = f'(size({text} ?: "") > 0)' if term.optional else f"(size({text}) > 0)"
        case Kind.NONE:
            made = "false"
        case Kind.ANY:
            made = f"(isString({text}) ? size({text}) > 0 : ({text} ?: 0) != 0)"
    return Term(made, Kind.BOOL, term.fails, absorbs=term.absorbs)


def negated(term: Term) -> Term:
    """``not`` of it."""
    return Term(f"!{truth(term).text}", Kind.BOOL, term.fails)


def conjunction(first: Term, second: Term) -> Term:
    """``first and second``, of which only the truth counts."""
    a, b = truth(first), truth(second)
    fails = any_of(a.fails, both(a.text, b.fails))
    return Term(f"({a.text} && {b.text})", Kind.BOOL, fails, absorbs=a.safe and b.safe)


def disjunction(first: Term, second: Term) -> Term:
    """``first or second``, of which only the truth counts."""
    a, b = truth(first), truth(second)
    fails = any_of(a.fails, both(f"!{a.text}", b.fails))
    return Term(f"({a.text} || {b.text})", Kind.BOOL, fails, absorbs=not a.fails and b.safe)


def choice(condition: Term, yes: Term, no: Term) -> Term:
    """``yes if condition else no``. Raises ``NotConvertibleError``."""
    test = truth(condition)
    kind = yes.kind if yes.kind is no.kind else Kind.ANY
    optional = yes.optional or no.optional or Kind.NONE in (yes.kind, no.kind)
    if kind is Kind.ANY and Kind.NONE in (yes.kind, no.kind):
        kind = no.kind if yes.kind is Kind.NONE else yes.kind
    fails = any_of(test.fails, both(test.text, yes.fails), both(f"!{test.text}", no.fails))
    return Term(f"({test.text} ? {yes.text} : {no.text})", kind, fails, optional)


def equal(a: Term, b: Term) -> Term:
    """``a == b``."""
    fails = any_of(a.fails, b.fails)
    made = replace(_equal(a, b), fails=fails)
    # Two attributes that are both missing are the same to a ClassAd: then the text is true where Python fails.
    compared = (a.literal or b.literal) and Kind.NONE not in (a.kind, b.kind)
    return replace(made, absorbs=compared and a.safe and b.safe)


def _equal(a: Term, b: Term) -> Term:
    kinds = {a.kind, b.kind}
    if Kind.NONE in kinds:
        other = b if a.kind is Kind.NONE else a
        possible = other.optional or other.kind in (Kind.NONE, Kind.ANY)
        return Term(f"isUndefined({other.text})" if possible else "false", Kind.BOOL)
    if kinds == {Kind.STRING}:
        return Term(f"({a.text} =?= {b.text})", Kind.BOOL)
    if Kind.STRING in kinds and Kind.ANY not in kinds:
        return Term("false", Kind.BOOL)
    if Kind.STRING in kinds:
        return Term(f"({a.text} =?= {b.text})", Kind.BOOL)
    numbers = f"(({a.text} == {b.text}) =?= true)"
    if kinds == {Kind.ANY}:
        numbers = f"((isString({a.text}) || isString({b.text})) ? {a.text} =?= {b.text} : {numbers})"
    if a.optional and b.optional:
        numbers = f"(isUndefined({a.text}) ? isUndefined({b.text}) : {numbers})"
    return Term(numbers, Kind.BOOL)


ORDERS = ("<", "<=", ">", ">=")


def ordered(sign: str, a: Term, b: Term) -> Term:
    """``a < b`` and its like. Raises ``NotConvertibleError``."""
    kinds = {a.kind, b.kind}
    if Kind.NONE in kinds or (Kind.STRING in kinds and kinds & {Kind.NUMBER, Kind.BOOL}):
        raise NotConvertibleError(f"{a.kind.value} and {b.kind.value} compared by {sign}, which always fails")
    missing = [f"isUndefined({term.text})" for term in (a, b) if term.optional]
    if Kind.STRING in kinds:
        wrong = [f"!isString({term.text})" for term in (a, b) if term.kind is Kind.ANY]
        return Term(f"(strcmp({a.text}, {b.text}) {sign} 0)", Kind.BOOL, any_of(a.fails, b.fails, *missing, *wrong))
    if kinds == {Kind.ANY}:
        one = f"(isString({a.text}) =!= isString({b.text}))"
        text = f"(isString({a.text}) ? strcmp({a.text}, {b.text}) {sign} 0 : {a.text} {sign} {b.text})"
        return Term(text, Kind.BOOL, any_of(a.fails, b.fails, *missing, one))
    wrong = [f"isString({term.text})" for term in (a, b) if term.kind is Kind.ANY]
    fails = any_of(a.fails, b.fails, *missing, *wrong)
    return Term(f"({a.text} {sign} {b.text})", Kind.BOOL, fails, absorbs=a.safe and b.safe)


def number(term: Term, what: str) -> Term:
    """A term that is used as a number. Raises ``NotConvertibleError``."""
    if term.kind is Kind.BOOL:
        missing = f"isUndefined({term.text})" if term.optional else ""
        return Term(f"({term.text} ? 1 : 0)", Kind.NUMBER, any_of(term.fails, missing))
    if term.kind is Kind.NUMBER:
        missing = f"isUndefined({term.text})" if term.optional else ""
        return replace(term, fails=any_of(term.fails, missing), optional=False)
    raise NotConvertibleError(f"{what} of {term.kind.value}; say its type in match_attrs")


def string(term: Term, what: str) -> Term:
    """A term that is used as a string. Raises ``NotConvertibleError``."""
    if term.kind is Kind.ANY or (term.kind is Kind.STRING and term.optional):
        wrong = f"!isString({term.text})"
        return replace(term, kind=Kind.STRING, fails=any_of(term.fails, wrong), optional=False)
    if term.kind is not Kind.STRING:
        raise NotConvertibleError(f"{what} of {term.kind.value}")
    return term
