"""What an entry or a VO demands of a node, as one line of text: ``cpu.usable >= 4``.

::

    requirement = ["not"] path [operator value | "in" "[" value {"," value} "]"]
    path        = name {"." name | "[*]" | "[" number "]"}
    operator    = "==" | "!=" | ">=" | "<=" | ">" | "<"
    value       = number | true | false | word | "text" | 'text'

A path is a fact's name, with or without ``node.`` before it, and what follows it inside the fact's value. A path alone
asks whether the value is there and neither false, zero nor empty. ``[*]`` means every element of a list that has some.
Versions compare number by number, so ``2.9`` is before ``2.34`` and ``x86_64-v2`` before ``x86_64-v3``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pilot_agent.model import CheckResult, CheckStatus, Fact, FactStatus, Failure, FailureKind, Json, PilotError

Level = Literal["required", "preferred", "reported"]
Step = str | int
"""A name, an index, or ``*`` for every element."""

Operator = Literal["==", "!=", ">=", "<=", ">", "<", "in", "exists"]

_UNMET: dict[str, CheckStatus] = {
    "required": CheckStatus.FAIL,
    "preferred": CheckStatus.WARN,
    "reported": CheckStatus.SKIP,
}
LEVELS = tuple(_UNMET)
"""How much a requirement counts, the first the default."""
REQUIRED = LEVELS[0]
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"[^"]*"|'[^']*')
      | (?P<operator>==|!=|>=|<=|>|<)
      | (?P<mark>[\[\],*])
      | (?P<word>[^\s\[\],*<>=!"']+)
    )""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_VERSION_PART = re.compile(r"[0-9]+|[^0-9]+")
_DIGITS = re.compile(r"[0-9]+")
LONGEST_TEXT = 1000


class RequirementError(PilotError):
    """A text that is no requirement; ``position`` counts its characters from 0."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.position = position
        message = f"requirement {text!r}: expected {expected} at position {position}"
        hint = "a requirement looks like: cpu.usable >= 4, os.id in [debian, rocky], not fuse.usable"
        super().__init__(Failure(FailureKind.CONFIG, "requirement.syntax", message, hint))


