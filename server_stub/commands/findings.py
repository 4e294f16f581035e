"""Findings of a ``check`` for people and for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from server_stub.commands.tables import print_json, print_table
from server_stub.findings import Finding, Verdict, exit_code


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print them; the exit code."""
    if as_json:
        print_json([finding.document() for finding in findings])
    else:
        print_table(("what", "verdict", "found"), [(one.name, one.verdict.value, one.message) for one in findings])
        todo = [one for one in findings if one.hint and one.verdict is not Verdict.OK]
        sys.stdout.write("".join(f"\n{one.name}: {one.message}\n  {one.hint}\n" for one in todo))
    return exit_code(findings)
