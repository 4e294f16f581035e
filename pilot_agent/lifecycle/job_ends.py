"""How the jobs of this pilot ended, read from HTCondor's startd history while it grows.

What the ads say was seen with HTCondor 23.9: a starter that could not begin a job leaves an ad without ``JobState``; a
job that was removed, held or vacated has one, but no ticket of execution (``ToE``) of this run; a hook that refused a
job leaves ``STARTER_DISCONNECTED_FROM_SUBMIT_NODE``, and files that could not be brought no ``ScratchDirFileCount``.
Most of an ad comes from users: it is cut, bounded, and believed only as far as it can do no harm.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 1 << 20
"""Read in one look; more than that behind, the oldest is passed over."""
LONGEST_AD = 1 << 20
LONGEST_VALUE = 512
FINE, FAILED, NOT_STARTED, SAYS_NOTHING = "fine", "failed", "not started", "says nothing"
_OWN_ACCORD = '"OF_ITS_OWN_ACCORD"'
_WANTED = frozenset(
    (b"clusterid", b"procid", b"globaljobid", b"user", b"jobstate", b"jobduration", b"jobstartdate", b"exitcode",
     b"exitbysignal", b"exitsignal", b"toe", b"scratchdirfilecount", b"starter_disconnected_from_submit_node")
)  # fmt: skip


class JobEnd:
    """One end: the job and its cluster by names that hold for all access points, its user, one of the four endings, how
    long it ran, and in words how it ended."""

    __slots__ = ("cluster", "ending", "how", "job", "seconds", "user")

    def __init__(self, job: str, cluster: str, user: str, ending: str, seconds: float, how: str) -> None:
        self.job = job
        self.cluster = cluster
        self.user = user
        self.ending = ending
        self.seconds = seconds
        self.how = how


class HistoryTail:
    """What was added to a history file since the last look; from the beginning of another one after a rotation."""

    __slots__ = ("_inode", "_offset", "_path", "_rest")

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0
        self._rest = b""

    def read(self) -> list[JobEnd]:
        """The ends since the last call. A file that is missing or unreadable has none; never raises for content."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return []
        try:
            status = os.fstat(descriptor)
            if status.st_ino != self._inode or status.st_size < self._offset:
                self._inode, self._offset, self._rest = status.st_ino, 0, b""
            if status.st_size - self._offset > MOST_BYTES:
                self._offset, self._rest = status.st_size - MOST_BYTES, b""
            content = os.pread(descriptor, MOST_BYTES, self._offset)
        except OSError:
            return []
        finally:
            os.close(descriptor)
        self._offset += len(content)
        text = self._rest + content
        # A line of stars ends an ad; the last one may be only half there.
        stars = text.rfind(b"\n***", 0, text.rfind(b"\n"))
        end = text.find(b"\n", stars + 1) + 1 if stars >= 0 else 0
        self._rest = text[end:] if len(text) - end <= LONGEST_AD else b""
        whole = text[:end]
        return list(parse_ends(whole))


def parse_ends(content: bytes) -> Iterator[JobEnd]:
    """The ends in whole ads, each followed by its line of stars."""
    values: dict[bytes, str] = {}
    for line in (content + b"\n***").split(b"\n"):
        if line.startswith(b"***"):
            end = _end(values)
            if end is not None:
                yield end
            values = {}
            continue
        name, equals, value = line.partition(b"=")
        key = name.strip().lower()
        if equals and key in _WANTED:
            values[key] = value[:LONGEST_VALUE].strip().decode("utf-8", "replace")


def _end(values: dict[bytes, str]) -> JobEnd | None:
    cluster, process = values.get(b"clusterid", ""), values.get(b"procid", "")
    if not (cluster.isdigit() and process.isdigit()):
        return None
    schedd = values.get(b"globaljobid", "").strip('"').partition("#")[0]
    ending, how = _ending(values)
    return JobEnd(
        job=f"{schedd}#{cluster}.{process}",
        cluster=f"{schedd}#{cluster}",
        user=values.get(b"user", ""),
        ending=ending,
        seconds=_number(values.get(b"jobduration", "")),
        how=how,
    )


def _ending(values: dict[bytes, str]) -> tuple[str, str]:
    if values.get(b"jobstate", "") != '"Exited"':
        refused = values.get(b"starter_disconnected_from_submit_node", "false").lower() == "true"
        if refused or b"scratchdirfilecount" not in values:
            return SAYS_NOTHING, ""
        return NOT_STARTED, "not started"
    ticket = _ticket(values.get(b"toe", ""))
    # The ticket of an earlier run of the job comes along with its ad. Times in ads are whole seconds.
    if (
        ticket.get("How") != _OWN_ACCORD
        or _number(ticket.get("When", "")) < _number(values.get(b"jobstartdate", "")) - 1
    ):
        return SAYS_NOTHING, ""
    by_signal = values.get(b"exitbysignal", "").lower() == "true"
    code = values.get(b"exitsignal" if by_signal else b"exitcode", "")
    if not code.lstrip("-").isdigit():
        return SAYS_NOTHING, ""
    if code == "0" and not by_signal:
        return FINE, "exit 0"
    return FAILED, f"{'signal' if by_signal else 'exit'} {code[:11]}"


def _ticket(text: str) -> dict[str, str]:
    """The members of a nested ad without texts that have a semicolon, which the starter's tickets have not."""
    members = (member.partition("=") for member in text.strip("[] ").split(";"))
    return {name.strip(): value.strip() for name, equals, value in members if equals}


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if 0 <= number < 1e11 else 0.0
