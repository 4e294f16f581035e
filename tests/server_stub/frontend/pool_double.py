"""A user pool whose answers are files: each question is asked in a real process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from server_stub.frontend.configuration import AccessPointPlan, PoolPlan
from server_stub.frontend.jobs import JobRecord, job_table
from server_stub.frontend.pool import PoolReader
from server_stub.frontend.slots import SlotRecord, slot_table
from server_stub.frontend.tables import save_jobs, save_slots
from server_stub.frontend.wake import Wake
from tests.server_stub.frontend.builders import record, slot

ASK = """
import json, os, shutil, sys, time
question = json.load(sys.stdin)
name = question["kind"] + dict(question["location"]).get("Name", "")
here = os.path.dirname(__file__)
if os.path.exists(os.path.join(here, name + ".hangs")):
    time.sleep(3600)
try:
    shutil.copyfile(os.path.join(here, name), sys.argv[-1])
except FileNotFoundError:
    sys.exit("SECMAN:2010:no answer for " + name)
"""


class PoolDouble:
    """Two access points with two and three jobs, and one slot, until it is told otherwise."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        (directory / "ask.py").write_text(ASK)
        self.has("ap1", 2)
        self.has("ap2", 3)
        self.tells("ap1", "ap2")
        self.slots(slot("e@f", "p"))

    @property
    def python(self) -> tuple[str, ...]:
        return (sys.executable, "-I", "-S", str(self.directory / "ask.py"))

    def has(self, name: str, jobs: int, job: JobRecord | None = None) -> None:
        save_jobs(str(self.directory / f"jobs{name}"), job_table({name: [job or record()] * jobs}))

    def slots(self, *records: SlotRecord) -> None:
        save_slots(str(self.directory / "slots"), slot_table(records))

    def tells(self, *names: str, **closed: str) -> None:
        points = [
            {"name": name, "location": {"Name": name}, "idle": 1, "closed": closed.get(name, "")} for name in names
        ]
        (self.directory / "access_points").write_text(json.dumps(points))

    def loses(self, name: str) -> None:
        (self.directory / name).unlink()

    def hangs(self, name: str) -> None:
        (self.directory / f"{name}.hangs").touch()

    def reader(self, seconds: float = 60, wake: Wake | None = None, **plan: Any) -> PoolReader:
        pool = PoolPlan(("cm.example.org",), most_seconds=seconds)
        return PoolReader(pool, AccessPointPlan(forget_seconds=100, **plan), wake=wake, python=self.python)
