"""The value of a fact by its name, where it can be relied on."""

from __future__ import annotations

from pilot_agent.facts import known_value
from pilot_agent.model import Fact


def test_only_what_is_known_has_a_value() -> None:
    found = (Fact("cpu.usable", 4), Fact.unknown("os.glibc", "not recorded"), Fact.absent("fuse.helper", "no program"))
    facts = {fact.name: fact for fact in found}
    names = ("cpu.usable", "os.glibc", "fuse.helper", "nobody.looked")
    assert [known_value(facts, name) for name in names] == [4, None, None, None]
    assert [known_value(facts, name, 0) for name in names] == [4, 0, 0, 0]


def test_a_known_nothing_is_no_reason_for_the_default() -> None:
    assert known_value({"gpu.devices": Fact("gpu.devices", [])}, "gpu.devices", None) == []
