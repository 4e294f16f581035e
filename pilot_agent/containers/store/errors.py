"""The one error of the image store: what happened, who must act, and whether the same could work elsewhere."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.model import FailureKind

# The values of FailureKind: importing it costs more than all that a job pays for an image that is already there.
CONFIG = "config"
CORRUPTION = "corruption"
CREDENTIAL = "credential"
NETWORK = "network"
NODE = "node_resource"

NO_HOLDER = "store.no_holder"
"""The code for a process that is gone: nothing is wrong with the image."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class StoreError(Exception):
    """An image cannot be had. ``temporary``: the job goes elsewhere; otherwise its owner must change something."""

    def __init__(self, code: str, kind: str, message: str, hint: str, *, temporary: bool) -> None:
        super().__init__(message)
        self.code = code
        self.kind_name = kind
        self.message = message
        self.hint = hint
        self.temporary = temporary

    @property
    def kind(self) -> FailureKind:
        """Who must act."""
        from pilot_agent.model import FailureKind

        return FailureKind(self.kind_name)

    def to_json(self) -> dict[str, Any]:
        """Code, kind, message, hint and temporary."""
        return {
            "code": self.code,
            "kind": self.kind_name,
            "message": self.message,
            "hint": self.hint,
            "temporary": self.temporary,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StoreError:
        """The error that ``to_json`` described."""
        return cls(data["code"], data["kind"], data["message"], data["hint"], temporary=bool(data["temporary"]))


class RecentFailureError(StoreError):
    """What was found a moment ago and counts until ``seconds_left`` are over: temporary, whatever it was."""

    def __init__(self, error: StoreError, message: str, seconds_left: int) -> None:
        super().__init__(error.code, error.kind_name, message, error.hint, temporary=True)
        self.seconds_left = seconds_left


def of_the_system(error: OSError, what: str) -> StoreError:
    """What an error of the operating system means while ``what`` was done in the store."""
    message = f"{what}: {error.strerror or error}"
    if error.errno in _FULL:
        hint = "the site frees space or raises the quota of the file system that has containers.store_directory"
        return StoreError("disk.full", NODE, message, hint, temporary=True)
    if error.errno in _NO_LOCKS:
        hint = "the file system gives no locks: the site names a local directory in containers.store_directory"
        return StoreError("store.no_locks", NODE, message, hint, temporary=True)
    hint = "the site looks at the file system that has containers.store_directory"
    return StoreError("store.unusable", NODE, message, hint, temporary=True)
