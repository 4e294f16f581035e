from __future__ import annotations

from pilot_agent.cvmfs import native
from pilot_agent.cvmfs.native import find_native, report
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus
from pilot_agent.probes.cvmfs.cvmfs_client import ClientState
from pilot_agent.probes.cvmfs.repositories import Examined, RepositoryState
from tests.probes.trees import context_of, facts


def test_the_facts_name_who_answers_and_why_others_do_not() -> None:
    good = RepositoryState("a.example.org", "ok", client=ClientState(revision=7))
    broken = RepositoryState("b.example.org", "broken", "the client died", "the site unmounts it")
    known = facts(report(Examined((good, broken))))
    assert known["cvmfs.repositories"].value == ["a.example.org"]
    assert known["cvmfs.refused"].value == [
        {"repository": "b.example.org", "reason": "the client died; the site unmounts it"}
    ]
    assert known["cvmfs.revisions"].value == {"a.example.org": 7}
    assert known["cvmfs.mount_point"].status is FactStatus.ABSENT


def test_a_node_of_which_no_repository_was_recorded_is_unknown() -> None:
    found: list[Fact] = list(find_native(context_of("bare_metal_el9")))
    assert {fact.status for fact in found} == {FactStatus.UNKNOWN}


def test_a_recorded_node_answers_for_its_repositories() -> None:
    known = facts(find_native(context_of("cvmfs_worker")))
    assert known["cvmfs.repositories"].value == ["config.example.org", "grid.example.org"]
    assert [entry["repository"] for entry in known["cvmfs.refused"].value] == [
        "dead.example.org",
        "hung.example.org",
        "offline.example.org",
    ]
    assert known["cvmfs.revisions"].value == {"grid.example.org": 81234}
    assert known["cvmfs.mount_point"].value == "/cvmfs"


def test_this_machine_answers_for_what_is_configured() -> None:
    context = Context(config={"cvmfs": {"repositories": ["missing.example.org"]}})
    known = facts(find_native(context))
    assert known["cvmfs.repositories"].value == []
    assert known["cvmfs.refused"].value[0]["repository"] == "missing.example.org"


def test_a_mount_that_held_the_probe_for_good_is_not_entered_again() -> None:
    stuck = RepositoryState("hung.example.org", "hung", "the mount hangs", "abort it", stuck=True)
    slow = RepositoryState("slow.example.org", "hung", "no answer yet")
    context = Context(
        facts={"cvmfs.mounts": Fact("cvmfs.mounts", [stuck.as_json(), slow.as_json()])},
        config={"cvmfs": {"repositories": ["slow.example.org", "hung.example.org"]}},
    )
    known = facts(find_native(context))
    refused = {entry["repository"]: entry["reason"] for entry in known["cvmfs.refused"].value}
    assert list(refused) == ["slow.example.org", "hung.example.org"]
    assert refused["hung.example.org"] == "the mount hangs; abort it"
    assert refused["slow.example.org"] != "no answer yet"


def test_damaged_facts_of_the_probe_do_no_harm() -> None:
    damaged: list[object] = [None, 7, {"stuck": True}, {"stuck": "yes", "repository": "a.example.org"}]
    context = Context(facts={"cvmfs.mounts": Fact("cvmfs.mounts", damaged)})
    assert facts(find_native(context))["cvmfs.refused"].value == []


def test_the_mount_stage_is_more_patient_than_the_probe() -> None:
    from pilot_agent.probes.cvmfs import cvmfs

    assert native.REPOSITORY_SECONDS > cvmfs.REPOSITORY_SECONDS