@dataclass(frozen=True, slots=True)
class Requirement:
    """A parsed requirement; ``values`` has one value, several for ``in``, none for ``exists``."""

    text: str
    path: str
    steps: tuple[Step, ...]
    operator: Operator
    values: tuple[str | float | bool, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def parse(text: str) -> Requirement:
    """The requirement of one line. Raises ``RequirementError``."""
    if len(text) > LONGEST_TEXT:
        raise RequirementError(text[:50] + "...", LONGEST_TEXT, "the end")
    return _Parser(text).requirement()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._split()
        self.at = 0

    def requirement(self) -> Requirement:
        negated = self._peek("word", "not")
        self.at += negated
        start = self._position()
        steps = self._path()
        path = self.text[start : self._end_of_last()].strip().removeprefix("node.")
        operator, values = self._condition()
        if self.at < len(self.tokens):
            raise self._error("the end" if values else "an operator (== != >= <= > < in) or the end")
        return Requirement(self.text.strip(), path, steps, operator, values, negated)

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while self.text[position:].strip():
            match = _TOKEN.match(self.text, position)
            if match is None or match.lastgroup is None:
                blank = len(self.text[position:]) - len(self.text[position:].lstrip())
                raise RequirementError(self.text, position + blank, "a name, an operator or a value")
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            position = match.end()
        return tokens

    def _path(self) -> tuple[Step, ...]:
        steps: list[Step] = list(self._names(self._take("word", "the name of a fact, such as cpu.usable")))
        while self._peek("mark", "["):
            self.at += 1
            if self._peek("mark", "*"):
                steps.append("*")
                self.at += 1
            else:
                index = self._take("word", "* or a number")
                if not index.text.isascii() or not index.text.isdigit():
                    raise RequirementError(self.text, index.position, "* or a number")
                steps.append(int(index.text))
            closing = self._take("mark", "]", exactly="]")
            if self._adjacent_word(closing):
                token = self.tokens[self.at]
                self.at += 1
                steps += self._names(_Token("word", token.text[1:], token.position + 1))
        return tuple(steps[1:] if steps[0] == "node" and len(steps) > 1 else steps)

    def _adjacent_word(self, closing: _Token) -> bool:
        following = self.tokens[self.at] if self.at < len(self.tokens) else None
        return (
            following is not None
            and following.kind == "word"
            and following.position == closing.position + 1
            and following.text.startswith(".")
        )

    def _names(self, token: _Token) -> list[str]:
        position = token.position
        names = token.text.split(".")
        for name in names:
            if not _NAME.fullmatch(name):
                raise RequirementError(self.text, position, "a name")
            position += len(name) + 1
        return names

    def _condition(self) -> tuple[Operator, tuple[str | float | bool, ...]]:
        if self._peek("operator"):
            operator = self.tokens[self.at].text
            self.at += 1
            value = self._value()
            return operator, (value,)  # type: ignore[return-value]  # the tokens' pattern has these operators only
        if self._peek("word", "in"):
            self.at += 1
            self._take("mark", "[", exactly="[")
            values = [self._value()]
            while self._peek("mark", ","):
                self.at += 1
                values.append(self._value())
            self._take("mark", "] or a comma", exactly="]")
            return "in", tuple(values)
        return "exists", ()

    def _value(self) -> str | float | bool:
        if self._peek("text"):
            self.at += 1
            return self.tokens[self.at - 1].text[1:-1]
        word = self._take("word", "a value").text
        if word in ("true", "false"):
            return word == "true"
        # A version such as 1.10 must keep its last digit, so a number stays text until it is compared.
        return word

    def _peek(self, kind: str, text: str | None = None) -> bool:
        if self.at >= len(self.tokens):
            return False
        token = self.tokens[self.at]
        return token.kind == kind and (text is None or token.text == text)

    def _take(self, kind: str, expected: str, *, exactly: str | None = None) -> _Token:
        if not self._peek(kind, exactly):
            raise self._error(expected)
        self.at += 1
        return self.tokens[self.at - 1]

    def _position(self) -> int:
        return self.tokens[self.at].position if self.at < len(self.tokens) else len(self.text)

    def _end_of_last(self) -> int:
        token = self.tokens[self.at - 1]
        return token.position + len(token.text)

    def _error(self, expected: str) -> RequirementError:
        return RequirementError(self.text, self._position(), expected)


def evaluate(requirement: Requirement, facts: Mapping[str, Fact], level: str = "required") -> CheckResult:
    """The verdict over these facts. What is not met, or not known, fails a required one, warns for a preferred one
    and is only told for a reported one.

    Raises ``PilotError`` (requirement.level) for another level.
    """
    if level not in _UNMET:
        message = f"requirement {requirement.text!r}: level {level!r} is none of {', '.join(_UNMET)}"
        raise PilotError(Failure(FailureKind.CONFIG, "requirement.level", message, "correct the level"))
    fact, rest = _find(requirement.steps, facts)
    if fact is None or fact.status is FactStatus.UNKNOWN:
        why = fact.detail if fact else "no probe gives it"
        return _result(requirement, level, None, f"{requirement.path} is not known: {why}")
    try:
        holds, found = _holds(requirement, fact, rest)
    except LookupError as error:
        return _result(requirement, level, None, f"{requirement.path} is not known: {error.args[0]}")
    unit = f" {fact.unit}" if fact.unit and not rest else ""
    met = holds is not requirement.negated
    return _result(requirement, level, met, f"found {requirement.path} {found}{unit}, needed {requirement.text}")


def _result(requirement: Requirement, level: str, met: bool | None, message: str) -> CheckResult:
    if met:
        return CheckResult(requirement.text, CheckStatus.PASS, message)
    if met is None:
        message += f"; needed {requirement.text}"
    hint = f"the site offers it, or whoever requires {requirement.path} (factory entry or VO) asks for less"
    code = f"requirement.{requirement.path}"
    return CheckResult(requirement.text, _UNMET[level], message, hint, kind=FailureKind.NODE_RESOURCE, code=code)


def _find(steps: tuple[Step, ...], facts: Mapping[str, Fact]) -> tuple[Fact | None, tuple[Step, ...]]:
    """The fact with the longest name that the path begins with, and the rest of the path."""
    names = next((index for index, step in enumerate(steps) if step == "*" or isinstance(step, int)), len(steps))
    for length in range(names, 0, -1):
        fact = facts.get(".".join(str(step) for step in steps[:length]))
        if fact is not None:
            return fact, steps[length:]
    return None, ()


def _holds(requirement: Requirement, fact: Fact, rest: tuple[Step, ...]) -> tuple[bool, str]:
    """Whether the condition holds, and what was found. Raises ``LookupError`` when the value has no such part, or it
    cannot be compared."""
    if fact.status is FactStatus.ABSENT:
        return False, f"absent ({fact.detail})"
    values = _select(fact.value, rest)
    shown = ", ".join(_shown(value) for value in values) if "*" in rest else _shown(values[0])
    if "*" in rest and not values:
        return False, "no element"
    return all(_compare(requirement, value) for value in values), shown


def _select(value: Json, steps: tuple[Step, ...]) -> list[Json]:
    if not steps:
        return [value]
    step, rest = steps[0], steps[1:]
    if step == "*":
        if not isinstance(value, list):
            raise LookupError(f"it is no list but {_shown(value)}")
        return [selected for item in value for selected in _select(item, rest)]
    if isinstance(step, int):
        if not isinstance(value, list) or step >= len(value):
            raise LookupError(f"it has no element {step}")
        return _select(value[step], rest)
    if not isinstance(value, dict) or step not in value:
        raise LookupError(f"it has no part {step!r}")
    return _select(value[step], rest)


def _compare(requirement: Requirement, found: Json) -> bool:
    operator, values = requirement.operator, requirement.values
    if operator == "exists":
        return bool(found)
    if operator == "in":
        return any(_order(found, value) == 0 for value in values)
    if operator in ("==", "!="):
        return (_order(found, values[0]) == 0) is (operator == "==")
    order = _order(found, values[0])
    if order is None:
        raise LookupError(f"{_shown(found)} and {values[0]} cannot be put in order")
    return {">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0}[operator]


def _order(found: Json, value: str | float | bool) -> int | None:
    """-1, 0 or 1 for found before, equal to or after the value; None when they have no order and are not equal."""
    if isinstance(found, bool) or isinstance(value, bool):
        return 0 if found is value else None
    if isinstance(found, int | float):
        if not _NUMBER.fullmatch(str(value)):
            return None
        number = float(value)
        return (found > number) - (found < number)
    if not isinstance(found, str):
        return None
    found, text = _spelt(found), _spelt(str(value))
    if found == text:
        return 0
    left, right = _VERSION_PART.findall(found), _VERSION_PART.findall(text)
    if not any(_DIGITS.fullmatch(part) for part in (*left, *right)):
        return None
    return _version_order(left, right)


def _version_order(left: list[str], right: list[str]) -> int | None:
    """Numbers by size, the text between them must be the same; a longer version comes after its beginning."""
    for ours, theirs in zip(left, right, strict=False):
        if _DIGITS.fullmatch(ours) and _DIGITS.fullmatch(theirs):
            # By length first: a number of thousands of digits is not for int().
            sizes = [(len(part.lstrip("0")), part.lstrip("0")) for part in (ours, theirs)]
            if sizes[0] != sizes[1]:
                return -1 if sizes[0] < sizes[1] else 1
        elif ours != theirs:
            return None
    return (len(left) > len(right)) - (len(left) < len(right))


def _spelt(text: str) -> str:
    """CPU levels are written x86_64-v3 by some and x86-64-v3 by others."""
    return text.replace("x86_64", "x86-64") if text.startswith("x86_64") else text


def _shown(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)[:200]
