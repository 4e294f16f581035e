"""Reading what people wrote key by key: each problem is noted under its path, and a harmless value given instead."""

from __future__ import annotations

import datetime as dt
import difflib
import os
import re
from collections.abc import Mapping

from pilot_agent.config_check import Problem, validate
from pilot_agent.model import Json

# Names become parts of paths, of ClassAd strings and of a submit description: nothing that any of them could misread.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# What a line of a submit description may hold beside its end: no macro, no quote, no start of another value.
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+=,-]{0,254}")
MACRO = re.compile(r"\$[A-Za-z_]*\(")


class Reader:
    """Reads the keys of one mapping, and notes what is wrong under the key's path."""

    def __init__(self, document: Mapping[str, Json], prefix: str, directory: str, problems: list[Problem]) -> None:
        self._document = document
        self._prefix = prefix
        self._directory = directory
        self._problems = problems
        self._asked: list[str] = []

    def text(self, key: str, pattern: re.Pattern[str] | None = None, *, default: str | None = None) -> str:
        """A string that fits the pattern; ``default`` where there is none, which is wrong without one."""
        value = self._take(key)
        if value is None:
            if default is None:
                self._note(key, "missing")
            return default or ""
        if not isinstance(value, str):
            return self._note(key, f"expected a string, found {value!r}")
        if pattern is not None and not pattern.fullmatch(value):
            return self._note(key, f"{value!r} does not fit {pattern.pattern}")
        return value

    def name(self, key: str) -> str:
        """A name that every place takes."""
        return self.text(key, NAME)

    def path(self, key: str, *, default: str | None = None) -> str:
        """A path; a relative one starts at the directory of the file."""
        value = self.text(key, default=default)
        return os.path.normpath(os.path.join(self._directory, value)) if value else ""

    def expression(self, key: str, *, default: str) -> str:
        """A ClassAd expression. The submit language would end it at a line's end, join the next line to a backslash at
        its end, and expand ``$(...)`` and the like of ``$ENV(...)`` in it."""
        value = self.text(key, default=default)
        if any(character in value for character in "\n\r\0") or value.rstrip().endswith("\\") or MACRO.search(value):
            return self._note(key, "an expression is one line and has no $(...) in it")
        return value

    def choice(self, key: str, choices: tuple[str, ...], *, default: str | None = None) -> str:
        """One of these words."""
        value = self.text(key, default=default)
        if value and value not in choices:
            near = difflib.get_close_matches(value, choices, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            self._note(key, f"{value!r} is none of {', '.join(choices)}{meant}")
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self._note(key, f"expected true or false, found {value!r}")
        return default

    def integer(self, key: str, *, default: int, minimum: int, maximum: int | None = None) -> int:
        """An integer within bounds."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self._note(key, f"expected an integer, found {value!r}")
        elif value < minimum or (maximum is not None and value > maximum):
            self._note(key, f"{value} is not in {minimum}..{'' if maximum is None else maximum}")
        else:
            return value
        return default

    def number(self, key: str, *, default: float, minimum: float, maximum: float | None = None) -> float:
        """A number within bounds."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool):
            self._note(key, f"expected a number, found {value!r}")
        elif not minimum <= value <= (float("inf") if maximum is None else maximum):
            self._note(key, f"{value} is not in {minimum:g}..{'' if maximum is None else format(maximum, 'g')}")
        else:
            return float(value)
        return default

    def quantity(self, key: str, *, default: int | None, maximum: int = 10**9) -> int | None:
        """A positive integer; None for ``auto``: whoever provides it decides."""
        if self._document.get(key) == "auto":
            self._asked.append(key)
            return None
        if default is None and self._document.get(key) is None:
            self._asked.append(key)
            return None
        return self.integer(key, default=default or 1, minimum=1, maximum=maximum)

    def words(self, key: str, pattern: re.Pattern[str] = NAME) -> tuple[str, ...]:
        """A list of strings that fit the pattern."""
        found = []
        for index, value in enumerate(self._list(key)):
            if isinstance(value, str) and pattern.fullmatch(value):
                found.append(value)
            else:
                self._note(f"{key}[{index}]", f"{value!r} does not fit {pattern.pattern}")
        return tuple(found)

    def integers(self, key: str, *, default: tuple[int, ...], maximum: int) -> tuple[int, ...]:
        """A list of integers from 0; ``default`` where there is none."""
        if self._document.get(key) is None:
            self._asked.append(key)
            return default
        found = []
        for index, value in enumerate(self._list(key)):
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= maximum:
                found.append(value)
            else:
                self._note(f"{key}[{index}]", f"expected an integer in 0..{maximum}, found {value!r}")
        return tuple(found)

    def numbers(self, key: str) -> dict[str, int]:
        """A mapping from names to integers that are not negative."""
        value = self._take(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._note(key, f"expected a mapping, found {value!r}")
            return {}
        below = Reader(value, f"{self._prefix}{key}.", self._directory, self._problems)
        return {str(name): below.integer(name, default=0, minimum=0) for name in value}

    def named(self, key: str) -> dict[str, Reader]:
        """Readers of the mappings in a mapping, by name."""
        readers = {}
        for name, below in self._mapping(key).items():
            if isinstance(below, Mapping):
                readers[str(name)] = Reader(below, f"{self._prefix}{key}.{name}.", self._directory, self._problems)
            else:
                self._note(f"{key}.{name}", f"expected a mapping, found {below!r}")
        return readers

    def texts(self, key: str) -> dict[str, str]:
        """A mapping from names to strings; numbers and truth values are written as HTCondor writes them."""
        found = {}
        for name, value in self._mapping(key).items():
            if isinstance(value, str | int | float):
                found[str(name)] = str(value)
            else:
                self._note(f"{key}.{name}", f"expected a string, found {value!r}")
        return found

    def moment(self, key: str) -> float:
        """A moment as YYYY-MM-DDTHH:MM[:SS] with its zone (``Z`` or an offset), as epoch seconds."""
        value = self._take(key)
        if isinstance(value, dt.datetime):  # YAML reads it so
            value = value.isoformat()
        try:
            found = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            self._note(key, f"expected a moment with its zone, as 2026-01-31T08:00:00Z, found {value!r}")
            return 0.0
        return found.timestamp()

    def below(self, key: str) -> Reader:
        """A reader of the mapping under a key; of an empty one where there is none."""
        return Reader(self._mapping(key), f"{self._prefix}{key}.", self._directory, self._problems)

    def mapping(self, key: str) -> dict[str, Json]:
        """A mapping as it stands, for others to judge."""
        return dict(self._mapping(key))

    def mappings(self, key: str) -> list[Reader]:
        """Readers of the mappings in a list."""
        readers = []
        for index, value in enumerate(self._list(key)):
            if isinstance(value, Mapping):
                readers.append(Reader(value, f"{self._prefix}{key}[{index}].", self._directory, self._problems))
            else:
                self._note(f"{key}[{index}]", f"expected a mapping, found {value!r}")
        return readers

    def names(self) -> list[str]:
        """The keys of the mapping."""
        return [str(key) for key in self._document]

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._document

    def note(self, key: str, message: str) -> None:
        """Something is wrong with a key's value beside others."""
        self._note(key, message)

    def _mapping(self, key: str) -> Mapping[str, Json]:
        value = self._take(key)
        if value is not None and not isinstance(value, Mapping):
            self._note(key, f"expected a mapping, found {value!r}")
        return value if isinstance(value, Mapping) else {}

    def _list(self, key: str) -> list[Json]:
        value = self._take(key)
        if value is not None and not isinstance(value, list):
            self._note(key, f"expected a list, found {value!r}")
        return value if isinstance(value, list) else []

    def items(self, key: str) -> list[Json]:
        """A list with something in it."""
        value = self._take(key)
        if isinstance(value, list) and value:
            return value
        self._note(key, "at least one entry is needed")
        return []

    def pilot(self, key: str, layer: str) -> dict[str, Json]:
        """A document of the pilot's own configuration, judged by the pilot's own rules."""
        value = self._take(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._note(key, f"expected a mapping, found {value!r}")
            return {}
        for problem in validate(value, layer):
            self._note(f"{key}.{problem.path}", problem.message)
        return dict(value)

    def refuse_others(self) -> None:
        """Note every key that nobody asked for."""
        for key in self._document:
            if key not in self._asked:
                near = difflib.get_close_matches(str(key), self._asked, n=1)
                self._note(str(key), "unknown key" + (f"; did you mean {near[0]}?" if near else ""))

    def _take(self, key: str) -> Json:
        self._asked.append(key)
        return self._document.get(key)

    def _note(self, key: str, message: str) -> str:
        self._problems.append(Problem(f"{self._prefix}{key}", "factory", message))
        return ""
