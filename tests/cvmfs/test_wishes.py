"""What VO and site mean together, cell by cell."""

from __future__ import annotations

import pytest

from pilot_agent.config_kinds import CVMFS_WISHES
from pilot_agent.containers.negotiation import negotiate
from pilot_agent.cvmfs.wishes import settle
from pilot_agent.plugins.cvmfs import wishes

CELLS = {
    "never": ("NEVER", "NEVER", "NEVER", "FAIL"),
    "optional": ("NEVER", "OPTIONAL", "PREFERRED", "REQUIRED"),
    "preferred": ("NEVER", "PREFERRED", "PREFERRED", "REQUIRED"),
    "required": ("FAIL", "REQUIRED", "REQUIRED", "REQUIRED"),
}
ALL = [(vo, site, decision) for vo, row in CELLS.items() for site, decision in zip(CVMFS_WISHES, row, strict=True)]


@pytest.mark.parametrize(("vo", "site", "decision"), ALL)
def test_every_cell_is_decided_in_any_case_and_says_whose_words_they_were(vo: str, site: str, decision: str) -> None:
    outcome = settle(vo, site.title())
    assert (outcome.decision, outcome.cell) == (decision, f"{vo.upper()} x {site.upper()}")
    assert outcome.reason.startswith(f"the VO says {vo.upper()}, the site {site.upper()}: ")


@pytest.mark.parametrize(("vo", "site", "decision"), ALL)
def test_only_where_both_are_content_with_what_they_find_it_differs_from_containers(
    vo: str, site: str, decision: str
) -> None:
    containers = negotiate(vo, site).decision
    assert (containers == decision) is ((vo, site) != ("optional", "optional"))


@pytest.mark.parametrize(("vo", "site", "decision"), ALL)
def test_what_is_declared_without_the_table_agrees_with_it(vo: str, site: str, decision: str) -> None:
    words = wishes({"cvmfs": {"use": vo.upper()}, "site": {"cvmfs": site}})
    assert ("never" in words) is (decision in ("NEVER", "FAIL"))
    assert ("required" in words and "never" not in words) is (decision == "REQUIRED")
