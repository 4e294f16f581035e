"""The rung ``fusermount``: repositories mounted below the workspace by the account itself, for containers to bind at
/cvmfs (mode 1 of cvmfsexec)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_agent.codec import from_json, to_json
from pilot_agent.cvmfs.distribution import Distribution, lay_out
from pilot_agent.cvmfs.mounting import Mounted, in_order, mount, unmount
from pilot_agent.cvmfs.rungs import Judged, by_reason
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.removal import NotOurs, remove_tree
from pilot_agent.lifecycle.spawn import find_program
from pilot_agent.light import dumps, loads
from pilot_agent.model import Fact, Failure, FailureKind, PilotError
from pilot_agent.process import Runner

if TYPE_CHECKING:
    from pilot_agent.lifecycle.journal import Journal
    from pilot_agent.process import WakeUp

NAME = "cvmfs"
"""What the directory of the distribution begins with, in the workspace."""
LAYOUT_SECONDS = 120.0
REMOVAL_SECONDS = 10.0
MOST_PLACES = 64

Tell = Callable[..., None]
"""Writes an event: (name, **data)."""


class Fusermount:
    """The rung for these repositories, with the distribution that lies at ``source``; ``configure`` writes the settings
    of its client (raises ``PilotError``)."""

    def __init__(
        self,
        source: str,
        workspace: str,
        repositories: Sequence[str],
        *,
        configure: Callable[[Distribution], None],
        environment: Mapping[str, str],
        journal: Journal | None,
        tell: Tell,
        wake: WakeUp | None = None,
    ) -> None:
        self._source = source
        self._workspace = workspace
        self._wanted = tuple(repositories)
        self._configure = configure
        self._environment = environment
        self._journal = journal
        self._tell = tell
        self._wake = wake
        self._distribution: Distribution | None = None
        self._entries: dict[str, int] = {}
        self._mounted: tuple[Mounted, ...] = ()
        self._problem = ""

    def take(self) -> Judged:
        """Lay the distribution out and mount; what came of it. Raises ``Interrupted``."""
        try:
            self._distribution = self._laid_out()
            self._configure(self._distribution)
            self._record(self._distribution)
            self._mounted = mount(self._distribution, self._wanted, environment=self._environment, wake=self._wake)
        except PilotError as error:
            self._problem = f"{error.failure.message}; {error.failure.hint}"
            return Judged(False, self._problem)
        except OSError as error:
            self._problem = (
                f"what is mounted cannot be recorded ({error.strerror}); the site frees space in the scratch"
            )
            return Judged(False, self._problem)
        for one in self._mounted:
            self._told(one)
        return self._judged(self._distribution)

    def facts(self) -> tuple[Fact, ...]:
        """The same facts as of what the site mounted; ``cvmfs.mount_point`` is where the mounts really are."""
        assert self._distribution is not None
        source = f"mountrepo and readdir below {self._distribution.mount_point}"
        wanted = [one for one in self._mounted if one.repository in self._wanted]
        refused = [{"repository": one.repository, "reason": one.reason} for one in wanted if not one.ok]
        revisions = {one.repository: one.revision for one in wanted if one.ok and one.revision is not None}
        return (
            Fact("cvmfs.repositories", [one.repository for one in wanted if one.ok], source=source),
            Fact("cvmfs.refused", refused, source=source),
            Fact("cvmfs.revisions", revisions, source="extended attribute user.revision"),
            Fact("cvmfs.mount_point", self._distribution.mount_point, source=source, detail="only in containers"),
        )

    def refused(self) -> Mapping[str, str]:
        """Why each repository does not answer."""
        if not self._mounted:
            return dict.fromkeys(self._wanted, self._problem)
        return {one.repository: one.reason for one in self._mounted if not one.ok and one.repository in self._wanted}

    def give_back(self) -> None:
        """Unmount all of it, whoever still looks into it, and remove the distribution."""
        if self._distribution is None:
            return
        left = unmount(self._distribution, self._wanted, environment=self._environment, lazy=True, wake=self._wake)
        for repository in [name for name in self._entries if name not in left]:
            self._close(repository)
        if not left:
            try:
                remove_tree(self._distribution.root, Budget(REMOVAL_SECONDS), prefix=NAME)
            except NotOurs:  # somebody put something else there: the workspace's own removal tells
                return

    def _laid_out(self) -> Distribution:
        """In a child, as the source may lie on a file system that hangs. Raises ``PilotError``, ``Interrupted``."""
        source, place = self._source, self._place()

        def call() -> bytes:
            try:
                return dumps({"root": lay_out(source, place).root}).encode()
            except PilotError as error:
                return dumps({"failure": to_json(error.failure)}).encode()

        with Runner(self._wake) as runner:
            handle = runner.start_call(call, name=f"the copy of {source}", deadline_seconds=LAYOUT_SECONDS)
            ended = runner.wait(handle)
        answer: dict[str, Any] = loads(ended.answer) if ended.ok and ended.answer else {}
        if "root" in answer:
            return Distribution(answer["root"])
        if "failure" in answer:
            raise PilotError(from_json(Failure, answer["failure"]))
        hint = "the site looks at the file systems of the workspace and of cvmfs.distribution"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "cvmfs.layout", ended.explain(), hint, retry=True))

    def _place(self) -> str:
        """A directory of its own: what an attempt that was cut left stays apart from this one."""
        names = [NAME, *(f"{NAME}.{number}" for number in range(2, MOST_PLACES))]
        places = [os.path.join(self._workspace, name) for name in names]
        return next((place for place in places if not os.path.lexists(place)), places[-1])

    def _record(self, distribution: Distribution) -> None:
        """In the journal before it is there. Raises ``OSError``."""
        if self._journal is None:
            return
        helper = next((name for name in ("fusermount3", "fusermount") if find_program(name)), "fusermount3")
        for repository in in_order(distribution, self._wanted):
            point = distribution.point(repository)
            self._entries[repository] = self._journal.mount(point, [helper, "-u", point])

    def _close(self, repository: str) -> None:
        number = self._entries.pop(repository, None)
        if self._journal is not None and number is not None:
            try:
                self._journal.close(number)
            except OSError:  # the entry then names a mount that is not there, which nobody looks for
                return

    def _told(self, one: Mounted) -> None:
        data = {"repository": one.repository, "path": one.path, "seconds": one.seconds}
        if one.ok:
            self._tell("cvmfs.mounted", revision=one.revision, **data)
        else:
            self._close(one.repository)
            self._tell("cvmfs.not_mounted", reason=one.reason, code=one.code, **data)

    def _judged(self, distribution: Distribution) -> Judged:
        ok = [one.repository for one in self._mounted if one.ok and one.repository in self._wanted]
        if len(ok) == len(set(self._wanted)):
            where = f"at {distribution.mount_point}, which containers see at /cvmfs"
            return Judged(True, f"all of {', '.join(ok)} were mounted {where}", answering=len(ok))
        count = f"{len(ok)} of {len(set(self._wanted))} were mounted"
        return Judged(False, f"{count}; {by_reason(self.refused())}", partial=bool(ok), answering=len(ok))
