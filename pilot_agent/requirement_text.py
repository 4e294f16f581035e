"""What an entry or a VO demands of a node, as one line of text: ``cpu.usable >= 4``.

::

    requirement = ["not"] path [operator value | "contains" value | "in" "[" value {"," value} "]"]
    path        = name {"." name | "[*]" | "[" number "]"}
    operator    = "==" | "!=" | ">=" | "<=" | ">" | "<"
    value       = number | true | false | word | "text" | 'text'

A path is a fact's name, with or without ``node.`` before it, and what follows it inside the fact's value. A path alone
asks whether the value is there and neither false, zero nor empty. ``[*]`` means every element of a list that has some.
Versions compare number by number, so ``2.9`` is before ``2.34`` and ``x86_64-v2`` before ``x86_64-v3``.
``contains`` asks whether a list has an element.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pilot_agent.model import Failure, FailureKind, PilotError

Level = Literal["required", "preferred", "reported"]
Step = str | int
"""A name, an index, or ``*`` for every element."""

Operator = Literal["==", "!=", ">=", "<=", ">", "<", "in", "contains", "exists"]

LEVELS: tuple[Level, ...] = ("required", "preferred", "reported")
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
            raise self._error("the end" if values else "an operator (== != >= <= > < in contains) or the end")
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
        if self._peek("word", "contains"):
            self.at += 1
            return "contains", (self._value(),)
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
