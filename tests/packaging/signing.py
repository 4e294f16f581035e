"""One who signs artifacts with the tool, for tests of the tool and of pilots."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "packaging"))

import artifacts


class Operator:
    """One who works with the tool, in a directory of its own."""

    def __init__(self, place: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self.repository = place / "repository"
        self.keys = place / "keys"
        self.published = place / "published"
        self._capture = capture

    def do(self, command: str, *words: object, keys: Path | None = None) -> str:
        """Standard output of a command that must go well."""
        code, told, problem = self.attempt(command, *words, keys=keys)
        assert code == 0, problem
        return told

    def refused(self, command: str, *words: object, keys: Path | None = None) -> str:
        """What is said of a command that must not go well."""
        code, _, problem = self.attempt(command, *words, keys=keys)
        assert code == 1
        assert problem.startswith("artifacts: ")
        return problem

    def attempt(self, command: str, *words: object, keys: Path | None = None) -> tuple[int, str, str]:
        with_keys = [] if command == "key" else ["--keys", str(self.keys if keys is None else keys)]
        place = [] if command == "key" else [str(self.repository)]
        code = artifacts.main([command, *place, *map(str, words), *with_keys])
        told = self._capture.readouterr()
        return code, told.out, told.err

    def key(self, role: str, directory: str = "") -> Path:
        """The public half of a new key."""
        where = self.place / (directory or role)
        before = set(where.glob("*.json"))
        self.do("key", where, role)
        (new,) = set(where.glob("*.json")) - before
        return new

    def file(self, name: str, text: str = "content") -> Path:
        path = self.place / name
        path.write_text(text)
        return path

    def publish(self) -> str:
        return self.do("publish", self.published)
