"""Binds: who asked for which, what the node lacks, what is not allowed, and which of several to one place counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilot_agent.containers import binds
from pilot_agent.containers.binds import DEAD, MISSING, BindWish, judge_binds
from pilot_agent.containers.restrictions import OfLayer
from pilot_agent.model import BindVerdict, FailureKind, PilotError


def wish(source: Path | str, destination: str = "/d", who: str = "x", **more: Any) -> BindWish:
    return BindWish(source=str(source), destination=destination, asked_by=who, **more)


def judged(*wishes: BindWish, allowed: dict[str, list[Path]] | None = None, **more: Any) -> list[tuple[bool, str]]:
    rules = [OfLayer(layer, tuple(map(str, paths))) for layer, paths in (allowed or {}).items()]
    verdicts = judge_binds(wishes, rules, **more)
    assert [one.source for one in verdicts] == [one.source for one in wishes]
    return [(one.given, one.reason) for one in verdicts]


def test_a_bind_is_a_text_or_a_record() -> None:
    assert BindWish.configured("/a:/b:ro", "me") == wish("/a", "/b", "me", read_only=True)
    assert BindWish.configured("/a", "me") == wish("/a", "/a", "me")
    record = {"source": "/a", "destination": "/b", "read_only": True, "required": True}
    assert BindWish.configured(record, "me") == wish("/a", "/b", "me", read_only=True, required=True)
    assert BindWish.configured({"source": "/a"}, "me") == wish("/a", "/a", "me")


def test_a_text_that_is_no_bind_names_who_asked() -> None:
    with pytest.raises(PilotError, match="plugin p: bind 'data'") as caught:
        BindWish.of("data", "plugin p")
    assert caught.value.failure.code == "container.bind"


def test_what_the_node_has_is_given_and_the_rest_has_its_reason(tmp_path: Path) -> None:
    there = wish(tmp_path, "/there", "site", read_only=True)
    assert judge_binds([there, wish(tmp_path / "no", "/no")], []) == (
        BindVerdict(str(tmp_path), "/there", True, "site", given=True),
        BindVerdict(str(tmp_path / "no"), "/no", False, "x", given=False, reason=MISSING),
    )


def test_a_required_bind_without_a_source_ends_the_pilot_with_who_asked(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match=r"that the VO requires cannot be given: the node has no") as caught:
        judge_binds([wish(tmp_path / "no", who="the VO", required=True)], [])
    assert caught.value.failure.kind is FailureKind.NODE_RESOURCE
    with pytest.raises(PilotError, match="allowed_binds") as caught:
        judge_binds([wish(tmp_path, required=True)], [OfLayer("site", ("/data",))])
    assert caught.value.failure.kind is FailureKind.CONFIG


def test_every_layer_that_restricts_must_allow_where_a_source_really_is(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "data-2"
    for directory in (data, other):
        directory.mkdir()
    (data / "out").symlink_to(other)
    (tmp_path / "alias").symlink_to(data)
    inner = data / "set"
    inner.mkdir()
    rules = {"site": [data], "vo": [tmp_path]}
    asked = (wish(inner, "/1"), wish(other, "/2"), wish(data / "out", "/3"), wish(f"{data}/../data-2", "/4"))
    given = judged(*asked, wish(tmp_path / "alias" / "set", "/5"), allowed=rules)
    assert [one for one, _ in given] == [True, False, False, False, True]
    assert given[1][1] == f"it is not under what containers.allowed_binds allows: {data} (site layer)"
    assert given[2][1].startswith(f"{other}, where it leads, is not under")
    assert judged(wish(inner), allowed={"site": [tmp_path / "alias"]}) == [(True, "")]
    assert judged(wish(inner), allowed={"site": []})[0][1].endswith("allows: nothing (site layer)")
    assert judged(wish(inner), allowed={"site": [Path("/")]}) == [(True, "")]


def test_what_is_built_in_has_switches_and_no_restrictions() -> None:
    assert judged(wish("/etc", built_in=True), allowed={"site": [Path("/data")]}) == [(True, "")]


@pytest.mark.parametrize("destination", ["/", "/proc", "/sys/fs", "/dev", "/srv", "/srv/x", "/tmp/a", "/a/../var/tmp"])
def test_what_a_job_has_of_its_own_stays(tmp_path: Path, destination: str) -> None:
    ((given, reason),) = judged(wish(tmp_path, destination))
    assert not given
    assert "inside" in reason or "scratch" in reason


def test_nothing_covers_the_scratch_directory_wherever_it_appears(tmp_path: Path) -> None:
    told = judged(wish(tmp_path, "/job"), wish(tmp_path, "/job/x"), wish(tmp_path, "/jobs"), scratch="/job")
    assert [given for given, _ in told] == [False, False, True]


def test_a_device_may_be_bound(tmp_path: Path) -> None:
    assert judged(wish("/dev/null", "/dev/fuse")) == [(True, "")]


@pytest.mark.parametrize("name", ["a b", "a,b", "a$b", "a'b", "a\nb"])
def test_what_htcondor_cannot_pass_on_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    ((given, reason),) = judged(wish(tmp_path / name))
    assert not given
    assert "HTCondor" in reason


def test_nobody_sees_the_pilots_private_directory(tmp_path: Path) -> None:
    private = tmp_path / "pilot" / "private"
    private.mkdir(parents=True)
    (private / "tokens").mkdir()
    (tmp_path / "link").symlink_to(private)
    (tmp_path / "pilot" / "private-2").mkdir()
    asked = [tmp_path, private, private / "tokens", tmp_path / "link", tmp_path / "pilot" / "private-2"]
    wishes = [wish(path, f"/{number}") for number, path in enumerate(asked)]
    assert [given for given, _ in judged(*wishes, private=str(private))] == [False, False, False, False, True]


def test_what_a_job_could_exchange_for_a_link_is_not_bound_into_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "shared" / "sub").mkdir(parents=True)
    shared, sub = tmp_path / "shared", tmp_path / "shared" / "sub"
    told = judged(wish(shared, "/a", "the VO"), wish(sub, "/b", read_only=True), wish(shared, "/c"))
    assert told == [
        (True, ""),
        (False, f"jobs could exchange it: it lies in {shared}, where x lets them write"),
        (True, ""),
    ]
    assert judged(wish(shared, "/a", read_only=True), wish(sub, "/b")) == [(True, ""), (True, "")]


def test_what_the_account_may_not_change_no_job_exchanges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    asked = wish(tmp_path, "/a"), wish(tmp_path / "sub", "/b")
    assert [given for given, _ in judged(*asked)] == [True, False]
    monkeypatch.setattr("pilot_agent.containers.binds.os.access", lambda path, mode: False)
    assert [given for given, _ in judged(*asked)] == [True, True]


def test_of_several_binds_to_one_place_the_last_that_can_be_given_counts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a, b, gone = tmp_path / "a", tmp_path / "b", tmp_path / "gone"
    told = judged(wish(a, who="site"), wish(b, who="plugin p"), wish(gone, who="late"), wish(b, who="again"))
    assert told == [
        (False, f"again wants {b} there"),
        (True, ""),
        (False, MISSING),
        (False, "it was asked for before"),
    ]


def test_a_required_bind_gives_way_to_a_required_one_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a, b = tmp_path / "a", tmp_path / "b"
    told = judged(wish(a, "/d", "site", required=True), wish(b, "/d/"), wish(a, "/d/."))
    assert told == [(True, ""), (False, f"site wants {a} there"), (False, "it was asked for before")]
    with pytest.raises(PilotError, match=f"x wants {b} there"):
        judged(wish(a, who="site", required=True), wish(b, required=True))


def test_a_dead_mount_costs_one_bind_and_not_the_pilot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look happens in a child: one that never returns is given up."""
    monkeypatch.setattr(binds, "LOOK_SECONDS", 0.5)
    looked = binds._looked

    def hangs(source: str, prefixes: Any) -> dict[str, Any]:
        while source.endswith("dead"):
            pass
        return looked(source, prefixes)

    monkeypatch.setattr(binds, "_looked", hangs)
    (tmp_path / "dead").mkdir()
    told = judged(wish(tmp_path, "/1"), wish(tmp_path / "dead", "/2"), wish(tmp_path, "/3"))
    assert told == [(True, ""), (False, DEAD), (True, "")]
