"""The ladder climbed: each rung that the pilot takes itself is tried in turn until one holds what facts promised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pilot_agent.cvmfs.ladder import Ladder
from pilot_agent.cvmfs.rungs import Judged
from pilot_agent.model import Fact, Failure, Json

CLIMB_LIMIT = 8
"""More than there are rungs."""


class Way(Protocol):
    """A rung that the pilot takes itself. Once it was tried in vain, ``fault`` is why, where not the node must change
    but its network, or who configured the pilot must act."""

    fault: Failure | None

    def take(self) -> Judged:
        """Mount what is wanted; what came of it. Raises ``Interrupted``."""
        ...

    def facts(self) -> tuple[Fact, ...]:
        """What is there now, under the names that the native rung gives."""
        ...

    def refused(self) -> Mapping[str, str]:
        """Why each repository that does not answer this way does not."""
        ...

    def give_back(self) -> None:
        """Unmount and remove it all."""
        ...


@dataclass(frozen=True, slots=True)
class Climbed:
    """The ladder with what became of each rung that was ``tried``, and the facts that are true now."""

    ladder: Ladder
    facts: tuple[Fact, ...] = ()
    tried: tuple[str, ...] = ()


def climb_up(
    ladder_of: Callable[[Mapping[str, Judged]], Ladder], ways: Mapping[str, Way], refused: Mapping[str, str]
) -> Climbed:
    """Take the rungs in ``ways`` as the ladder says, which ``ladder_of`` decides from what became of those before.

    ``refused`` says why each repository does not answer at /cvmfs. What was mounted and is not taken in the end is
    given back. Raises ``Interrupted``.
    """
    tried: dict[str, Judged] = {}
    for _ in range(CLIMB_LIMIT):
        ladder = ladder_of(tried)
        name = ladder.taken.name if ladder.taken is not None else ""
        if name not in ways or name in tried:
            break
        tried[name] = ways[name].take()
    for other in tried:
        if other != name:
            ways[other].give_back()
    if not tried:
        return Climbed(ladder)
    facts = ways[name].facts() if name in tried else (_refused_by_all(refused, ways, tried),)
    return Climbed(ladder, facts, tuple(tried))


def _refused_by_all(native: Mapping[str, str], ways: Mapping[str, Way], tried: Mapping[str, Judged]) -> Fact:
    """Why repositories answer neither at /cvmfs nor in any way that was tried."""
    refused = {name: ways[name].refused() for name in tried}
    told: list[Json] = []
    for repository in dict.fromkeys([*native, *(one for reasons in refused.values() for one in reasons)]):
        reasons = [native[repository]] if repository in native else []
        reasons += [f"by {name}: {refused[name].get(repository) or judged.reason}" for name, judged in tried.items()]
        told.append({"repository": repository, "reason": "; ".join(reasons)})
    return Fact("cvmfs.refused", told, source="stat and readdir below /cvmfs, and mountrepo")
