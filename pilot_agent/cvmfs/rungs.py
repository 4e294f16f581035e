"""Whether a node allows each way to CVMFS: pure judgements over what the probes and the mount stage found.

What each way needs: the modes of cvmfsexec (README, "cvmfsexec package"), singcvmfs (the same), the user guide of
Apptainer ("FUSE mounts"). A refusal ends with who must change what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.containers.negotiation import negotiate
from pilot_agent.facts import known_value
from pilot_agent.model import Fact, FactStatus, Json
from pilot_agent.probes.kernel.fuse_kernels import mounts_for_all

MACHINES = ("x86_64", "aarch64", "ppc64le")
"""For which the client is built; the rest of a platform is decided by trying it."""
MOST_NAMED = 8

PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@-]*")
_SITE_MOUNTS = "the site installs CVMFS's own client and mounts them at /cvmfs"


@dataclass(frozen=True, slots=True)
class Judged:
    """``allowed`` is None where nobody can tell; ``reason`` says what was found and, of a refusal, who must change
    what. ``partial``: not everything that is wanted can be had so, but something, ``answering`` repositories."""

    allowed: bool | None
    reason: str
    partial: bool = False
    answering: int = 0


@dataclass(frozen=True, slots=True)
class Grounds:
    """What is judged: the facts, the whole configuration, and the workspace of the pilot where it has one."""

    facts: Mapping[str, Fact]
    config: Mapping[str, Json]
    workspace: str | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """The repositories that the configuration names."""
        return tuple(dict.fromkeys(self.config["cvmfs"]["repositories"]))

    def value(self, name: str) -> Json:
        """The value of a known fact, else None."""
        return known_value(self.facts, name)

    def entries(self, name: str) -> list[Mapping[str, Json]]:
        """The objects in the list of a known fact."""
        value = self.value(name)
        return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list | tuple) else []

    def why(self, name: str) -> str:
        """What the fact says beside its value, or why it has none."""
        fact = self.facts.get(name)
        return "it was not looked at" if fact is None else fact.detail or f"{name} says no more"

    def forbidden_by(self, *names: str) -> str:
        """What the first of these facts that is false says; empty when none is."""
        return next((self.why(name) for name in names if self.value(name) is False), "")


def judge_native(grounds: Grounds) -> Judged:
    """What the site has mounted: it does where every repository that is named answers, or without names any."""
    answering, wanted = grounds.value("cvmfs.repositories"), grounds.wanted
    if not isinstance(answering, list):
        return Judged(None, f"whether repositories answer is not known: {grounds.why('cvmfs.repositories')}")
    refused = {str(entry.get("repository")): str(entry.get("reason")) for entry in grounds.entries("cvmfs.refused")}
    if not wanted and answering:
        return Judged(True, f"{_listed(answering)} at /cvmfs {'answers' if len(answering) == 1 else 'answer'}")
    if not wanted and not refused:
        return Judged(False, "no repository is named (cvmfs.repositories) and none is mounted at /cvmfs")
    there = [name for name in wanted if name in answering]
    missing = [name for name in wanted or refused if name not in answering]
    if not missing:
        return Judged(True, f"all of {_listed(wanted)} answer at /cvmfs")
    place = grounds.facts.get("cvmfs.mount_point")
    if place is not None and place.status is FactStatus.ABSENT:
        return Judged(False, f"{place.detail}; {_SITE_MOUNTS}")
    told = by_reason({name: refused.get(name, "not looked at") for name in missing})
    count = f"{len(there)} of {len(wanted) or len(missing)} answer"
    return Judged(False, f"{count}; {told}", partial=bool(there), answering=len(there))


def judge_namespace(grounds: Grounds) -> Judged:
    """cvmfsexec in a user and mount namespace (its mode 3), in which /cvmfs is real for all that the pilot starts."""
    hindered = _hindrance(grounds)
    if hindered:
        return Judged(False, hindered)
    mounted = _mounted_inside(grounds)
    if not mounted.allowed:
        return _with_client(mounted, grounds)
    reason = f"{mounted.reason}; {_way_out(grounds)}"
    if grounds.value("userns.pid_proc") is False:
        reason += "; without a PID namespace, so that what a killed client leaves must be looked for"
    return _with_client(Judged(True, reason), grounds)


def judge_fusermount(grounds: Grounds) -> Judged:
    """mountrepo, which mounts through fusermount (mode 1) in the workspace; containers see it at /cvmfs."""
    hindered = _hindrance(grounds) or _uncontained(grounds)
    if not hindered and not grounds.config["containers"]["bind_cvmfs"]:
        hindered = "containers.bind_cvmfs is false, so that no container would see the mounts at /cvmfs"
    if hindered:
        return Judged(False, hindered)
    helper, name = grounds.facts.get("fuse.helper"), "fuse.helper_mount"
    if grounds.value(name) is True:
        through = helper.value if helper is not None and helper.known else "fusermount"
        only = "; only jobs in containers see it at /cvmfs" if _containers(grounds) != "REQUIRED" else ""
        allowed = Judged(True, f"FUSE mounts work through {through}{only}; {_way_out(grounds)}")
        return _with_client(allowed, grounds)
    forbidden = grounds.forbidden_by(name, "fuse.device", "fuse.usable")
    if not forbidden and helper is not None and helper.status is FactStatus.ABSENT:
        forbidden = f"{helper.detail}; the site installs the package fuse3"
    if forbidden:
        return Judged(False, forbidden)
    unknown = Judged(None, f"whether FUSE works through fusermount is not known: {grounds.why(name)}")
    return _with_client(unknown, grounds)


def judge_container(grounds: Grounds) -> Judged:
    """The client inside each job's container (mode 4, Apptainer's ``--fusemount``)."""
    hindered = _hindrance(grounds) or _uncontained(grounds)
    # A setuid Apptainer needs the device alone: no fusermount, and no user namespace, which fuse.usable asks for.
    if not hindered and grounds.value("fuse.device") is not True:
        hindered = grounds.forbidden_by("fuse.device", "fuse.usable")
    if hindered:
        return Judged(False, hindered)
    found = grounds.facts.get("software.apptainer")
    if found is not None and found.status is FactStatus.ABSENT:
        return Judged(False, f"{found.detail}; the site installs Apptainer")
    runtimes = grounds.entries("software.apptainer")
    if not runtimes:
        return Judged(None, f"which container runtime there is is not known: {grounds.why('software.apptainer')}")
    able = [entry for entry in runtimes if _allows_fuse(entry)]
    if not able:
        configs = ", ".join(dict.fromkeys(str(entry.get("config_path")) for entry in runtimes))
        return Judged(False, f"enable fusemount = no; the site says yes in {configs}")
    setuid = next((entry for entry in able if entry.get("mode") == "setuid"), None)
    if setuid is not None:
        return Judged(True, f"{setuid.get('path')} is setuid and mounts FUSE in containers; {_way_out(grounds)}")
    mounted = _mounted_inside(grounds)
    if not mounted.allowed:
        return mounted
    return Judged(True, f"{able[0].get('path')} and {mounted.reason}; {_way_out(grounds)}")


def _mounted_inside(grounds: Grounds) -> Judged:
    """Whether this account can mount FUSE in a user namespace."""
    name = "fuse.userns_mount"
    if grounds.value(name) is True:
        return Judged(True, "FUSE mounts work in a user namespace")
    forbidden = grounds.forbidden_by(name, "userns.usable", "fuse.device", "fuse.usable")
    kernel = grounds.value("os.kernel")
    if not forbidden and isinstance(kernel, str) and mounts_for_all(kernel) is False:
        forbidden = f"the kernel {kernel} has no FUSE in user namespaces (4.18, or EL7's 3.10.0-1127); the site updates"
    if forbidden:
        return Judged(False, forbidden)
    return Judged(None, f"whether FUSE works in a user namespace is not known: {grounds.why(name)}")


def _hindrance(grounds: Grounds) -> str:
    """What is in the way of any mount of the pilot's own; empty when nothing is known to be."""
    if not grounds.wanted:
        return "there is nothing to mount; the VO names repositories in cvmfs.repositories"
    machine = grounds.value("os.arch")
    if isinstance(machine, str) and machine not in MACHINES:
        return f"the client is built for {', '.join(MACHINES)}, and this node is {machine}; {_SITE_MOUNTS}"
    return _misplaced(grounds) or _cut_off(grounds)


