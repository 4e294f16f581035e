"""Functions of Python that match expressions call, as ClassAd expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from server_stub.frontend.importing import terms
from server_stub.frontend.importing.terms import Kind, NotConvertibleError, Term

INTEGER = r"^\\s*[-+]?[0-9]{1,15}\\s*$"
REAL = r"^\\s*[-+]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][-+]?[0-9]{1,2})?\\s*$"
SPACES = "whitespace"


def one_of(one: Term, whole: Term, separator: str) -> Term:
    """A name in a list within a string."""
    if one.kind not in (Kind.STRING, Kind.ANY):
        raise NotConvertibleError(f"{one.kind.value} among parts of a string")
    sign = " \\t" if separator == SPACES else separator
    text = f'(isString({one.text}) && stringListMember({one.text}, {whole.text}, "{sign}"))'
    return Term(text, Kind.BOOL, terms.any_of(one.fails, whole.fails), absorbs=one.safe and whole.safe)


def _length(term: Term) -> Term:
    text = terms.string(term, "len()")
    return Term(f"size({text.text})", Kind.NUMBER, text.fails)


def _whole(term: Term) -> Term:
    if term.kind is Kind.STRING:
        text = terms.string(term, "int()")
        wrong = f'!regexp("{INTEGER}", {text.text})'
        return Term(f"int({text.text})", Kind.NUMBER, terms.any_of(text.fails, wrong))
    value = terms.number(term, "int()")
    return Term(f"int({value.text})", Kind.NUMBER, value.fails)


def _real(term: Term) -> Term:
    if term.kind is Kind.STRING:
        text = terms.string(term, "float()")
        wrong = f'!regexp("{REAL}", {text.text})'
        return Term(f"real({text.text})", Kind.NUMBER, terms.any_of(text.fails, wrong))
    value = terms.number(term, "float()")
    return Term(f"real({value.text})", Kind.NUMBER, value.fails)


FUNCTIONS: Mapping[str, Callable[[Term], Term]] = {
    "len": _length,
    "int": _whole,
    "float": _real,
    "bool": terms.truth,
}
