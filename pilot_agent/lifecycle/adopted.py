"""The guardian's note of whatever the keeper is the parent of: jobs' processes that escaped come there.

Once guardian and keeper are both dead such a process belongs to the node's first process, and with another session, an
empty environment and nothing of the workspace open nobody could tell whose it was.
"""

from __future__ import annotations

import os

from pilot_agent.files import read_bounded, write_json
from pilot_agent.lifecycle.identity import Identity, identify
from pilot_agent.lifecycle.processes import children
from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.workspace import Workspace

LOOK_SECONDS = 5.0
MOST = 10_000


class Adopted:
    """Keeps the note of one pilot."""

    __slots__ = ("_noted",)

    def __init__(self) -> None:
        self._noted: dict[int, Identity] = {}

    def others(self, parent: int) -> list[int]:
        """The children of ``parent`` and of this process; none if all of them are noted."""
        pids = [pid for pid in (*children(parent), *children(os.getpid())) if pid != parent][:MOST]
        return [] if all(pid in self._noted for pid in pids) else pids

    def look(self, workspace: Workspace, parent: int) -> None:
        """Note the children of ``parent`` and of this process, if others came. What cannot be written is tried again
        with the next one."""
        pids = self.others(parent)
        if not pids:
            return
        found = {pid: identity for pid in pids if (identity := identify(pid)) is not None}
        try:
            write_json(workspace.adopted, [identity.to_json() for identity in found.values()])
        except OSError:
            return
        self._noted = found


def read_adopted(workspace: Workspace) -> list[Identity]:
    """What was noted; what cannot be read is left out."""
    try:
        noted = loads(read_bounded(workspace.adopted, limit_bytes=4 << 20))
        return [Identity.from_json(each) for each in noted]
    except (OSError, ValueError, KeyError, TypeError):
        return []