def _with_client(judged: Judged, grounds: Grounds) -> Judged:
    """The same, but refused where there is nothing to mount with: what the node itself forbids is told first."""
    settings = grounds.config["cvmfs"]
    if judged.allowed is False or settings["distribution"] or settings["distributions"]:
        return judged
    change = "the factory names one, made by cvmfsexec's makedist, in cvmfs.distribution, or published ones in "
    change += "cvmfs.distributions"
    return Judged(False, f"the pilot has no client of CVMFS; {change}")


def _misplaced(grounds: Grounds) -> str:
    """Why client and cache cannot lie where the workspace is, or would be."""
    scratch = next((entry for entry in grounds.entries("disk.candidates") if entry.get("usable") is True), None)
    path = grounds.workspace or (str(scratch.get("path")) if scratch is not None else "")
    change = "the site puts another directory first in site.scratch"
    if not PLAIN_PATH.fullmatch(path):
        return f"cvmfsexec cannot work in {path}, a path with blanks, quotes or the like; {change}"
    if scratch is not None and scratch.get("shared") is True:
        kind = scratch.get("type") or "a shared file system"
        return f"the cache must be on a disk of the node, and {scratch.get('path')} is on {kind}; {change}"
    return ""


def _cut_off(grounds: Grounds) -> str:
    """Why no server of CVMFS would be reached: every proxy was tried in vain, and so was every endpoint."""
    if grounds.value("network.outbound") is not False or not grounds.value("network.proxies"):
        return ""
    proxy = grounds.facts.get("network.proxy")
    if proxy is None or proxy.status is not FactStatus.ABSENT:
        return ""
    return f"{proxy.detail}, and nothing is reached without one; the site repairs its squid or names one that works"


def _way_out(grounds: Grounds) -> str:
    proxy = grounds.value("network.proxy")
    return f"its data come through {proxy}" if proxy else "no proxy is known to work, its data come straight"


def _containers(grounds: Grounds) -> str:
    return negotiate(grounds.config["vo"]["containers"], grounds.config["site"]["containers"]).decision


def _uncontained(grounds: Grounds) -> str:
    """Why no job would be in a container, in which alone these mounts are at /cvmfs."""
    if _containers(grounds) not in ("NEVER", "DISABLE", "FAIL"):
        return ""
    change = "the VO changes vo.containers, or the site site.containers"
    return f"only jobs in containers would see it at /cvmfs, and the pilot puts none into one here; {change}"


def _allows_fuse(runtime: Mapping[str, Json]) -> bool:
    settings = runtime.get("config")
    return not isinstance(settings, Mapping) or settings.get("enable_fusemount") is not False


def _listed(names: Sequence[Json]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(str, names[:MOST_NAMED])) + more


def by_reason(told: Mapping[str, str]) -> str:
    """Each reason once, after the names that it is true of."""
    names: dict[str, list[Json]] = {}
    for name, reason in told.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{_listed(those)}: {reason}" for reason, those in names.items())
