"""The order in which declared things run: by what they need of each other, and never by numbers."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from pilot_agent.collect import Declared
from pilot_agent.model import Failure, FailureKind, PilotError


def key_of(task: Declared) -> str:
    """By which a task is told from all others."""
    return f"{task.plugin}/{task.record.name}"


def needs_order(tasks: Sequence[Declared]) -> TopologicalSorter[str]:
    """The needs among ``tasks``: by name (before, after) and by the facts they require and give."""
    givers: dict[str, list[str]] = {}
    named: dict[str, list[str]] = {}
    for task in tasks:
        named.setdefault(task.record.name, []).append(key_of(task))
        for fact in getattr(task.record, "gives", ()):
            givers.setdefault(fact, []).append(key_of(task))
    order: TopologicalSorter[str] = TopologicalSorter()
    for task in tasks:
        needs = [key for fact in getattr(task.record, "requires", ()) for key in givers.get(fact, [])]
        earlier = (*task.record.after, *getattr(task.record, "needs", ()))
        needs += [key for name in earlier for key in named.get(name, [])]
        order.add(key_of(task), *(key for key in needs if key != key_of(task)))
        for name in task.record.before:
            for later in named.get(name, []):
                order.add(later, key_of(task))
    try:
        order.prepare()
    except CycleError as error:
        raise PilotError(_circle(error.args[1], tasks)) from error
    return order


def _circle(keys: Sequence[str], tasks: Sequence[Declared]) -> Failure:
    circle = " -> ".join(keys)
    named = [task for task in tasks if key_of(task) in keys]
    if all(task.builtin and task.hook != "pilot_probes" for task in named):  # the configuration declares those
        message = f"needs, after and before of the configuration form a circle: {circle}"
        return Failure(FailureKind.CONFIG, "config.invalid", message, "take one of these out of it")
    return Failure(FailureKind.CORRUPTION, "plugin.cycle", f"the needs of plugins form a circle: {circle}")


def ordered(tasks: Sequence[Declared]) -> list[Declared]:
    """Declarations in the order in which they would run; those that name no needs as they were declared."""
    return in_order(tasks) if all(hasattr(task.record, "after") for task in tasks) else list(tasks)


def in_order(tasks: Sequence[Declared]) -> list[Declared]:
    """The tasks one after another, each after what it needs. Raises ``PilotError`` (plugin.cycle)."""
    order = needs_order(tasks)
    by_key = {key_of(task): task for task in tasks}
    listed: list[Declared] = []
    while order.is_active():
        ready = order.get_ready()
        listed += [by_key[key] for key in ready]
        order.done(*ready)
    return listed
