"""Which rung is taken, and what is said of the others."""

from __future__ import annotations

from functools import cache

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.codec import to_json
from pilot_agent.config_kinds import CVMFS_RUNGS, CVMFS_WISHES
from pilot_agent.cvmfs.ladder import NONE, REASON_LIMIT, Ladder, climb, failure_of
from pilot_agent.cvmfs.rungs import Judged
from pilot_agent.model import Fact, FailureKind, Json
from pilot_agent.report import report_schema
from tests.cvmfs.grounds import A, B, configured, known, refused

NATIVE = known(cvmfs_repositories=[A, B])
SOME = known(cvmfs_repositories=[A], cvmfs_refused=[{"repository": B, "reason": "it hangs"}])
BARE = known(Fact.absent("cvmfs.mount_point", "this node has no /cvmfs"), cvmfs_repositories=[])
NO_NAMESPACE = known(refused("fuse.userns_mount", "user namespaces are switched off"))
INSIDE, HELPER = known(fuse_userns_mount=True), known(fuse_helper_mount=True)
NO_FUSE = known(refused("fuse.device", "chmod 0666 /dev/fuse"))
SUID = known(software_apptainer=[{"path": "/usr/bin/apptainer", "mode": "setuid", "config": {}}])
SCHEMA = jsonschema.Draft202012Validator({"$ref": "#/$defs/cvmfs", "$defs": report_schema()["$defs"]})
LETTERS = {"taken": "T", "possible": "P", "refused": "R", "unknown": "U"}


def states(ladder: Ladder) -> str:
    """One letter for each rung, in order."""
    assert [rung.name for rung in ladder.rungs] == [*CVMFS_RUNGS, NONE]
    assert all(rung.reason for rung in ladder.rungs)
    return "".join(LETTERS[rung.state] for rung in ladder.rungs)


@pytest.mark.parametrize(
    ("facts", "vo", "site", "whole", "now"),
    [
        (NATIVE | NO_FUSE, "preferred", "optional", "TRRRP", "TRRRP"),
        (NATIVE | NO_FUSE, "required", "optional", "TRRRR", "TRRRR"),
        (NATIVE | INSIDE | HELPER | SUID, "preferred", "optional", "TPPPP", "TPPPP"),
        (NATIVE | INSIDE, "optional", "optional", "TRRRP", "TRRRP"),
        (NATIVE | INSIDE, "never", "preferred", "RRRRT", "RRRRT"),
        (NATIVE | INSIDE, "preferred", "never", "RRRRT", "RRRRT"),
        (NATIVE | INSIDE, "never", "required", "RRRRR", "RRRRR"),
        (NATIVE | INSIDE, "required", "never", "RRRRR", "RRRRR"),
        (BARE | INSIDE | HELPER, "preferred", "optional", "RTPUP", "RTPUP"),
        (BARE | INSIDE | HELPER, "required", "optional", "RTPUR", "RTPUR"),
        (BARE | INSIDE | HELPER, "optional", "optional", "RRRRT", "RRRRT"),
        (BARE | INSIDE | HELPER, "optional", "preferred", "RTPUP", "RTPUP"),
        (BARE | HELPER | known(refused("userns.usable", "")), "preferred", "optional", "RRTUP", "RRTUP"),
        (BARE | SUID | known(refused("fuse.helper_mount", "")), "preferred", "optional", "RURTP", "RURPU"),
        (BARE | NO_FUSE, "preferred", "optional", "RRRRT", "RRRRT"),
        (BARE | NO_FUSE, "optional", "required", "RRRRR", "RRRRR"),
        (SOME | NO_FUSE, "preferred", "optional", "TRRRP", "TRRRP"),
        (SOME | NO_FUSE, "optional", "optional", "TRRRP", "TRRRP"),
        (SOME | NO_FUSE, "required", "optional", "RRRRR", "RRRRR"),
        (SOME | INSIDE, "preferred", "optional", "RTUUP", "RTUUP"),
        ({}, "preferred", "optional", "UUUUU", "UUUUU"),
        ({}, "required", "optional", "UUUUU", "UUUUU"),
        (BARE, "preferred", "optional", "RUUUU", "RUUUU"),
        (BARE, "required", "optional", "RUUUU", "RUUUU"),
    ],
)
def test_the_first_rung_that_the_node_allows_and_the_pilot_can_take_is_taken(
    facts: dict[str, Fact], vo: str, site: str, whole: str, now: str
) -> None:
    """``whole`` with every rung in the pilot's power, ``now`` with those that it has."""
    config = configured(cvmfs={"use": vo}, site={"cvmfs": site})
    assert states(climb(facts, config, able=CVMFS_RUNGS)) == whole
    assert states(climb(facts, config)) == now


