"""Machine/Job Features: what a site tells every job in small files, or at an address, whatever its batch system.

HSF-TN-2016-02: ``$MACHINEFEATURES`` and ``$JOBFEATURES`` name a directory or an http(s) address; every feature is one
file with one value below it, and all but a few may be missing. ``max_rss_bytes`` is called ``mem_limit_bytes`` by some
sites. Directories are read by everyone who asks for allocations; addresses are fetched by the batch probe only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot_agent.model import Json
from pilot_agent.probes.batch.batch_job import Allocation, Bound, bound, bounds, unread
from pilot_agent.probes.batch.named_paths import reachable
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

SYSTEM = "mjf"
MACHINE, JOB = "MACHINEFEATURES", "JOBFEATURES"
KEYS: Mapping[str, tuple[str, ...]] = {
    MACHINE: ("total_cpu", "hs06", "shutdowntime", "grace_secs"),
    JOB: (
        *("allocated_cpu", "hs06_job", "shutdowntime_job", "grace_secs_job", "jobstart_secs", "job_id"),
        *("wall_limit_secs", "cpu_limit_secs", "max_rss_bytes", "max_swap_bytes", "scratch_limit_bytes"),
        "mem_limit_bytes",
    ),
}
FETCH_SECONDS = 4.0
_ONE_FETCH_SECONDS = 2.0
_LIMIT_BYTES = 1024
_VALUE = r"[A-Za-z0-9_.:@\[\]+-]{1,200}"
# Where nothing says how much time jobs get, one that starts now would still be cut within this.
_DEFAULT_GRACE_SECONDS = 1800
_TIMES = ("jobstart_secs", "wall_limit_secs")


@dataclass(frozen=True, slots=True)
class Features:
    """The features that are set, by variable and name, as written; ``problem`` says why some could not be had."""

    machine: Mapping[str, str] = field(default_factory=dict)
    job: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    problem: str = ""

    @property
    def told(self) -> bool:
        """True when any feature is set."""
        return bool(self.machine or self.job)

    def number(self, name: str) -> int | None:
        """A feature as a whole number; None when it is missing or none."""
        return parse_integer(self.job.get(name) or self.machine.get(name))


def is_address(text: str) -> bool:
    """True for what is to be fetched and not read."""
    return text.startswith(("http://", "https://"))


def read_features(node: Node, environment: Mapping[str, str]) -> Features:
    """The features in the directories that the variables name; addresses are left alone."""
    found: dict[str, dict[str, str]] = {MACHINE: {}, JOB: {}}
    for variable, keys in KEYS.items():
        directory = environment.get(variable, "").rstrip("/")
        if reachable(node, directory):
            present = set(node.names(directory)).intersection(keys)
            values = {name: node.read_line(f"{directory}/{name}") or "" for name in keys if name in present}
            found[variable] = _good(values)
    source = " and ".join(variable for variable, values in found.items() if values)
    return Features(found[MACHINE], found[JOB], source)


def fetch_features(node: Node, environment: Mapping[str, str]) -> Features:
    """The features at the addresses that the variables name: fetched directly, without redirects, within 4 s.

    They are fetched in a child; a server that does not answer costs its deadline and is told in ``problem``.
    """
    addresses = {name: environment[name].rstrip("/") for name in KEYS if is_address(environment.get(name, ""))}
    if not addresses:
        return Features()
    answer = node.ask("machine and job features", lambda: _fetch_all(addresses), seconds=FETCH_SECONDS)
    value = answer.value if isinstance(answer.value, dict) else {}
    fetched = {name: _good(value.get(name)) for name in KEYS}
    problem = answer.problem or str(value.get("problem") or "")
    return Features(fetched[MACHINE], fetched[JOB], " and ".join(addresses), problem)


def merged(read: Features, fetched: Features) -> Features:
    """What directories and addresses hold together, as one of the two variables may name a directory."""
    source = " and ".join(part for part in (read.source, fetched.source) if part)
    return Features({**read.machine, **fetched.machine}, {**read.job, **fetched.job}, source, fetched.problem)


def features_allocation(features: Features) -> Allocation | None:
    """What the features say of the job as an allocation beside that of its batch system; None when nothing is set."""
    if not features.told:
        return None
    start, walltime = features.number("jobstart_secs"), features.number("wall_limit_secs")
    ends = bounds(
        (features.number("shutdowntime"), f"{MACHINE} shutdowntime"),
        (features.number("shutdowntime_job"), f"{JOB} shutdowntime_job"),
    )
    return Allocation(
        system=SYSTEM,
        job_id=features.job.get("job_id"),
        names_job=False,
        ends=ends,
        start_time=bound(start, f"{JOB} jobstart_secs"),
        walltime_seconds=Bound(walltime, f"{JOB} wall_limit_secs") if walltime else None,
        cores=bounds((features.number("allocated_cpu"), f"{JOB} allocated_cpu")),
        memory_mib=bounds(
            (_mib(features, "max_rss_bytes"), f"{JOB} max_rss_bytes"),
            (_mib(features, "mem_limit_bytes"), f"{JOB} mem_limit_bytes"),
        ),
        disk_mib=bounds((_mib(features, "scratch_limit_bytes"), f"{JOB} scratch_limit_bytes")),
        unread=unread(
            (features.machine.get("shutdowntime"), f"{MACHINE} shutdowntime"),
            *((features.job.get(name), f"{JOB} {name}") for name in ("shutdowntime_job", *_TIMES)),
        ),
    )


def features_value(features: Features) -> dict[str, Json]:
    """The features as the fact ``batch.features`` holds them."""
    return {
        kind: {key: _value(text) for key, text in sorted(values.items())}
        for kind, values in (("machine", features.machine), ("job", features.job))
    }


def _value(text: str) -> Json:
    """A feature as a number where it is one."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,15}", text) else text


