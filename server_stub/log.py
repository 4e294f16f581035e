"""The servers' logs: one line of JSON for each event on standard error, with the moment, the level and the fields."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import structlog

VARIABLE = "PILOT_LOG_LEVEL"
LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
USUAL = "info"


def configure_log(environment: Mapping[str, str] | None = None) -> None:
    """Write to standard error from now on: what ``PILOT_LOG_LEVEL`` says and what is more urgent."""
    wanted = (os.environ if environment is None else environment).get(VARIABLE, USUAL).lower()
    processors: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(wanted, LEVELS[USUAL])),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
