"""What layers want of jobs is put together so that none takes away another's, nor the pilot's own."""

from __future__ import annotations

import pytest

from pilot_agent.model import PilotError
from pilot_agent.startd.configuration import render
from pilot_agent.startd.plan import HoldPolicy, LayerExpression
from pilot_agent.startd.policy import layer_expressions, policy_knobs
from pilot_agent.startd.verify import expression_questions, start_question
from tests.startd.plans import CONFINEMENT, CONTAINER, fragment, knobs, plan


def wanted(subject: str, *layers: tuple[str, str]) -> tuple[LayerExpression, ...]:
    return layer_expressions({subject: [{"layer": layer, "value": text} for layer, text in layers]})


def test_start_of_every_layer_must_be_true() -> None:
    found = policy_knobs(plan(expressions=wanted("start", ("entry", "A"), ("vo", "B || C"), ("site", "D"))))
    assert (found["PILOT_START_ENTRY"], found["PILOT_START_VO"], found["PILOT_START_SITE"]) == ("A", "B || C", "D")
    assert found["PILOT_START"].endswith("&& ($(PILOT_START_ENTRY)) && ($(PILOT_START_VO)) && ($(PILOT_START_SITE))")


def test_a_group_of_a_vo_has_a_condition_beside_the_vos() -> None:
    found = policy_knobs(plan(expressions=wanted("start", ("vo", "A"), ("vo", "B"), ("command line", "C"))))
    assert (found["PILOT_START_VO"], found["PILOT_START_VO_2"], found["PILOT_START_COMMAND_LINE"]) == ("A", "B", "C")


def test_no_fragment_takes_a_layers_condition_away() -> None:
    lines = render(plan(expressions=wanted("start", ("site", "A")), fragments=(fragment("START = True"),))).splitlines()
    assert lines[-1] == "START = ($(START)) && ($(PILOT_START))"
    with pytest.raises(PilotError, match="PILOT_START_SITE is the pilot's own"):
        render(plan(fragments=(fragment("PILOT_START_SITE = True"),)))


def test_what_layers_prefer_is_added_up_and_what_is_no_number_counts_nothing() -> None:
    found = policy_knobs(plan(expressions=wanted("rank", ("vo", "TARGET.Good"), ("site", "10"))))
    assert found["RANK"] == (
        "ifThenElse(isUndefined(real($(PILOT_RANK_VO))) || isError(real($(PILOT_RANK_VO))), 0.0, "
        "real($(PILOT_RANK_VO))) + ifThenElse(isUndefined(real($(PILOT_RANK_SITE))) || "
        "isError(real($(PILOT_RANK_SITE))), 0.0, real($(PILOT_RANK_SITE)))"
    )
    assert policy_knobs(plan())["RANK"] == "0"


def test_one_layer_is_enough_to_end_a_job() -> None:
    off = HoldPolicy()
    found = policy_knobs(plan(expressions=wanted("preempt", ("vo", "A"), ("site", "B")), hold=off))
    assert found["PREEMPT"] == "(($(PILOT_PREEMPT_VO)) =?= True) || (($(PILOT_PREEMPT_SITE)) =?= True)"
    assert policy_knobs(plan(hold=off))["PREEMPT"] == "False"


def test_no_macro_of_the_configuration_is_read_in_an_expression() -> None:
    found = knobs(render(plan(expressions=wanted("start", ("vo", 'TARGET.X == "$(ENV)"')))))
    assert found["PILOT_START_VO"] == 'TARGET.X == "$(DOLLAR)(ENV)"'


def test_what_is_no_expression_is_refused_with_layer_and_key() -> None:
    with pytest.raises(PilotError, match=r"startd\.rank of the layer site closes \) at character 2") as caught:
        render(plan(expressions=wanted("rank", ("site", "1) + (2"))))
    assert caught.value.failure.code == "startd.value"


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (HoldPolicy(memory=True, disk=True), ["PILOT_HOLD_MEMORY", "PILOT_HOLD_DISK"]),
        (HoldPolicy(memory=True), ["PILOT_HOLD_MEMORY"]),
        (HoldPolicy(disk=True), ["PILOT_HOLD_DISK"]),
    ],
)
def test_jobs_that_use_too_much_are_held_with_a_reason(policy: HoldPolicy, names: list[str]) -> None:
    found = policy_knobs(plan(hold=policy))
    assert found["PILOT_HOLD"] == " || ".join(f"($({name}))" for name in names)
    assert found["WANT_HOLD"] == "($(PILOT_HOLD))"
    assert "$(PILOT_HOLD)" in found["PREEMPT"]
    assert all(name in found["WANT_HOLD_REASON"] and name in found["WANT_HOLD_SUBCODE"] for name in names)


def test_without_a_policy_nothing_is_held() -> None:
    found = policy_knobs(plan(hold=HoldPolicy()))
    assert not [name for name in found if "HOLD" in name]


def test_the_job_of_a_confined_starter_is_held_when_it_comes_again() -> None:
    from dataclasses import replace

    found = policy_knobs(plan(container=replace(CONTAINER, confinement=CONFINEMENT), hold=HoldPolicy(memory=True)))
    assert "WANT_HOLD" not in found
    assert found["PILOT_HOOK_PREPARE_JOB"] == "$(LIBEXEC)/pilot_usage"


def test_a_claim_lives_as_long_as_it_was_told() -> None:
    assert policy_knobs(plan(claim_worklife_seconds=-1))["CLAIM_WORKLIFE"] == "-1"


def test_every_layers_expression_is_shown_to_htcondor(tmp_path: object) -> None:
    from dataclasses import replace
    from pathlib import Path

    from pilot_agent.process import run
    from tests.startd.plans import CONDOR

    tool = Path(str(tmp_path)) / "condor_status"
    tool.write_text('#!/bin/sh\ncase $4 in *bad*) echo "Invalid constraint expression : ( ($4) )" ;; esac\n')
    tool.chmod(0o755)
    given = plan(
        expressions=wanted("start", ("site", "good"), ("vo", "bad bad")), condor=replace(CONDOR, bin=str(tmp_path))
    )
    good, bad = expression_questions(given)
    assert good.problem(run(good.command, deadline_seconds=20, environment={})) is None
    failure = bad.problem(run(bad.command, deadline_seconds=20, environment={}))
    assert failure is not None
    assert failure.failure.code == "startd.expression"
    assert "startd.start of the layer vo is no ClassAd expression: 'bad bad'" in failure.failure.message
    assert expression_questions(plan(expressions=given.expressions, condor=replace(CONDOR, bin="/nowhere"))) == []


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        ("(True) && (time() < 5)\ntime() < 5\n", True),
        ("True\ntime() < 5\n", False),
        ("(True) && (time() < 5) || True\ntime() < 5\n", False),
        ("\n", False),
    ],
)
def test_a_start_without_the_pilots_own_condition_is_refused(said: str, accepted: bool) -> None:
    from pilot_agent.process import run

    question = start_question(plan())
    problem = question.problem(run(["/usr/bin/printf", "%s", said], deadline_seconds=20, environment={}))
    assert (problem is None) == accepted
