"""What services take from what jobs get: every unit once, with the name of who took it, and never all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.hookspecs import Service
from pilot_agent.model import CheckStatus, Fact, FailureKind, Json, Limit, PilotError
from pilot_agent.services.taken import share_out, usable_devices, with_devices


def service(name: str = "triton", **fields: Any) -> Service:
    return Service(name=name, command=("/bin/true",), **fields)


def node(cores: float | None = 8, memory_mib: int | None = 16000, gpus: int = 0, **devices: Json) -> dict[str, Fact]:
    """The facts of a node; ``devices`` changes those of all GPUs."""
    of_gpus = [{"uuid": f"GPU-{number}", "state": "usable", "vendor": "nvidia", **devices} for number in range(gpus)]
    found = {
        "cpu.usable": Fact("cpu.usable", cores, "cores", source="affinity", limits=(_limit("cpu.usable", cores),)),
        "memory.usable_mib": Fact("memory.usable_mib", memory_mib, "MiB", source="cgroup"),
        "gpu.devices": Fact("gpu.devices", of_gpus, source="NVML"),
        "gpu.count": Fact("gpu.count", gpus, source="NVML"),
    }
    return {name: fact if fact.value is not None else Fact.unknown(name, "?") for name, fact in found.items()}


def _limit(name: str, number: float | None) -> Limit:
    return Limit(name, number or 0, "cores", "affinity")


def test_without_a_wish_nothing_is_taken_and_nothing_is_said() -> None:
    found = share_out([service(), service("other")], node())
    assert (found.shares, found.facts, found.check) == ((), (), None)


def test_each_service_is_a_limit_with_its_name_and_what_was_there_stays_in_the_list() -> None:
    found = share_out([service("a", cores=2, memory_mib=1000), service("b", cores=0.5)], node())
    facts = {fact.name: fact for fact in found.facts}
    assert (facts["cpu.usable"].value, facts["cpu.usable"].source) == (5.5, "service b")
    assert [(limit.source, limit.number) for limit in facts["cpu.usable"].limits] == [
        ("affinity", 8),
        ("service a", 6),
        ("service b", 5.5),
    ]
    memory = facts["memory.usable_mib"]
    assert (memory.value, memory.source) == (15000, "service a")
    assert [(limit.source, limit.number) for limit in memory.limits] == [("cgroup", 16000), ("service a", 15000)]


def test_the_verdict_says_who_takes_what_and_what_is_left() -> None:
    check = share_out([service(cores=2, memory_mib=4000, gpus=1, gpus_exclusive=True)], node(gpus=2)).check
    assert check is not None
    assert check.status is CheckStatus.PASS
    assert check.message == (
        "the service triton takes 2 cores, 4000 MiB, 1 GPU alone; jobs get 6 cores, 12000 MiB, 1 GPU"
    )


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"cores": 8}, "it takes 8 cores of the 8 cores that are left of cpu.usable, and jobs need at least 1"),
        ({"memory_mib": 15900}, "it takes 15900 MiB of the 16000 MiB that are left of memory.usable_mib"),
    ],
)
def test_a_required_service_that_leaves_nothing_to_jobs_is_a_wrong_configuration(
    wish: dict[str, Any], words: str
) -> None:
    found = share_out([service(**wish)], node())
    assert found.check is not None
    assert (found.check.status, found.check.kind) == (CheckStatus.FAIL, FailureKind.CONFIG)
    assert found.check.code == "services.too_large"
    assert words in found.check.message
    assert "services.triton.cores" in found.check.hint
    assert found.facts == ()


def test_an_optional_one_that_does_not_fit_is_left_out_and_takes_nothing() -> None:
    services = [service("large", cores=7, memory_mib=100, required=False), service("small", cores=2)]
    found = share_out(services, node())
    assert found.check is not None
    assert found.check.status is CheckStatus.WARN
    assert "the service large is not started: it takes 7 cores of the 6 cores" in found.check.message
    assert {fact.name: fact.value for fact in found.facts} == {"cpu.usable": 6}
    with pytest.raises(PilotError, match="it cannot run beside jobs: it takes 7 cores"):
        with_devices(services[0], found.shares)
    assert with_devices(services[1], found.shares) == services[1]


def test_what_is_not_known_cannot_be_too_small() -> None:
    found = share_out([service(cores=100)], node(cores=None))
    assert found.check is not None
    assert found.check.status is CheckStatus.PASS
    assert found.facts == ()


def test_gpus_beside_jobs_are_seen_by_both() -> None:
    facts = node(gpus=3)
    wanted = service(gpus=2)
    found = share_out([wanted], facts)
    assert found.shares[0].devices == ("GPU-0", "GPU-1")
    assert found.facts == ()
    environment = with_devices(wanted, found.shares).environment
    assert environment == {"CUDA_VISIBLE_DEVICES": "GPU-0,GPU-1", "NVIDIA_VISIBLE_DEVICES": "GPU-0,GPU-1"}


def test_a_gpu_for_a_service_alone_is_the_last_one_and_no_job_gets_it() -> None:
    facts = node(gpus=3)
    found = share_out([service("shared", gpus="all"), service("alone", gpus=1, gpus_exclusive=True)], facts)
    assert {share.name: share.devices for share in found.shares} == {
        "shared": ("GPU-0", "GPU-1"),
        "alone": ("GPU-2",),
    }
    facts |= {fact.name: fact for fact in found.facts}
    assert [device["uuid"] for device in usable_devices(facts)] == ["GPU-0", "GPU-1"]
    assert facts["gpu.devices"].value[2]["service"] == "alone"
    assert (facts["gpu.count"].value, facts["gpu.count"].source) == (2, "service alone")


def test_instances_of_a_divided_gpu_are_given_like_gpus() -> None:
    facts = node(gpus=2, parent="GPU-x")
    facts["gpu.devices"] = replace(facts["gpu.devices"], value=[{"uuid": "MIG-1"}, {"uuid": "MIG-2"}])
    found = share_out([service(gpus=1, gpus_exclusive=True)], facts)
    assert with_devices(service(gpus=1), found.shares).environment["CUDA_VISIBLE_DEVICES"] == "MIG-2"


@pytest.mark.parametrize("wanted", [2, "all"])
def test_a_node_without_the_gpus_of_a_required_service_is_the_wrong_one(wanted: Any) -> None:
    facts = node(gpus=1, state="usable" if wanted == 2 else "unusable")
    check = share_out([service(gpus=wanted)], facts).check
    assert check is not None
    assert (check.status, check.kind, check.code) == (
        CheckStatus.FAIL,
        FailureKind.NODE_RESOURCE,
        "services.no_gpus",
    )
    assert "of this node can be had" in check.message
    assert "services.triton.required" in check.hint


@pytest.mark.parametrize(("wanted", "there", "given"), [(2, 1, "GPU-0"), ("all", 0, ""), (1, 0, ""), (1, 2, "GPU-0")])
def test_one_that_can_do_without_gpus_gets_what_there_is(wanted: Any, there: int, given: str) -> None:
    asking = service(gpus=wanted, gpus_optional=True)
    found = share_out([asking], node(gpus=there))
    assert with_devices(asking, found.shares).environment["CUDA_VISIBLE_DEVICES"] == given


def test_one_that_wants_a_gpu_alone_gets_none_that_another_sees() -> None:
    services = [service("first", gpus=2), service("second", gpus=1, gpus_exclusive=True, required=False)]
    found = share_out(services, node(gpus=2))
    assert found.shares[1].refused == "it asks for 1 GPU for itself alone, and 0 of this node can be had"
    assert found.shares[1].devices == ()


def test_one_that_asks_for_no_gpu_sees_none_and_one_that_says_nothing_is_let_be() -> None:
    assert with_devices(service(gpus=0), ()).environment["CUDA_VISIBLE_DEVICES"] == ""
    assert with_devices(service(), ()).environment == {}


@given(
    st.lists(
        st.builds(
            lambda cores, memory, gpus, alone, required: {
                "cores": cores,
                "memory_mib": memory,
                "gpus": gpus,
                "gpus_exclusive": alone,
                "required": required,
            },
            st.integers(0, 6),
            st.integers(0, 12000),
            st.none() | st.integers(0, 3) | st.just("all"),
            st.booleans(),
            st.booleans(),
        ),
        max_size=5,
    )
)
def test_jobs_always_keep_something_and_no_gpu_is_given_twice_where_one_has_it_alone(wishes: list[Any]) -> None:
    services = [service(f"s{number}", **wish) for number, wish in enumerate(wishes)]
    facts = node(gpus=3)
    found = share_out(services, facts)
    left = facts | {fact.name: fact for fact in found.facts}
    assert left["cpu.usable"].value >= 1
    assert left["memory.usable_mib"].value >= 128
    taken = [share for share in found.shares if not share.refused]
    assert left["cpu.usable"].value == 8 - sum(share.cores for share in taken)
    assert left["memory.usable_mib"].value == 16000 - sum(share.memory_mib for share in taken)
    alone = [uuid for share in taken if share.exclusive for uuid in share.devices]
    assert len(alone) == len(set(alone))
    assert not set(alone) & {uuid for share in taken if not share.exclusive for uuid in share.devices}
    assert left["gpu.count"].value == 3 - len(alone) == len(usable_devices(left))
