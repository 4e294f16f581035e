"""What VO and site together mean for CVMFS: the table of containers, but for one cell.

Where neither asks for more than it finds (optional twice), jobs get what the site has mounted and the pilot mounts
nothing; containers are not used at all then, as they would cost something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pilot_agent.containers.negotiation import SITE_WORDS, TABLE
from pilot_agent.model import Json

Decision = Literal["NEVER", "OPTIONAL", "PREFERRED", "REQUIRED", "FAIL"]

_MEANING: dict[Decision, str] = {
    "NEVER": "jobs get no CVMFS",
    "OPTIONAL": "jobs get what the site has mounted, the pilot mounts nothing",
    "PREFERRED": "jobs get CVMFS where the node can, and run without it otherwise",
    "REQUIRED": "a node that cannot give jobs every repository is refused",
    "FAIL": "they contradict each other: the VO changes cvmfs.use, or the site site.cvmfs",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """``cell`` is "VO x SITE", ``reason`` a sentence for the report."""

    decision: Decision
    cell: str
    reason: str


def wishes_of(config: Mapping[str, Json]) -> Outcome:
    """The outcome of ``cvmfs.use`` and ``site.cvmfs``."""
    return settle(config["cvmfs"]["use"], config["site"]["cvmfs"])


def settle(vo: str, site: str) -> Outcome:
    """The outcome of two words of the configuration (``CVMFS_WISHES``), in any case."""
    row, column = vo.upper(), site.upper()
    decision = _cell(row, column)
    return Outcome(decision, f"{row} x {column}", f"the VO says {row}, the site {column}: {_MEANING[decision]}")


def _cell(row: str, column: str) -> Decision:
    if row == column == "OPTIONAL":
        return "OPTIONAL"
    found = TABLE[row][SITE_WORDS.index(column)]
    assert found != "DISABLE", "only containers know DISABLE_GWMS"
    return found
