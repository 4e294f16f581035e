"""A stand-in for HTCondor's bindings: modules of the same names that the child finds first, and that a test scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HTCONDOR = """
import enum, json, os, sys, time

class JobAction(enum.IntEnum):
    Remove = 3
    RemoveX = 4
    Release = 5

class DaemonType(enum.IntEnum):
    Schedd = 3

class HTCondorException(Exception):
    pass

class Submit:
    def __init__(self, text):
        if "queue" not in text:
            raise HTCondorException("no queue\\n  statement")
        self.text = text

class Result:
    def __init__(self, cluster):
        self._cluster = cluster
    def cluster(self):
        return self._cluster
    def first_proc(self):
        return 0

class Collector:
    def __init__(self, pool=None):
        self.pool = pool
    def locate(self, kind, name=None):
        return {"MyAddress": f"<{self.pool}/{name}>", "CondorVersion": "23"}

def version():
    return "25"

param = {"SCHEDD_DAEMON_AD_FILE": os.environ.get("SCHEDD_AD", "")}

class Schedd:
    def __init__(self, location):
        self.location = location
    def submit(self, description):
        return Result(int(description.text.split()[-1]))
    def query(self, constraint, projection):
        return self._answer(constraint)
    def history(self, constraint, projection, match):
        return self._answer(constraint)
    def act(self, action, jobs, reason):
        refused = sum(job.startswith("9") for job in jobs)
        return {"TotalSuccess": len(jobs) - refused, "TotalPermissionDenied": refused, "TotalNotFound": 0}
    def _answer(self, constraint):
        SCRIPT
"""
CLASSAD = """
def parseOne(text):
    pairs = (line.partition(" = ") for line in text.splitlines())
    return {name: value.strip('"') for name, _, value in pairs}
"""


@pytest.fixture
def bindings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a query of queue or history run this Python."""

    def script(text: str) -> None:
        directory = tmp_path / "bindings"
        directory.mkdir()
        (directory / "htcondor2.py").write_text(HTCONDOR.replace("SCRIPT", text))
        (directory / "classad2.py").write_text(CLASSAD)
        monkeypatch.syspath_prepend(str(directory))

    return script
