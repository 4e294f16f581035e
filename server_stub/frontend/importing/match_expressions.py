"""Match expressions of GlideinWMS, Python over ``job``, ``glidein`` and ``attr_dict``, as ClassAd expressions.

The text is parsed and each node of a few kinds translated; nothing is ever evaluated. What has no exact counterpart is
refused with its place. An entry's attributes become MY's and a job's TARGET's, as a frontend's policy has them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from server_stub.frontend.importing import terms
from server_stub.frontend.importing.functions import FUNCTIONS, SPACES, one_of
from server_stub.frontend.importing.terms import Kind, NotConvertibleError, Term

MOST_CHARACTERS = 8192
ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
ORDERS: Mapping[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
SIGNS: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
KINDS = {"string": Kind.STRING, "int": Kind.NUMBER, "real": Kind.NUMBER, "bool": Kind.BOOL}


@dataclass(frozen=True, slots=True)
class Names:
    """What the configuration says of attributes: their types (``string``, ``int``, ``real``, ``bool``; others are not
    known) by the names in its match_attrs, and the values of ``attr_dict``."""

    job: Mapping[str, str] = field(default_factory=dict)
    entry: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def convert_match(text: str, names: Names) -> str:
    """The ClassAd expression that is true for the ads for which Python's is. Raises ``NotConvertibleError``, whose
    message begins with the place."""
    if len(text) > MOST_CHARACTERS:
        raise NotConvertibleError(f"it is longer than {MOST_CHARACTERS} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotConvertibleError(f"it is no Python expression: {str(error).splitlines()[0]}") from error
    try:
        found = terms.truth(Converter(names).convert(tree.body))
    except RecursionError as error:
        raise NotConvertibleError("it is nested too deeply") from error
    made = found.text if found.safe else f"!{found.fails} && {found.text}"
    if len(made) > MOST_CHARACTERS:
        raise NotConvertibleError(f"it becomes longer than {MOST_CHARACTERS} characters")
    return _without_outer(made)


def _without_outer(text: str) -> str:
    """Without parentheses around all of it."""
    if not text.startswith("(") or not text.endswith(")"):
        return text
    depth, inside = 0, False
    for place, sign in enumerate(text):
        if sign == '"' and text[place - 1] != "\\":
            inside = not inside
        if not inside:
            depth += (sign == "(") - (sign == ")")
            if depth == 0 and place < len(text) - 1:
                return text
    return text[1:-1]


@dataclass(frozen=True, slots=True)
class Converter:
    """Translates nodes of Python's syntax tree; each method raises ``NotConvertibleError``."""

    names: Names

    def convert(self, node: ast.expr) -> Term:
        """Any expression of the kinds that are known."""
        translate = TRANSLATIONS.get(type(node))
        if translate is None:
            raise _refused(node, f"{type(node).__name__} has no counterpart")
        try:
            return translate(self, node)
        except NotConvertibleError as error:
            if str(error).startswith("character "):
                raise
            raise _refused(node, str(error)) from error

    def constant(self, node: ast.Constant) -> Term:
        """A literal."""
        return terms.constant(node.value)

    def boolean(self, node: ast.BoolOp) -> Term:
        """``and``, ``or``; as values where the operands are not true or false."""
        found = [self.convert(value) for value in node.values]
        whole = found[0]
        for term in found[1:]:
            if {whole.kind, term.kind} == {Kind.BOOL} and not (whole.optional or term.optional):
                join = terms.conjunction if isinstance(node.op, ast.And) else terms.disjunction
                whole = join(whole, term)
            elif isinstance(node.op, ast.And):
                whole = _same_fails(terms.choice(whole, term, replace(whole, fails="")), whole, term, "")
            else:
                whole = _same_fails(terms.choice(whole, replace(whole, fails=""), term), whole, term, "!")
        return whole

    def unary(self, node: ast.UnaryOp) -> Term:
        """``not``, and the sign of a number."""
        inner = self.convert(node.operand)
        if isinstance(node.op, ast.Not):
            return terms.negated(inner)
        if isinstance(node.op, ast.USub):
            value = terms.number(inner, "the negative")
            return Term(f"(-{value.text})", Kind.NUMBER, value.fails)
        raise NotConvertibleError(f"the operator {type(node.op).__name__}")

    def choice(self, node: ast.IfExp) -> Term:
        """``a if c else b``."""
        return terms.choice(self.convert(node.test), self.convert(node.body), self.convert(node.orelse))

    def arithmetic(self, node: ast.BinOp) -> Term:
        """Numbers added, subtracted, multiplied and divided; strings put together."""
        a, b = self.convert(node.left), self.convert(node.right)
        if isinstance(node.op, ast.Add) and Kind.STRING in (a.kind, b.kind):
            a, b = terms.string(a, "the sum"), terms.string(b, "the sum")
            return Term(f"strcat({a.text}, {b.text})", Kind.STRING, terms.any_of(a.fails, b.fails))
        if not isinstance(node.op, (ast.Div, *SIGNS)):
            raise NotConvertibleError(f"the operator {type(node.op).__name__}")
        a, b = terms.number(a, "a calculation"), terms.number(b, "a calculation")
        fails = terms.any_of(a.fails, b.fails)
        if isinstance(node.op, ast.Div):
            return Term(f"(real({a.text}) / {b.text})", Kind.NUMBER, terms.any_of(fails, f"({b.text} == 0)"))
        return Term(f"({a.text} {SIGNS[type(node.op)]} {b.text})", Kind.NUMBER, fails)

    def comparison(self, node: ast.Compare) -> Term:
        """Comparisons, chained ones too."""
        whole: Term | None = None
        left = node.left
        for sign, right in zip(node.ops, node.comparators, strict=True):
            one = self._compared(left, sign, right)
            whole = one if whole is None else terms.conjunction(whole, one)
            left = right
        assert whole is not None
        return whole

    def _compared(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Term:
        if isinstance(sign, ast.In | ast.NotIn):
            found = self._member(left, right)
            return terms.negated(found) if isinstance(sign, ast.NotIn) else found
        a, b = self.convert(left), self.convert(right)
        if isinstance(sign, ast.Is | ast.IsNot) and Kind.NONE not in (a.kind, b.kind):
            raise NotConvertibleError("`is` with something else than None")
        if isinstance(sign, ast.Eq | ast.Is):
            return terms.equal(a, b)
        if isinstance(sign, ast.NotEq | ast.IsNot):
            return terms.negated(terms.equal(a, b))
        return terms.ordered(ORDERS[type(sign)], a, b)

    def _member(self, left: ast.expr, right: ast.expr) -> Term:
        """``a in b``: a name in an ad, one of a list, one of a divided string, a part of a string."""
        side = _side(right)
        if side is not None:
            return self._present(side, _name(left))
        one = self.convert(left)
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            found = [terms.equal(one, self.convert(value)) for value in right.elts]
            text = " || ".join(term.text for term in found) or "false"
            fails = terms.any_of(one.fails, *(term.fails for term in found))
            return Term(f"({text})", Kind.BOOL, fails, absorbs=all(term.safe for term in found))
        parts = self._divided(right)
        if parts is not None:
            return one_of(one, *parts)
        whole = terms.string(self.convert(right), "a part")
        one = terms.string(one, "a part")
        if "\\E" in str(one.constant):
            raise NotConvertibleError("a string with \\E")
        text = f'regexp(strcat("\\\\Q", {one.text}, "\\\\E"), {whole.text})'
        return Term(text, Kind.BOOL, terms.any_of(one.fails, whole.fails))

    def _divided(self, node: ast.expr) -> tuple[Term, str] | None:
        """The string and the separator of ``string.split(separator)``."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "split":
            return None
        whole = terms.string(self.convert(node.func.value), "split()")
        if node.keywords or len(node.args) > 1:
            raise NotConvertibleError("split() with more than a separator")
        if not node.args:
            return whole, SPACES
        separator = _name(node.args[0])
        if len(separator) != 1:
            raise NotConvertibleError("split() by more than one character")
        return whole, separator

    def subscript(self, node: ast.Subscript) -> Term:
        """``job["A"]``, ``glidein["attrs"]["A"]``, ``attr_dict["A"]``."""
        side = _side(node.value)
        if side is None:
            raise NotConvertibleError(f"{ast.unparse(node)}: neither job, glidein['attrs'] nor attr_dict")
        name = _name(node.slice)
        if side == "attr_dict":
            if name not in self.names.constants:
                raise NotConvertibleError(f"attr_dict has no {name!r}")
            return terms.constant(self.names.constants[name])
        term = self._attribute(side, name)
        return replace(term, fails=f"isUndefined({term.text})", absorbs=True)

    def _attribute(self, side: str, name: str) -> Term:
        if not ATTRIBUTE.fullmatch(name):
            raise NotConvertibleError(f"{name!r} is no name of an attribute")
        types = self.names.job if side == "job" else self.names.entry
        scope = "TARGET" if side == "job" else "MY"
        return Term(f"{scope}.{name}", KINDS.get(types.get(name, ""), Kind.ANY))

    def _present(self, side: str, name: str) -> Term:
        if side == "attr_dict":
            return terms.constant(name in self.names.constants)
        return Term(f"(!isUndefined({self._attribute(side, name).text}))", Kind.BOOL, absorbs=True)

    def call(self, node: ast.Call) -> Term:
        """``get`` and ``has_key`` of an ad, methods of strings, ``len``, ``int``, ``float``."""
        if node.keywords:
            raise NotConvertibleError("arguments by name")
        if isinstance(node.func, ast.Attribute):
            side = _side(node.func.value)
            if side is not None:
                return self._asked(side, node.func.attr, node.args)
            return self._method(node.func.attr, self.convert(node.func.value), [self.convert(one) for one in node.args])
        if isinstance(node.func, ast.Name) and len(node.args) == 1 and node.func.id in FUNCTIONS:
            return FUNCTIONS[node.func.id](self.convert(node.args[0]))
        raise NotConvertibleError(f"the call of {ast.unparse(node.func)}")

    def _asked(self, side: str, method: str, arguments: list[ast.expr]) -> Term:
        if method == "has_key" and len(arguments) == 1:
            return self._present(side, _name(arguments[0]))
        if method != "get" or not 1 <= len(arguments) <= 2:
            raise NotConvertibleError(f"the method {method} of {side}")
        name = _name(arguments[0])
        default = self.convert(arguments[1]) if len(arguments) == 2 else terms.constant(None)
        if side == "attr_dict":
            constants = self.names.constants
            return terms.constant(constants[name]) if name in constants else default
        term = self._attribute(side, name)
        if default.kind is Kind.NONE:
            return replace(term, optional=True)
        kind = term.kind if term.kind is default.kind else Kind.ANY
        return Term(f"({term.text} ?: {default.text})", kind, default.fails, default.optional)

    def _method(self, name: str, term: Term, arguments: list[Term]) -> Term:
        text = terms.string(term, f"{name}()")
        if name in ("lower", "upper") and not arguments:
            return Term(f"{'toLower' if name == 'lower' else 'toUpper'}({text.text})", Kind.STRING, text.fails)
        if name in ("startswith", "endswith") and len(arguments) == 1:
            part = terms.string(arguments[0], f"{name}()")
            fails = terms.any_of(text.fails, part.fails)
            if part.constant == "":
                return Term("true", Kind.BOOL, fails)
            place = f"0, size({part.text})" if name == "startswith" else f"-size({part.text})"
            found = f"(substr({text.text}, {place}) =?= {part.text})"
            if part.constant is None:
                found = f"(size({part.text}) == 0 || {found})"
            return Term(found, Kind.BOOL, fails)
        raise NotConvertibleError(f"the method {name}()")


def _same_fails(chosen: Term, first: Term, second: Term, sign: str) -> Term:
    """``and`` and ``or`` look at their first operand once: it fails, or the second does where it is reached."""
    reached = f"{sign}{terms.truth(first).text}"
    return replace(chosen, fails=terms.any_of(first.fails, terms.both(reached, second.fails)))


def _side(node: ast.expr) -> str | None:
    """``job``, ``entry`` or ``attr_dict`` where the node is one of them."""
    if isinstance(node, ast.Name) and node.id in ("job", "attr_dict"):
        return node.id
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "glidein":
        part = node.slice.value if isinstance(node.slice, ast.Constant) else None
        return "entry" if part == "attrs" else None
    return None


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise NotConvertibleError(f"{ast.unparse(node)} where a name in quotes is needed")


def _refused(node: ast.expr, what: str) -> NotConvertibleError:
    return NotConvertibleError(f"character {node.col_offset + 1}: {what}")


TRANSLATIONS: Mapping[type[ast.expr], Callable[[Converter, Any], Term]] = {
    ast.Constant: Converter.constant,
    ast.BoolOp: Converter.boolean,
    ast.UnaryOp: Converter.unary,
    ast.IfExp: Converter.choice,
    ast.BinOp: Converter.arithmetic,
    ast.Compare: Converter.comparison,
    ast.Subscript: Converter.subscript,
    ast.Call: Converter.call,
}
"""Each is called with a node of its own type alone."""
