"""No entry is asked for pilots that would be refused, or that no waiting job could use."""

from __future__ import annotations

from typing import Any

import pytest

from pilot_agent.model import Fact
from pilot_agent.requirement_text import parse
from server_stub.frontend.groups import Borders, JobGroup
from server_stub.frontend.matching import FACTS_VALID_SECONDS, Matches, Vo, borders, match, policy, refusal
from server_stub.frontend.offers import NodeSeen, Offer, Outcomes
from tests.server_stub.frontend.builders import NOW, group, offer

VO = Vo("example")


def matched(groups: list[JobGroup], offers: list[Offer], vo: Vo = VO, **by: Any) -> Matches:
    return match(groups, offers, policy(**by), vo, NOW)


def allowed(found: Matches) -> list[list[bool]]:
    return [[bool(value) for value in row] for row in found.allowed]


@pytest.mark.parametrize(
    ("job", "entry"),
    [
        ({"cores": 9}, {}),
        ({"memory_mib": 16001}, {}),
        ({"disk_mib": 100}, {"disk_mib": 99}),
        ({"gpus": 1}, {}),
        ({"walltime_seconds": 4000}, {"walltime_seconds": 3999}),
        ({"container": True}, {"containers": "never"}),
    ],
)
def test_a_job_that_no_pilot_there_could_take_is_no_reason_to_ask(job: dict[str, Any], entry: dict[str, Any]) -> None:
    assert allowed(matched([group(), group(**job)], [offer(**entry)])) == [[True], [False]]


def test_an_unknown_disk_bounds_nothing() -> None:
    assert allowed(matched([group(disk_mib=10**9)], [offer()])) == [[True]]


def test_the_policy_decides_and_ranks() -> None:
    offers = [offer("a", benchmarks={"db12": 20.0}), offer("b", benchmarks={"db12": 31.5}), offer("c", site="X")]
    jobs = [group(attributes=("prod",)), group(attributes=("user",))]
    by: dict[str, Any] = {"match": 'TARGET.Kind == "prod" || GLIDEIN_Site =!= "X"', "rank": "MY.BENCHMARK_DB12"}
    found = matched(jobs, offers, **by)
    assert allowed(found) == [[True, True, True], [True, True, False]]
    assert found.rank[0].tolist() == [20.0, 31.5, 0.0]


def test_a_policy_names_the_attributes_of_jobs_that_must_be_read() -> None:
    found = policy("TARGET.Kind == Country && TARGET.RequestCpus < 3", "FailureRate * TARGET.weight", ["DESIRED_Sites"])
    assert found.job_attributes == ("desired_sites", "kind", "weight")


@pytest.mark.parametrize("text", ["undefined", "MY.Country + 1", "TARGET.Nothing > 2"])
def test_a_policy_that_is_not_true_asks_nothing(text: str) -> None:
    assert allowed(matched([group()], [offer(attributes={"Country": "DE"})], match=text)) == [[False]]


def test_a_jobs_own_requirements_count_where_the_entry_can_tell() -> None:
    arm = 'TARGET.Arch == "AARCH64" && TARGET.Memory >= RequestMemory'
    seen = NodeSeen(NOW, {"os.arch": Fact("os.arch", "x86_64")})
    assert allowed(matched([group(requirements=arm)], [offer("a"), offer("b", seen=(seen,))])) == [[True, False]]


def test_a_jobs_requirements_may_read_the_job_itself() -> None:
    wish = "stringListMember(GLIDEIN_Site, DESIRED_Sites)"
    jobs = [group(requirements=wish, attributes=("A,B",)), group(requirements=wish, attributes=("C",))]
    offers = [offer("a", site="A"), offer("c", site="C")]
    assert allowed(matched(jobs, offers, more=["DESIRED_Sites"])) == [[True, False], [False, True]]


def test_requirements_that_cannot_be_told_leave_the_entry_possible() -> None:
    assert allowed(matched([group(requirements='eval("x")'), group(requirements="1; 2")], [offer()])) == [
        [True],
        [True],
    ]


def test_an_entry_that_would_answer_fail_is_never_asked() -> None:
    found = matched([group()], [offer("a", containers="REQUIRED"), offer("b")], Vo("example", "NEVER"))
    assert allowed(found) == [[False, True]]
    assert list(found.refused) == ["a"]
    assert found.refused["a"].startswith(
        "a pilot there would end with container.conflict: the VO says NEVER, the site REQ"
    )


def test_an_entry_in_downtime_or_of_other_vos_is_not_asked() -> None:
    assert refusal(offer(downtime=True), VO, NOW) == "it is in downtime"
    assert "takes no pilots of example" in refusal(offer(vos=frozenset(["cms"])), VO, NOW)
    assert refusal(offer(vos=frozenset(["cms", "example"])), VO, NOW) == ""


def seen(cores: int, age: float = 0.0) -> NodeSeen:
    return NodeSeen(NOW - age, {"cpu.usable": Fact("cpu.usable", cores, "cores")})


WANTS = Vo("example", requirements=(parse("cpu.usable >= 4"), parse("fuse.usable")))


def test_an_entry_whose_nodes_would_all_be_refused_is_not_asked() -> None:
    reason = refusal(offer(seen=(seen(1), seen(2))), WANTS, NOW)
    assert reason == ("all 2 nodes seen there lately would be refused: found cpu.usable 2 cores, needed >= 4")


def test_one_node_that_would_do_is_enough() -> None:
    assert refusal(offer(seen=(seen(1), seen(4))), WANTS, NOW) == ""


def test_what_nobody_knows_or_saw_long_ago_is_no_reason() -> None:
    unknown = NodeSeen(NOW, {"cpu.usable": Fact.unknown("cpu.usable", "no such file")})
    assert refusal(offer(seen=(unknown,)), WANTS, NOW) == ""
    assert refusal(offer(seen=(seen(1, FACTS_VALID_SECONDS + 1),)), WANTS, NOW) == ""
    assert refusal(offer(), WANTS, NOW) == ""


def test_the_borders_are_the_sizes_of_entries() -> None:
    found = borders([offer("a", disk_mib=7), offer("b", memory_mib=1)])
    assert found == Borders(frozenset([16000, 1]), frozenset([7]), frozenset([86400]))


def test_few_failures_say_little_and_many_say_much() -> None:
    assert Outcomes(1, 1).failure_rate < 0.25
    assert Outcomes(20, 18).failure_rate > 0.7
    assert Outcomes(20, 0, 100, 90).failure_rate > 0.8
    assert Outcomes().failure_rate == 0.0
