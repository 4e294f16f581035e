"""The servers' logs: one line of JSON for each event on standard error, with the moment, the level and the fields."""

from __future__ import annotations

import sys

import structlog


def configure_log() -> None:
    """Write to standard error from now on, whatever that is when a line is written."""
    processors: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(processors=processors, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
