"""What the rungs have in common that the pilot takes itself: a private copy of the distribution, its client configured,
and what is told of the repositories that it mounted."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot_agent.calls import call
from pilot_agent.codec import from_json, to_json
from pilot_agent.cvmfs.distribution import Distribution, lay_out
from pilot_agent.cvmfs.rungs import Judged, by_reason
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.removal import NotOurs, remove_tree
from pilot_agent.model import Fact, Failure, FailureKind, Json, PilotError
from pilot_agent.process import Result

if TYPE_CHECKING:
    from pilot_agent.cvmfs.mounting import Mounted
    from pilot_agent.model import Where
    from pilot_agent.process import WakeUp

NAME = "cvmfs"
"""The directory of the distribution's copy in the workspace, or what it begins with."""
LAYOUT_SECONDS = 120.0
REMOVAL_SECONDS = 10.0
MOST_PLACES = 64
_FAULTS = (FailureKind.CONFIG, FailureKind.NETWORK)

Tell = Callable[..., None]
"""Writes an event: (name, **data)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be mounted and with what: the distribution at ``source``, copied to the ``workspace``, whose client
    ``configure`` sets up (raises ``PilotError``), in the ``environment`` of the pilot's children."""

    source: str
    workspace: str
    repositories: tuple[str, ...]
    configure: Callable[[Distribution], None]
    environment: Mapping[str, str]
    tell: Tell
    wake: WakeUp | None = None


class OwnRung(ABC):
    """A rung for what is wished.

    Once it was tried in vain, ``fault`` is why, where not the node must change but its network, or who configured the
    pilot must act.
    """

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._wanted = tuple(dict.fromkeys(wish.repositories))
        self._place = ""
        self._mounted: tuple[Mounted, ...] = ()
        self._problem = ""
        self.fault: Failure | None = None

    def take(self) -> Judged:
        """Mount what is wanted; what came of it. Where nothing could be tried, nothing is left. Raises
        ``Interrupted``."""
        try:
            self._problem = self._mount()
        except PilotError as error:
            self._problem = f"{error.failure.message}; {error.failure.hint}"
            self.fault = error.failure if error.failure.kind in _FAULTS else None
        if self._problem:
            self.give_back()
            return Judged(False, self._problem)
        for one in self._mounted:
            data = {"repository": one.repository, "path": one.path, "seconds": one.seconds}
            if one.ok:
                self._wish.tell("cvmfs.mounted", revision=one.revision, **data)
            else:
                self._wish.tell("cvmfs.not_mounted", reason=one.reason, code=one.code, **data)
        return self._judged()

    @abstractmethod
    def facts(self) -> tuple[Fact, ...]:
        """The same facts as of what the site mounted; ``cvmfs.mount_point`` is where the mounts really are."""

    def refused(self) -> Mapping[str, str]:
        """Why each repository does not answer."""
        if not self._mounted:
            return dict.fromkeys(self._wanted, self._problem)
        return {one.repository: one.reason for one in self._mounted if not one.ok and one.repository in self._wanted}

    @abstractmethod
    def give_back(self) -> None:
        """Unmount it all, and remove the copy."""

    @abstractmethod
    def _mount(self) -> str:
        """Try every repository; why none could be tried. Raises ``PilotError``, ``Interrupted``."""

    @abstractmethod
    def _where(self) -> str:
        """Where they were mounted, for people."""

    def _facts(self, mount_point: str, *, source: str, where: Where = "node", detail: str = "") -> tuple[Fact, ...]:
        wanted = [one for one in self._mounted if one.repository in self._wanted]
        answering = [one.repository for one in wanted if one.ok]
        refused: list[Json] = [{"repository": one.repository, "reason": one.reason} for one in wanted if not one.ok]
        revisions = {one.repository: one.revision for one in wanted if one.ok and one.revision is not None}
        return (
            Fact("cvmfs.repositories", answering, source=source, where=where),
            Fact("cvmfs.refused", refused, source=source, where=where),
            Fact("cvmfs.revisions", revisions, source="extended attribute user.revision", where=where),
            Fact("cvmfs.mount_point", mount_point, source=source, where=where, detail=detail),
        )

    def _judged(self) -> Judged:
        there = [one.repository for one in self._mounted if one.ok and one.repository in self._wanted]
        if len(there) == len(self._wanted):
            return Judged(True, f"all of {', '.join(there)} were mounted {self._where()}", answering=len(there))
        count = f"{len(there)} of {len(self._wanted)} were mounted"
        return Judged(False, f"{count}; {by_reason(self.refused())}", partial=bool(there), answering=len(there))

    def _configured_copy(self) -> Distribution:
        """The pilot's own copy, in a directory of its own: what an attempt that was cut left stays apart from this one.
        Raises ``PilotError``, ``Interrupted``."""
        names = [NAME, *(f"{NAME}.{number}" for number in range(2, MOST_PLACES))]
        places = [os.path.join(os.path.realpath(self._wish.workspace), name) for name in names]
        self._place = next((place for place in places if not os.path.lexists(place)), places[-1])

        def work() -> Json:
            try:
                return {"root": lay_out(self._wish.source, self._place).root}
            except PilotError as error:
                return {"failure": to_json(error.failure)}

        # In a child, as the source may lie on a file system that hangs.
        told, ended = self._child(work, f"the copy of {self._wish.source}", LAYOUT_SECONDS)
        if "failure" in told:
            raise PilotError(from_json(Failure, told["failure"]))
        if not told:
            hint = "the site looks at the file systems of the workspace and of cvmfs.distribution"
            raise PilotError(Failure(FailureKind.NODE_RESOURCE, "cvmfs.layout", ended.explain(), hint, retry=True))
        distribution = Distribution(told["root"])
        self._wish.configure(distribution)  # here, as this process keeps the cache
        return distribution

    def _remove_copy(self) -> None:
        if not self._place:
            return
        try:
            remove_tree(self._place, Budget(REMOVAL_SECONDS), prefix=NAME)
        except NotOurs:  # somebody put something else there: the workspace's own removal tells
            return

    def _child(self, work: Callable[[], Json], name: str, seconds: float, *keep: int) -> tuple[dict[str, Any], Result]:
        """What ``work`` gives in a child that has the descriptors ``keep``; empty where it gave nothing."""
        called = call(work, name=name, deadline_seconds=seconds, keep=keep, wake=self._wish.wake)
        return (called.value if isinstance(called.value, dict) else {}), called.ended