def shuts_down(features: Features, now: float | None) -> tuple[bool, str] | None:
    """Whether the machine or the job is about to end, and the announcement; None when none is made.

    An announced time is at least the grace time after its announcement, so some sites announce one from the start: it
    counts once no more than the grace time is left (or half an hour, without one). Without a clock it counts at once.
    """
    announced = [
        (features.number(name), features.number(grace), name)
        for name, grace in (("shutdowntime", "grace_secs"), ("shutdowntime_job", "grace_secs_job"))
    ]
    judged = [
        (now is None or time - now <= (grace if grace is not None else _DEFAULT_GRACE_SECONDS), time, name)
        for time, grace, name in announced
        if time
    ]
    if not judged:
        return None
    drains, time, name = min(judged, key=lambda each: (not each[0], each[1]))
    return drains, f"{name} is {time}"


def _mib(features: Features, name: str) -> int | None:
    number = features.number(name)
    return None if number is None else number >> 20


def _good(values: Json) -> dict[str, str]:
    """The values that look like one: a word, not empty; everything else is as if it were not set."""
    if not isinstance(values, dict):
        return {}
    return {
        str(name): value for name, value in values.items() if isinstance(value, str) and re.fullmatch(_VALUE, value)
    }


def _fetch_all(addresses: Mapping[str, str]) -> Json:
    """Every feature at the addresses; the first server that cannot be reached ends it."""
    import urllib.error
    import urllib.request

    class _NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_words: object, **_named: object) -> None:
            return None

    # Without a proxy: the address is the site's own, often one that only this machine can reach.
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
    found: dict[str, dict[str, str]] = {name: {} for name in addresses}
    for variable, address in addresses.items():
        for key in KEYS[variable]:
            try:
                with opener.open(f"{address}/{key}", timeout=_ONE_FETCH_SECONDS) as answer:
                    found[variable][key] = answer.read(_LIMIT_BYTES).decode("utf-8", "replace").strip()
            except urllib.error.HTTPError as error:
                # What is not set is not there; anything else is a server that does not do what it should.
                error.close()
                if error.code not in (403, 404, 410):
                    return found | {"problem": f"${variable}: the server answered {error.code} for {key}"}
            except (OSError, ValueError) as error:
                return found | {"problem": f"${variable}: {getattr(error, 'reason', None) or error}"}
    return found
