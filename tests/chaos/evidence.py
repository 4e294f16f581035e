"""What one point showed, and the file that keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.choice import Point


@dataclass(slots=True)
class Evidence:
    """One point's outcome. It survived when there are no `problems`."""

    number: int
    fault: str
    stage: str
    what: str
    payload: str
    seed: int
    reproduce: str
    node: str = ""
    pilot: str = ""
    expected_exit_codes: list[int] = field(default_factory=list)
    exit_code: int | None = None
    report: str = ""
    outcome: dict[str, Any] | None = None
    report_leftovers: list[dict[str, Any]] = field(default_factory=list)
    last_event_before: dict[str, Any] | None = None
    seconds: float = 0.0
    seconds_from_strike_to_end: float | None = None
    swept_by_next_pilot: bool = False
    leftovers: list[str] = field(default_factory=list)
    jobs: dict[str, int] = field(default_factory=dict)
    jobs_lost: int = 0
    problems: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    story: str = ""

    @property
    def survived(self) -> bool:
        """Whether the pilot ended as it must."""
        return not self.problems

    @property
    def name(self) -> str:
        """How `CHAOS_ONLY` names it."""
        return f"{self.fault}@{self.stage}:{self.payload}"

    @property
    def good(self) -> bool:
        """Whether it survived, left nothing and lost no job."""
        return self.survived and not self.leftovers and not self.jobs_lost

    def save(self, directory: Path) -> Path:
        """Write the evidence; its path."""
        path = directory / f"{self.number:03d}-{self.fault}-{self.stage}.json"
        path.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n", encoding="utf-8")
        return path


def begin(point: Point, seed: int) -> Evidence:
    """The evidence of a point that was not run yet."""
    return Evidence(
        number=point.number,
        fault=point.fault.name,
        stage=point.stage,
        what=point.fault.what,
        payload=point.payload,
        seed=seed,
        reproduce=f"make chaos CHAOS_SEED={seed} CHAOS_ONLY={point.name}:{point.payload}",
        expected_exit_codes=list(point.fault.exits(point.stage)),
    )
