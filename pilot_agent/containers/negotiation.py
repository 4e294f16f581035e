"""What VO and site together mean for containers: one cell of a five by five table.

The words and the outcome of every cell are those that VOs and factories configure pilots with today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilot_agent.spelling import nearest

Decision = Literal["DISABLE", "NEVER", "PREFERRED", "REQUIRED", "FAIL"]

WORDS = ("DISABLE_GWMS", "NEVER", "OPTIONAL", "PREFERRED", "REQUIRED", "REQUIRED_GWMS")
"""Every word; a VO does not say REQUIRED_GWMS, a site does not say DISABLE_GWMS."""

SITE_WORDS = ("NEVER", "OPTIONAL", "PREFERRED", "REQUIRED", "REQUIRED_GWMS")

# One row per word of the VO, one column per word of the site, in the order of SITE_WORDS.
TABLE: dict[str, tuple[Decision, ...]] = {
    "DISABLE_GWMS": ("DISABLE", "DISABLE", "DISABLE", "DISABLE", "FAIL"),
    "NEVER": ("NEVER", "NEVER", "NEVER", "FAIL", "FAIL"),
    "OPTIONAL": ("NEVER", "NEVER", "PREFERRED", "REQUIRED", "REQUIRED"),
    "PREFERRED": ("NEVER", "PREFERRED", "PREFERRED", "REQUIRED", "REQUIRED"),
    "REQUIRED": ("FAIL", "REQUIRED", "REQUIRED", "REQUIRED", "REQUIRED"),
}

_MEANING: dict[Decision, str] = {
    "DISABLE": "the VO leaves containers to HTCondor's own support and to each job",
    "NEVER": "no job runs in a container",
    "PREFERRED": "jobs run in containers where the node can, without one otherwise",
    "REQUIRED": "every job runs in a container, and a node that cannot do it is refused",
    "FAIL": "VO and site contradict each other: one of them must change its word",
}


@dataclass(frozen=True, slots=True)
class Negotiation:
    """The outcome; ``cell`` is "VO x SITE" as it was taken, ``reason`` a sentence for the report."""

    decision: Decision
    cell: str
    reason: str


def negotiate(vo: str, site: str) -> Negotiation:
    """The cell of the table for what the VO wants and what the site demands, in any case.

    A word that the table does not have is FAIL: a typing error must not switch isolation off.
    """
    row, column = vo.strip().upper(), site.strip().upper()
    cell = f"{row} x {column}"
    if row not in TABLE:
        told = f"it says one of {', '.join(TABLE)}{nearest(row, TABLE)}"
        return Negotiation("FAIL", cell, f"{vo!r} is nothing a VO can want; {told}")
    if column not in SITE_WORDS:
        told = f"it says one of {', '.join(SITE_WORDS)}{nearest(column, SITE_WORDS)}"
        return Negotiation("FAIL", cell, f"{site!r} is nothing a site can demand; {told}")
    decision = TABLE[row][SITE_WORDS.index(column)]
    return Negotiation(decision, cell, f"the VO says {row}, the site {column}: {_MEANING[decision]}")