@pytest.mark.parametrize(
    ("rungs", "expected"),
    [(["native"], "RRRRT"), (["Namespace", "container"], "RTRUP"), (["fusermount"], "RRTRP"), ([], "RRRRT")],
)
def test_rungs_that_a_layer_does_not_allow_are_refused_with_its_name(rungs: list[Json], expected: str) -> None:
    ladder = climb(BARE | INSIDE | HELPER, configured(cvmfs={"rungs": rungs}), able=CVMFS_RUNGS)
    assert states(ladder) == expected
    allowed = ", ".join(map(str, rungs)) or "nothing"
    excluded = [rung.reason for rung in ladder.rungs[:-1] if rung.name not in map(str.lower, map(str, rungs))]
    assert excluded == [f"cvmfs.rungs allows only {allowed} (site layer)"] * len(excluded)
    assert excluded


def test_what_was_tried_is_told_from_what_facts_alone_decide() -> None:
    def tried(ladder: Ladder) -> list[str]:
        return [rung.name for rung in ladder.rungs if rung.tried]

    facts = BARE | INSIDE | HELPER
    assert tried(climb(facts, configured())) == ["native", "namespace"]
    assert tried(climb(facts, configured(), able=CVMFS_RUNGS)) == ["native", "namespace"]
    assert tried(climb(facts, configured(cvmfs={"rungs": ["namespace"]}), able=CVMFS_RUNGS)) == ["namespace"]
    assert tried(climb(facts, configured(cvmfs={"use": "never"}))) == []


def test_a_rung_that_is_possible_says_why_it_is_not_taken() -> None:
    reasons = {rung.name: rung.reason for rung in climb(NATIVE | INSIDE, configured(), able=CVMFS_RUNGS).rungs}
    assert reasons["namespace"].endswith("not needed beside native")
    reasons = {rung.name: rung.reason for rung in climb(NATIVE | SUID, configured()).rungs}
    assert reasons["container"].endswith("a cache of its own, which nobody proves or watches")
    reasons = {rung.name: rung.reason for rung in climb(BARE | NO_FUSE, configured()).rungs}
    assert reasons["none"] == "jobs run without CVMFS"


def test_what_became_of_a_rung_stands_for_what_facts_say_of_it() -> None:
    facts = BARE | HELPER | NO_NAMESPACE
    failed = climb(facts, configured(), tried={"fusermount": Judged(False, "mountrepo exited 16")})
    assert states(failed) == "RRRUT"
    assert [rung.name for rung in failed.rungs if rung.tried] == ["native", "fusermount", "none"]
    assert failed.rungs[2].reason == "mountrepo exited 16"
    required = configured(cvmfs={"use": "required"})
    some = {"fusermount": Judged(False, "1 of 2 were mounted", partial=True, answering=1)}
    assert states(climb(facts, configured(), tried=some)) == "RRTUP"
    ended = climb(facts, required, tried=some)
    assert states(ended) == "RRRUR"
    failure = failure_of(ended)
    assert failure is not None
    assert "fusermount: 1 of 2 were mounted" in failure.message


@pytest.mark.parametrize(("answering", "expected"), [(1, "native"), (2, "fusermount")])
def test_of_two_ways_to_some_repositories_the_one_with_more_is_taken(answering: int, expected: str) -> None:
    tried = {"fusermount": Judged(False, "some", partial=True, answering=answering)}
    taken = climb(SOME, configured(cvmfs={"repositories": [A, B, "c.example.org"]}), tried=tried).taken
    assert taken is not None
    assert taken.name == expected


def test_without_a_client_nothing_is_mounted_and_the_reason_names_the_key() -> None:
    ladder = climb(BARE | INSIDE | HELPER, configured(cvmfs={"distribution": None}), able=CVMFS_RUNGS)
    assert states(ladder) == "RRRUU"
    assert all("cvmfs.distribution" in rung.reason for rung in ladder.rungs[1:3])


