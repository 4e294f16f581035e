"""Which jobs may run, which are preferred and which must go: the conditions of all layers, put together so that none
can take away another's, nor what keeps an unattended pilot safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent.config_expressions import expression_problem
from pilot_agent.lifecycle.control_groups import JOBS
from pilot_agent.startd import plan as words
from pilot_agent.startd.classad import LiteralError, attribute_name, config_text
from pilot_agent.startd.containers import HOOK_KEYWORD
from pilot_agent.startd.health_expressions import health_conditions
from pilot_agent.startd.plan import LayerExpression
from pilot_agent.startd.slots import start_condition
from pilot_agent.startd.usage import DISK_SUBCODE, MEMORY_SUBCODE, USAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilot_agent.model import Json
    from pilot_agent.startd.plan import StartdPlan, Subject

SETTLING_SECONDS = 20
"""Until its starter has reported, a job's ad says what its last run used: so long nothing is concluded from it."""

SUBJECTS: tuple[Subject, ...] = ("start", "rank", "preempt")


def layer_expressions(startd: Mapping[str, Json]) -> tuple[LayerExpression, ...]:
    """Those of a configuration's section ``startd``, in the order of the layers."""
    return tuple(
        LayerExpression(subject, item["layer"], item["value"])
        for subject in SUBJECTS
        for item in startd.get(subject) or ()
    )


def policy_knobs(plan: StartdPlan) -> dict[str, str]:
    """START, RANK, PREEMPT and what they are made of. Raises ``LiteralError``, which names layer and key, for what is
    no expression."""
    named = _named(plan.expressions)
    vacate = str(plan.vacate_seconds)
    hold = _hold(plan)
    return {
        **{name: _one_line(expression) for name, expression in named},
        "START": "True",
        "PILOT_START": _pilot_start(plan, [name for name, each in named if each.subject == "start"]),
        "PILOT_CHANNEL_ALIVE": _channel_alive(plan),
        "IS_OWNER": "False",
        "SUSPEND": "False",
        "WANT_SUSPEND": "False",
        **hold,
        "PREEMPT": _any_of([*_references(named, "preempt"), *(["$(PILOT_HOLD)"] if hold else [])]),
        "KILL": "False",
        "RANK": " + ".join(map(_number, _references(named, "rank"))) or "0",
        # The keeper says when jobs are ended, and then they get the time for vacating: nothing is added to it.
        "MaxJobRetirementTime": "0",
        "MachineMaxVacateTime": vacate,
        "SHUTDOWN_GRACEFUL_TIMEOUT": str(plan.vacate_seconds + 5),
        "SHUTDOWN_FAST_TIMEOUT": vacate,
        "KILLING_TIMEOUT": vacate,
        "CLAIM_WORKLIFE": str(plan.claim_worklife_seconds),
    }


def final_lines() -> list[str]:
    """What comes after every fragment, and so cannot be taken away by one."""
    return ["START = ($(START)) && ($(PILOT_START))"]


def memory_limit_policy(plan: StartdPlan) -> str:
    """What a job's control group does at its slot's memory: ``hard`` kills the job, which is then held, ``none`` only
    counts."""
    return "hard" if plan.hold.memory else "none"


def cgroup_knobs(plan: StartdPlan) -> dict[str, str]:
    """Where HTCondor makes the jobs' control groups: below a name in the group above its own, or nowhere."""
    if not plan.job_cgroups.used:
        return {"BASE_CGROUP": "", "CREATE_CGROUP_WITHOUT_ROOT": "False"}
    return {
        "BASE_CGROUP": JOBS,
        "CREATE_CGROUP_WITHOUT_ROOT": "True",
        "CGROUP_MEMORY_LIMIT_POLICY": memory_limit_policy(plan),
        # Else a job over its limit goes on in the node's swap, slowly and for all.
        "DISABLE_SWAP_FOR_JOB": str(plan.hold.memory),
    }


def _named(expressions: Sequence[LayerExpression]) -> list[tuple[str, LayerExpression]]:
    """Each expression with the knob that holds it; a layer that is there twice (a VO and its group) is numbered."""
    named: list[tuple[str, LayerExpression]] = []
    for expression in expressions:
        layer = "".join(letter if letter.isalnum() else "_" for letter in expression.layer)
        name = f"PILOT_{expression.subject}_{layer}".upper()
        same = sum(known == name or known.startswith(f"{name}_") for known, _ in named)
        named.append((f"{name}_{same + 1}" if same else name, expression))
    return named


def _references(named: Sequence[tuple[str, LayerExpression]], subject: Subject) -> list[str]:
    return [f"$({name})" for name, expression in named if expression.subject == subject]


