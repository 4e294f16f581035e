"""What is known of one repository of CVMFS while jobs run: how it answered last, and what that says beside earlier
answers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

OK = "ok"
CALM_LOOKS = 5
"""After so many looks without a further input/output error it is well again."""
STALE_MINUTES = 10
"""A client renews its catalog when it expires, or says at once when it cannot; so long after that it is stuck."""
BEHIND_SECONDS = 3600.0
"""A client has a new revision minutes after it was published, when its catalog expires; so long after that, or twice as
long as the repository says that a catalog is good, it does not follow."""
NOT_TOLD = {"revision": 0, "io_errors": -1, "last_io_error": -1}
"""What OSG's pilots advertise for a repository that has no extended attributes, such as one exported by NFS."""


class Repository:
    """One repository. It answered when the pilot began, so ``state`` is ok at first."""

    __slots__ = ("_behind", "_calm", "_io_errors", "_missed", "_missed_since", "_own", "ad_name", "name", "numbers",
                 "reason", "stale", "state")  # fmt: skip

    def __init__(self, name: str, revision: int = 0) -> None:
        self.name = name
        self.ad_name = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
        """Its name in attributes: what is no letter or digit is an underscore."""
        self.state = OK
        """ok; hung, broken, io_error, missing or unreadable."""
        self.reason = ""
        self.stale = ""
        """Why what it serves may be old or incomplete although it answers; empty when nothing says so."""
        self.numbers: dict[str, int] = NOT_TOLD | {"revision": revision}
        self._io_errors: int | None = None
        self._calm = CALM_LOOKS
        self._own = ""
        self._behind = ""
        self._missed = 0
        self._missed_since = 0.0

    @property
    def down(self) -> bool:
        """It does not answer, or not as it should."""
        return self.state != OK

    def silent(self, seconds: float) -> None:
        """No answer came in so many seconds."""
        self.state, self.reason = "hung", f"does not answer within {seconds:g} s"

    def told(self, answer: Mapping[str, Any]) -> int:
        """It answered (``cvmfs.looking``). How many input/output errors there were since the last answer; their number
        only rises while a client lives, and begins again with the next one."""
        self.state, self.reason = str(answer.get("state", "unreadable")), str(answer.get("reason", ""))
        if self.down:
            return 0
        self.numbers = {key: _number(answer.get(key), absent) for key, absent in NOT_TOLD.items()}
        before, now = self._io_errors, self.numbers["io_errors"]
        self._io_errors = now if now >= 0 else None
        risen = max(0, now - before) if before is not None else 0
        self._calm = 0 if risen else self._calm + 1
        self._own = self._staleness(answer)
        if self.numbers["revision"] >= self._missed:
            self._missed, self._behind = 0, ""
        self.stale = self._own or self._behind
        return risen

    def published(self, answer: Mapping[str, Any], now: float) -> None:
        """What its server has published (``cvmfs.published``), at ``now`` of a clock that only goes on. The first
        revision that the client does not have counts until it does, also where newer ones come every minute."""
        there, served = _number(answer.get("revision"), 0), self.numbers["revision"]
        if served <= 0 or there <= served:
            self._missed, self._behind = 0, ""
        elif not self._missed:
            self._missed, self._missed_since = there, now - _number(answer.get("age"), 0)
        allowed = max(BEHIND_SECONDS, 2.0 * _number(answer.get("ttl"), 0))
        late = now - self._missed_since
        if self._missed and late > allowed:
            minutes = int(late / 60)
            self._behind = f"behind: it serves revision {served}, and {self._missed} was published {minutes} min ago"
        self.stale = self._own or self._behind

    def attributes(self) -> dict[str, Any]:
        """Its values for the ad, under the names that OSG's pilots use."""
        ad = f"CVMFS_{self.ad_name}"
        return {
            f"{ad}_REVISION": self.numbers["revision"],
            f"{ad}_NIOERR": self.numbers["io_errors"],
            f"{ad}_LAST_IOERR": self.numbers["last_io_error"],
        }

    def _staleness(self, answer: Mapping[str, Any]) -> str:
        if answer.get("offline") is True:
            return "offline: the client has no server, and serves what is in its cache"
        expires = _number(answer.get("expires"), 0)
        if expires < -STALE_MINUTES:
            return f"its catalog should have been renewed {-expires} min ago"
        if self._calm < CALM_LOOKS:
            return f"input/output errors, {self.numbers['io_errors']} so far"
        return ""


def _number(value: Any, absent: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else absent