def test_some_of_the_repositories_are_told_to_be_some() -> None:
    ladder = climb(SOME | NO_FUSE, configured())
    assert ladder.taken is not None
    assert ladder.taken.reason == f"1 of 2 answer; {B}: it hangs"
    assert ladder.rungs[-1].reason == "not needed: jobs get some of CVMFS by native"


def test_what_is_required_and_cannot_be_had_ends_the_pilot_with_the_reason_of_each_way() -> None:
    failure = failure_of(climb(BARE | NO_FUSE, configured(cvmfs={"use": "required"})))
    assert failure is not None
    assert (failure.kind, failure.code, failure.retry) == (FailureKind.NODE_RESOURCE, "cvmfs.broken", True)
    assert "REQUIRED x OPTIONAL" in failure.message
    assert "native: this node has no /cvmfs" in failure.message


@pytest.mark.parametrize(
    ("vo", "site", "rungs", "ways"),
    [
        ("required", "optional", None, "the site makes one of the ways possible"),
        ("optional", "required", None, "the site makes one of the ways possible"),
        ("required", "required", ["container"], "whoever set cvmfs.rungs adds native or namespace or fusermount"),
    ],
)
def test_what_is_required_and_cannot_be_had_names_those_who_require_it(
    vo: str, site: str, rungs: list[Json] | None, ways: str
) -> None:
    failure = failure_of(climb(BARE | NO_FUSE, configured(cvmfs={"use": vo, "rungs": rungs}, site={"cvmfs": site})))
    assert failure is not None
    wishes = {"the VO sets cvmfs.use to preferred": vo, "the site sets site.cvmfs to preferred": site}
    changes = [change for change, wish in wishes.items() if wish == "required"]
    assert failure.hint == f"{ways}, or {' and '.join(changes)}"


def test_contradicting_wishes_are_a_failure_of_the_configuration() -> None:
    failure = failure_of(climb(NATIVE, configured(cvmfs={"use": "required"}, site={"cvmfs": "never"})))
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "cvmfs.conflict")
    assert "the site changes" not in failure.hint
    assert "site.cvmfs" in failure.hint
    assert failure.hint not in failure.message
    assert "REQUIRED x NEVER" in failure.message


@pytest.mark.parametrize("facts", [NATIVE, {}, BARE | NO_FUSE])
def test_where_nothing_is_required_no_ladder_ends_a_pilot(facts: dict[str, Fact]) -> None:
    assert failure_of(climb(facts, configured())) is None


@cache
def wishing(vo: str, site: str) -> dict[str, Json]:
    return configured(cvmfs={"use": vo}, site={"cvmfs": site})


WORDS = st.sampled_from(CVMFS_WISHES)
TEXTS = st.text(max_size=2000)
VALUES = st.sampled_from([True, False, None, [], [A], [A, B], "x86_64", "4.18.0", [{"path": "/a b", "usable": True}]])
NAMES = (
    *("cvmfs.repositories", "fuse.userns_mount", "fuse.helper_mount", "fuse.device", "fuse.usable", "userns.usable"),
    *("os.arch", "os.kernel", "network.proxy", "network.outbound", "network.proxies", "software.apptainer"),
    "disk.candidates",
)
FACTS = st.one_of(
    st.builds(lambda value, detail: Fact("x", value, detail=detail), VALUES, TEXTS),
    st.builds(lambda detail: Fact.absent("x", detail), TEXTS),
    st.builds(lambda detail: Fact.unknown("x", detail), TEXTS),
)


@given(
    facts=st.dictionaries(st.sampled_from(NAMES), FACTS),
    vo=WORDS,
    site=WORDS,
    able=st.sets(st.sampled_from(CVMFS_RUNGS)),
)
def test_whatever_a_node_tells_at_most_one_rung_is_taken_and_the_report_can_hold_the_ladder(
    facts: dict[str, Fact], vo: str, site: str, able: set[str]
) -> None:
    ladder = climb(facts, wishing(vo, site), able=able)
    taken = [rung for rung in ladder.rungs if rung.state == "taken"]
    assert len(taken) <= 1
    assert all(rung.name in (*able, NONE) for rung in taken)
    assert (ladder.taken is None) or failure_of(ladder) is None
    assert all(len(rung.reason) <= REASON_LIMIT for rung in ladder.rungs)
    SCHEMA.validate(to_json(ladder))