def _one_line(expression: LayerExpression) -> str:
    problem = expression_problem(expression.text)
    if problem:
        raise LiteralError(f"{expression.key} of the layer {expression.layer} {problem}: {expression.text!r}")
    return config_text(" ".join(expression.text.split("\t")).strip())


def _number(expression: str) -> str:
    """What is no number for a job, because it lacks an attribute, must not hide what the other layers prefer."""
    value = f"real({expression})"
    return f"ifThenElse(isUndefined({value}) || isError({value}), 0.0, {value})"


def _any_of(conditions: Sequence[str]) -> str:
    return " || ".join(f"(({each}) =?= True)" for each in conditions) or "False"


def _pilot_start(plan: StartdPlan, of_layers: Sequence[str]) -> str:
    conditions = [
        "($(PILOT_CHANNEL_ALIVE))",
        f"(MY.{words.ACCEPTING_ATTRIBUTE} =!= False)",
        "($(PILOT_CONTAINER_START))",
        # The keeper sends both moments, and changes them when the token or the site's plans do.
        f"((time() < MY.{words.TIME_ATTRIBUTES[0]}) =!= False)",
    ]
    conditions += health_conditions(plan)
    if plan.job_length:
        conditions.append(f"({_fits(plan)})")
    if apart := start_condition(plan.slot_groups):
        conditions.append(f"({apart})")
    return " && ".join((*conditions, *(f"($({name}))" for name in of_layers)))


def _fits(plan: StartdPlan) -> str:
    """True for a job that does not say how long it takes, and for one that can end in time, which the keeper may make
    earlier. What is no number, or cannot be evaluated, says nothing."""
    length = "undefined"
    for name, unit in reversed(list(plan.job_length.items())):
        declared = f"TARGET.{attribute_name(name)}"
        seconds = f"{declared} * {words.UNIT_SECONDS[unit.lower()]}"
        length = f"ifThenElse(({declared} >= 0) =?= True, {seconds}, {length})"
    return f"(time() + {length} > MY.{words.TIME_ATTRIBUTES[1]}) =!= True"


def _channel_alive(plan: StartdPlan) -> str:
    """True while the keeper speaks. In the collector's copy of the ad, which is minutes old and the only one with
    LastHeardFrom, the message is compared with the time at which the copy was sent. A copy that was sent before the
    first message is open: the startd itself decides, and the next copy may be minutes away."""
    limit = plan.channel_period_seconds * words.MISSED_PERIODS
    name = f"MY.{words.AD_TIME_ATTRIBUTE}"
    here = f"time() - {name} <= {limit}"
    there = f"isUndefined({name}) || MY.MyCurrentTime - {name} <= {limit}"
    return f"ifThenElse(isUndefined(MY.LastHeardFrom), {here}, {there}) =?= True"


def _hold(plan: StartdPlan) -> dict[str, str]:
    """PREEMPT gives the job back to its queue; WANT_HOLD puts it on hold there, with a sentence for its owner. A
    confined starter takes no such command: its job is held when it comes again (see ``usage``)."""
    rules = []
    if plan.hold.memory:
        used = 'strcat("The job used ", string(TARGET.MemoryUsage), " MiB of memory; its slot has ", string(MY.Memory)'
        rules.append(("MEMORY", "TARGET.MemoryUsage > MY.Memory", f'{used}, " MiB (request_memory).")', MEMORY_SUBCODE))
    if plan.hold.disk:
        used = 'strcat("The job used ", string(TARGET.DiskUsage), " KiB of disk; its slot has ", string(MY.Disk)'
        rules.append(("DISK", "TARGET.DiskUsage > MY.Disk", f'{used}, " KiB (request_disk).")', DISK_SUBCODE))
    if not rules:
        return {}
    settled = f"time() - MY.JobStart > {SETTLING_SECONDS}"
    knobs = {f"PILOT_HOLD_{name}": f"({settled} && {condition}) =?= True" for name, condition, _, _ in rules}
    reason, subcode = "undefined", "undefined"
    for name, _, sentence, number in reversed(rules):
        reason = f"ifThenElse($(PILOT_HOLD_{name}), {sentence}, {reason})"
        subcode = f"ifThenElse($(PILOT_HOLD_{name}), {number}, {subcode})"
    knobs["PILOT_HOLD"] = " || ".join(f"($(PILOT_HOLD_{name}))" for name, *_ in rules)
    if plan.holds_at_next_start:
        return knobs | {f"{HOOK_KEYWORD}_HOOK_PREPARE_JOB": f"$(LIBEXEC)/{USAGE}"}
    return knobs | {"WANT_HOLD": "($(PILOT_HOLD))", "WANT_HOLD_REASON": reason, "WANT_HOLD_SUBCODE": subcode}
