"""What the mount stage declares for CVMFS, and what it tells of the ways to it."""

from __future__ import annotations

import sys

import pytest

from pilot_agent.config import Layer, load_config
from pilot_agent.hookspecs import Context
from pilot_agent.interpreter import interpreter_command
from pilot_agent.model import Fact, FailureKind, Json
from pilot_agent.plugins.cvmfs import decide, pilot_mounts, unseen
from pilot_agent.process import run


def configured(*, site: str = "optional", **cvmfs: Json) -> dict[str, Json]:
    return dict(load_config([Layer("vo", {"cvmfs": cvmfs, "site": {"cvmfs": site}})]).values)


@pytest.mark.parametrize(
    ("config", "looked_at"),
    [
        (configured(), True),
        (configured(use="optional"), True),
        (configured(use="Never"), False),
        (configured(site="never"), False),
        (configured(use="required", site="never"), False),
        (configured(rungs=["Native", "fusermount"]), True),
        (configured(rungs=["fusermount"]), False),
        (configured(rungs=[]), False),
    ],
)
def test_what_the_site_has_mounted_is_looked_at_unless_it_may_not_be_used(
    config: dict[str, Json], looked_at: bool
) -> None:
    assert [mount.name for mount in pilot_mounts(config)] == (["cvmfs"] if looked_at else [])


def test_where_nobody_asks_for_cvmfs_nothing_is_decided_and_nothing_is_loaded() -> None:
    assert decide(Context(config=configured())) == (None, None)
    assert decide(Context(config=configured(use="never"))) == (None, None)
    # In a process of its own: this one has loaded all of it.
    source = (
        "import sys; from pilot_agent import stages; from pilot_agent.config import load_config; "
        "from pilot_agent.hookspecs import Context; from pilot_agent.plugins.cvmfs import decide; "
        "decide(Context(config=load_config([]).values)); print([name for name in sys.modules if '.cvmfs.' in name])"
    )
    prefix = interpreter_command()
    paths = [path for path in sys.path if path]
    environment = {"PYTHONPATH": ":".join(paths)}
    result = run([prefix[0], "-c", source], deadline_seconds=60, environment=environment)
    assert result.ok, result.explain()
    assert result.text.strip() == "[]"


def test_the_ladder_is_told_as_the_report_has_it() -> None:
    facts = {"cvmfs.repositories": Fact("cvmfs.repositories", ["a.example.org"])}
    ladder, failure = decide(Context(facts=facts, config=configured(repositories=["a.example.org"])))
    assert failure is None
    assert (ladder["decision"], ladder["repositories"]) == ("PREFERRED", ["a.example.org"])
    assert ladder["rungs"][0] == {
        "name": "native",
        "mode": None,
        "state": "taken",
        "tried": True,
        "reason": "all of a.example.org answer at /cvmfs",
    }


def test_wishes_that_contradict_each_other_end_the_pilot_already_in_the_mount_stage() -> None:
    ladder, failure = decide(Context(config=configured(use="required", site="never")))
    assert ladder["decision"] == "FAIL"
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "cvmfs.conflict")


def test_that_something_required_is_missing_is_left_to_the_check() -> None:
    facts = {"cvmfs.repositories": Fact("cvmfs.repositories", [])}
    ladder, failure = decide(Context(facts=facts, config=configured(use="required", rungs=["native"])))
    assert [rung["state"] for rung in ladder["rungs"]] == ["refused"] * 5
    assert failure is None


@pytest.mark.parametrize(("root", "refused"), [("/", True), ("/recorded", False)])
def test_the_workspace_of_this_machine_says_nothing_of_a_recorded_node(root: str, refused: bool) -> None:
    context = Context(config=configured(repositories=["a.example.org"]), root=root, workspace="/scratch/a b")
    ladder, _ = decide(context)
    assert ("/scratch/a b" in ladder["rungs"][1]["reason"]) is refused


@pytest.mark.parametrize(
    ("place", "contained", "told"), [("/w/c", False, True), ("/w/c", True, False), ("/cvmfs", False, False)]
)
def test_where_no_job_is_in_a_container_nobody_sees_what_the_pilot_mounted_for_them(
    place: str, contained: bool, told: bool
) -> None:
    facts = {
        name: Fact(name, value)
        for name, value in (
            ("cvmfs.mount_point", place),
            ("cvmfs.repositories", ["a.example.org"]),
            ("cvmfs.refused", [{"repository": "b.example.org", "reason": "x"}]),
        )
    }
    found = {fact.name: fact for fact in unseen(facts, contained=contained)}
    assert bool(found) == told
    if told:
        assert found["cvmfs.repositories"].value == []
        assert [one["repository"] for one in found["cvmfs.refused"].value] == ["b.example.org", "a.example.org"]
    assert unseen({}, contained=False) == []
