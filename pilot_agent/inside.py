"""A pilot that goes on in namespaces of its own: what it measures again there, and what it forgets when it is resumed
outside of them."""

from __future__ import annotations

from dataclasses import replace

from pilot_agent.cvmfs.namespace import own_mounts
from pilot_agent.model import Fact
from pilot_agent.stages import Session, gather
from pilot_agent.state import State

STAGE = "mount"


def settled(session: Session, state: State) -> State:
    """The state with what is found inside, where the pilot just went in. One that is not where its state says, as a
    person resumed what is left of it, mounts again."""
    if not state.inside:
        return state
    if state.inside != own_mounts():
        return _outside(session, state)
    return state if state.outside is not None else measure_again(session, state)


def measure_again(session: Session, state: State) -> State:
    """The state with the facts of the probes that ask for it, as they are inside. ``outside`` keeps what they were
    where that is something else."""
    probes = [declared for declared in session.loaded.of("pilot_probes") if declared.record.again_inside]
    names = {name for declared in probes for name in declared.record.gives}
    others = {name: fact for name, fact in state.facts.items() if name not in names}
    found = gather(session, replace(state, facts=others, limits=()), STAGE, probes)
    told = {(limit.resource, limit.source) for limit in found.limits}
    kept = tuple(limit for limit in state.limits if (limit.resource, limit.source) not in told)
    found = replace(found, limits=(*kept, *found.limits)).with_resolved_limits()
    inside = {name: replace(fact, where="inside") for name, fact in found.facts.items() if name in names}
    outside = {name: fact for name, fact in state.facts.items() if name in inside and _differ(fact, inside[name])}
    return replace(found, facts=found.facts | inside, outside=outside)


def _outside(session: Session, state: State) -> State:
    mounted = {name for declared in session.loaded.of("pilot_mounts") for name in declared.record.gives}
    finished = tuple(name for name in state.finished_stages if name != STAGE)
    kept = {name: replace(fact, where="node") for name, fact in state.facts.items() if name not in mounted}
    facts = kept | (state.outside or {})
    return replace(state, inside="", outside=None, facts=facts, finished_stages=finished)


def _differ(one: Fact, other: Fact) -> bool:
    return (one.value, one.status) != (other.value, other.status)
