"""A factory with real files, and a batch system whose answers the test decides."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.batch import BatchJob
from server_stub.entries import Factory, parse_factory
from server_stub.factory.pilots import JobId
from server_stub.factory.store import Store

PAYLOAD = b"#!/usr/bin/env python3\nPK"


@dataclass
class ScriptedBatch:
    """Answers as it is told, and keeps what it was asked to do."""

    waiting: dict[JobId, BatchJob] = field(default_factory=dict)
    gone: dict[JobId, BatchJob] = field(default_factory=dict)
    submitted: list[Path] = field(default_factory=list)
    removed: dict[JobId, str] = field(default_factory=dict)
    forgotten: dict[JobId, str] = field(default_factory=dict)
    released: list[JobId] = field(default_factory=list)
    broken: bool = False
    silent: bool = False
    name: str = "schedd@factory.example.org"

    def schedd(self) -> str:
        return self.name

    def submit(self, description: str) -> JobId:
        self._answer()
        self.submitted.append(Path(description))
        return JobId(100 + len(self.submitted), 0)

    def submit_all(self, descriptions: Sequence[str]) -> list[JobId | PilotError]:
        if self.silent:
            raise PilotError(Failure(FailureKind.NETWORK, "batch.failed", "no answer in time"))
        answers: list[JobId | PilotError] = []
        for description in descriptions:
            try:
                answers.append(self.submit(description))
            except PilotError as error:
                answers.append(error)
        return answers

    def queue(self, factory: str) -> dict[JobId, BatchJob]:
        self._answer()
        return self.waiting

    def ended(self, jobs: Sequence[JobId]) -> dict[JobId, BatchJob]:
        self._answer()
        return {job: self.gone[job] for job in jobs if job in self.gone}

    def remove(self, jobs: Sequence[JobId], reason: str) -> int:
        self._answer()
        self.removed.update(dict.fromkeys(jobs, reason))
        return len(jobs)

    def forget(self, jobs: Sequence[JobId], reason: str) -> int:
        self._answer()
        self.forgotten.update(dict.fromkeys(jobs, reason))
        return len(jobs)

    def release(self, jobs: Sequence[JobId], reason: str) -> int:
        self._answer()
        self.released.extend(jobs)
        return len(jobs)

    def _answer(self) -> None:
        if self.broken:
            raise PilotError(Failure(FailureKind.NETWORK, "batch.failed", "the access point does not answer"))


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """A factory's file with two entries, whose payload, launcher and tokens exist."""
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload" / "pilot.pyz").write_bytes(PAYLOAD)
    (tmp_path / "payload" / "secret.txt").write_text("not for everybody")
    (tmp_path / "launcher.sh").write_text("#!/bin/sh\n")
    (tmp_path / "tokens").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tokens" / name).write_text(f"token-{name}\n")
    return {
        "name": "example",
        "state": "state",
        "payloads": "payload",
        "launcher": "launcher.sh",
        "url": "http://10.77.0.3:8080",
        "pilot": {"vo": {"name": "example"}},
        "entries": [
            {
                "name": "site-a",
                "site": "Example_T2",
                "payload": "pyz",
                "requirements": 'TARGET.Machine == "wn1.example.org"',
                "max_pilots": 2,
                "tokens": "tokens",
                "pilot": {"startd": {"idle_shutdown_seconds": 20}},
            },
            {"name": "site-b", "site": "Example_T3", "payload": "sh"},
        ],
    }


@pytest.fixture
def factory(document: dict[str, Any], tmp_path: Path) -> Factory:
    return parse_factory(document, str(tmp_path))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store, whose migrations are run once for all tests."""
    path = tmp_path_factory.mktemp("store") / "factory.sqlite"
    Store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(factory: Factory, empty_database: Path) -> Iterator[Store]:
    Path(factory.state, "pilots").mkdir(parents=True)
    shutil.copy(empty_database, Path(factory.state, "factory.sqlite"))
    with Store(factory.database) as opened:
        yield opened


@pytest.fixture
def batch() -> ScriptedBatch:
    return ScriptedBatch()
