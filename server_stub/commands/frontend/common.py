"""What the frontend's commands share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilot_agent.usage import Parser

PROGRAM = "pilot-frontend"
VARIABLE = "PILOT_FRONTEND_CONFIG"
FILE = "/etc/pilot-frontend/frontend.yaml"


def take_config(parser: Parser) -> None:
    """``--config`` and ``--json``."""
    parser.add_argument(
        "--config",
        default=os.environ.get(VARIABLE, FILE),
        metavar="FILE",
        help=f"the frontend's file, YAML or JSON (default: ${VARIABLE}, else {FILE})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
