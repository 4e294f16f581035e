"""What becomes of a pilot in each of the 25 cells: with runtime and image, without a runtime, without an image."""

from __future__ import annotations

import itertools

import pytest

from pilot_agent.containers.negotiation import SITE_WORDS, TABLE
from pilot_agent.model import FailureKind, Json, PilotError
from tests.containers.runtimes import calls, make_runtime
from tests.containers.test_decision import Node, node

__all__ = ["node"]

CELLS = list(itertools.product(TABLE, SITE_WORDS))
EXPECTED = {
    ("DISABLE_GWMS", "NEVER"): "DISABLE", ("DISABLE_GWMS", "OPTIONAL"): "DISABLE",
    ("DISABLE_GWMS", "PREFERRED"): "DISABLE", ("DISABLE_GWMS", "REQUIRED"): "DISABLE",
    ("DISABLE_GWMS", "REQUIRED_GWMS"): "FAIL",
    ("NEVER", "NEVER"): "NEVER", ("NEVER", "OPTIONAL"): "NEVER", ("NEVER", "PREFERRED"): "NEVER",
    ("NEVER", "REQUIRED"): "FAIL", ("NEVER", "REQUIRED_GWMS"): "FAIL",
    ("OPTIONAL", "NEVER"): "NEVER", ("OPTIONAL", "OPTIONAL"): "NEVER", ("OPTIONAL", "PREFERRED"): "PREFERRED",
    ("OPTIONAL", "REQUIRED"): "REQUIRED", ("OPTIONAL", "REQUIRED_GWMS"): "REQUIRED",
    ("PREFERRED", "NEVER"): "NEVER", ("PREFERRED", "OPTIONAL"): "PREFERRED", ("PREFERRED", "PREFERRED"): "PREFERRED",
    ("PREFERRED", "REQUIRED"): "REQUIRED", ("PREFERRED", "REQUIRED_GWMS"): "REQUIRED",
    ("REQUIRED", "NEVER"): "FAIL", ("REQUIRED", "OPTIONAL"): "REQUIRED", ("REQUIRED", "PREFERRED"): "REQUIRED",
    ("REQUIRED", "REQUIRED"): "REQUIRED", ("REQUIRED", "REQUIRED_GWMS"): "REQUIRED",
}  # fmt: skip


def outcome(node: Node, vo: str, site: str, image: str) -> str:
    """The decision and what jobs get, or the failure that ends the pilot."""
    images: dict[str, Json] = {"el9": [image]}
    try:
        decision = node.decide(images, vo=vo.lower(), site=site.title())
    except PilotError as error:
        failure = error.failure
        assert failure.hint
        assert failure.kind is (
            FailureKind.NODE_RESOURCE if failure.code == "container.missing" else FailureKind.CONFIG
        )
        return f"ends: {failure.code}"
    assert decision.cell == f"{vo} x {site}"
    gets: list[str] = [decision.decision]
    gets += ["runtime"] if decision.runtime is not None else []
    gets += ["default image"] if decision.default_platform is not None else []
    assert any(verdict.taken for verdict in decision.runtimes) is (decision.runtime is not None)
    return ", ".join(gets)


@pytest.mark.parametrize(("vo", "site"), CELLS)
def test_with_a_runtime_and_an_image_the_table_alone_decides(node: Node, vo: str, site: str) -> None:
    made = make_runtime(node.bin)
    word = EXPECTED[vo, site]
    contained = word in ("PREFERRED", "REQUIRED")
    expected = {"FAIL": "ends: container.conflict"}.get(word, f"{word}, runtime, default image" if contained else word)
    assert outcome(node, vo, site, node.image("el9")) == expected
    assert bool(calls(made)) is contained


@pytest.mark.parametrize(("vo", "site"), CELLS)
def test_without_a_runtime_preferred_falls_back_to_no_container(node: Node, vo: str, site: str) -> None:
    word = EXPECTED[vo, site]
    ends = {"FAIL": "ends: container.conflict", "REQUIRED": "ends: container.missing"}
    assert outcome(node, vo, site, node.image("el9")) == ends.get(word, word)


@pytest.mark.parametrize(("vo", "site"), CELLS)
def test_without_an_image_preferred_leaves_containers_to_jobs_that_bring_one(node: Node, vo: str, site: str) -> None:
    make_runtime(node.bin)
    word = EXPECTED[vo, site]
    others = {
        "FAIL": "ends: container.conflict",
        "REQUIRED": "ends: image.format",
        "PREFERRED": "PREFERRED, runtime",
    }
    assert outcome(node, vo, site, node.image("broken")) == others.get(word, word)
