"""What a run of a benchmark is given, and what comes back: both cross the border between processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from pilot_agent.hookspecs import Benchmark
from pilot_agent.model import BenchmarkScore, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that a run needs. ``argv`` is a program, or the command that calls a plugin's function and answers on
    descriptor 3; empty for a function of the payload itself. ``key`` is what a kept score must be for. ``cores`` 0: as
    they are. ``patience_seconds``: how long to wait while another pilot runs the same; negative: only a kept score will
    do, ``message`` says why."""

    record: Benchmark
    builtin: bool
    directory: str
    workspace: str
    cores: int
    patience_seconds: float
    argv: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    key: dict[str, Json] = field(default_factory=dict)
    cache_directory: str | None = None
    use_kept: bool = True
    image: str | None = None
    idle: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a run ended: a score or why there is none, and what the benchmark said on standard error."""

    score: BenchmarkScore
    log: str = ""
