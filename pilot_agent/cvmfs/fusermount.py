"""The rung ``fusermount``: repositories mounted below the workspace by the account itself, for containers to bind at
/cvmfs (mode 1 of cvmfsexec)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pilot_agent.cvmfs.distribution import Distribution
from pilot_agent.cvmfs.mounting import in_order, mount, unmount
from pilot_agent.cvmfs.own_rung import OwnRung, Wish
from pilot_agent.lifecycle.spawn import find_program
from pilot_agent.model import Fact

if TYPE_CHECKING:
    from pilot_agent.lifecycle.journal import Journal


class Fusermount(OwnRung):
    """As ``OwnRung``; each mount is in the ``journal`` before it is there."""

    def __init__(self, wish: Wish, *, journal: Journal | None) -> None:
        super().__init__(wish)
        self._journal = journal
        self._distribution: Distribution | None = None
        self._entries: dict[str, int] = {}

    def facts(self) -> tuple[Fact, ...]:
        """The same facts as of what the site mounted; ``cvmfs.mount_point`` is where the mounts really are."""
        assert self._distribution is not None
        point = self._distribution.mount_point
        return self._facts(point, source=f"mountrepo and readdir below {point}", detail="only in containers")

    def give_back(self) -> None:
        """Unmount all of it, whoever still looks into it, and remove the distribution."""
        left: Mapping[str, str] = {}
        if self._distribution is not None:
            environment, wake = self._wish.environment, self._wish.wake
            left = unmount(self._distribution, self._wanted, environment=environment, lazy=True, wake=wake)
        for repository in [name for name in self._entries if name not in left]:
            self._close(repository)
        if not left:
            self._remove_copy()

    def _mount(self) -> str:
        self._distribution = distribution = self._configured_copy()
        try:
            self._record(distribution)
            self._mounted = mount(distribution, self._wanted, environment=self._wish.environment, wake=self._wish.wake)
        except OSError as error:
            return f"what is mounted cannot be recorded ({error.strerror}); the site frees space in the scratch"
        for one in self._mounted:
            if not one.ok:
                self._close(one.repository)
        return ""

    def _where(self) -> str:
        assert self._distribution is not None
        return f"at {self._distribution.mount_point}, which containers see at /cvmfs"

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
