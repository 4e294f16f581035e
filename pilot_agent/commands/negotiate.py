"""``negotiate``: what follows from the container wishes of a VO and a site, without looking at any node."""

from __future__ import annotations

import argparse
import json

from pilot_agent.containers.negotiation import SITE_WORDS, TABLE, Negotiation, negotiate
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.printing import print_text
from pilot_agent.render import paragraph


def run_negotiate(parsed: argparse.Namespace) -> int:
    """Print one outcome, or the table; 66 for wishes that contradict each other. Raises ``PilotError`` (usage)."""
    if (parsed.vo is None) != (parsed.site is None) or not (parsed.table or parsed.vo is not None):
        message = "what the VO wants and what the site demands are both needed"
        hint = "--vo VALUE --site VALUE, or --table alone for every combination"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
    outcome = negotiate(parsed.vo, parsed.site) if parsed.vo is not None else None
    if parsed.json:
        print_text(json.dumps(_answer(parsed, outcome), indent=2) + "\n")
    else:
        parts = [_table(outcome)] if parsed.table else []
        parts += [paragraph(f"{outcome.decision}  ({outcome.cell}): {outcome.reason}")] if outcome else []
        print_text("\n\n".join(parts) + "\n")
    return FailureKind.CONFIG.exit_code if outcome is not None and outcome.decision == "FAIL" else 0


def _answer(parsed: argparse.Namespace, outcome: Negotiation | None) -> dict[str, Json]:
    answer: dict[str, Json] = {}
    if outcome is not None:
        answer = {"decision": outcome.decision, "cell": outcome.cell, "vo": parsed.vo, "site": parsed.site}
        answer["reason"] = outcome.reason
    if parsed.table:
        answer["table"] = {row: dict(zip(SITE_WORDS, cells, strict=True)) for row, cells in TABLE.items()}
    return answer


def _table(outcome: Negotiation | None) -> str:
    rows = [["VO \\ site", *SITE_WORDS]]
    for row, cells in TABLE.items():
        taken = [outcome is not None and outcome.cell == f"{row} x {column}" for column in SITE_WORDS]
        rows.append([row, *(f"[{cell}]" if mark else cell for cell, mark in zip(cells, taken, strict=True))])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
