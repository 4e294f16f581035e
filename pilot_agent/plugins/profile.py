"""The built-in profile ``pilot``: what a node must offer before any VO asks for more.

``check`` applies it where there is no configuration; ``checks.profile`` or ``--profile`` decide otherwise. Clock and
network are checked for every pilot (plugin ``checks``), so they are not repeated here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pilot_agent.containers.selftest import Tried, try_runtimes
from pilot_agent.hookspecs import Check, Context, hookimpl
from pilot_agent.model import CheckResult, CheckStatus, FactStatus, Json
from pilot_agent.workspace import Workspace

PROFILE = "pilot"
WORKSPACE_MIB = 5120
MEMORY_PER_CORE_MIB = 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its check's name, the function that judges, and what it demands in words."""

    name: str
    function: str
    demands: str


RULES = (
    Rule("workspace", "check_workspace", f"{WORKSPACE_MIB} MiB free where the workspace would be"),
    Rule("memory", "check_memory", f"{MEMORY_PER_CORE_MIB} MiB of usable memory for every usable core"),
    Rule("runtime", "check_runtime", "a container runtime that runs a program, as the account that looks"),
)
"""The rules of the profile, in the order in which they are told."""


@hookimpl
def pilot_checks(config: Mapping[str, Json]) -> Iterable[Check]:
    """The rules, where the configuration asks for the profile."""
    if config["checks"]["profile"] == PROFILE:
        for rule in RULES:
            yield Check(name=rule.name, run=f"{__name__}:{rule.function}")


def check_workspace(context: Context) -> CheckResult:
    """Whether the workspace's file system has room."""
    free = context.value("disk.workspace_free_mib")
    if free is None:
        return _unknown("workspace", "disk.workspace_free_mib", context)
    if free >= WORKSPACE_MIB:
        return CheckResult("workspace", CheckStatus.PASS, f"{free} MiB are free for the workspace")
    fact = context.facts["disk.workspace_free_mib"]
    hint = f"the site frees space, or names a larger directory in site.scratch ({fact.source})"
    message = f"{free} MiB are free for the workspace, {WORKSPACE_MIB} are needed"
    return CheckResult("workspace", CheckStatus.FAIL, message, hint, code="disk.too_small")


def check_memory(context: Context) -> CheckResult:
    """Whether there is enough memory for the cores."""
    cores, memory = context.value("cpu.usable"), context.value("memory.usable_mib")
    if cores is None or memory is None:
        return _unknown("memory", "cpu.usable" if cores is None else "memory.usable_mib", context)
    needed = cores * MEMORY_PER_CORE_MIB
    if memory >= needed:
        return CheckResult("memory", CheckStatus.PASS, f"{memory:g} MiB for {cores:g} cores")
    source = context.facts["memory.usable_mib"].source
    message = f"{memory:g} MiB are usable ({source}), {needed:g} are needed for {cores:g} cores"
    hint = f"the site gives more memory, or fewer cores: site.cpus = {max(1, int(memory // MEMORY_PER_CORE_MIB))}"
    return CheckResult("memory", CheckStatus.FAIL, message, hint, code="memory.too_small")


def check_runtime(context: Context) -> CheckResult:
    """Whether some container runtime runs a program here; if none does, why."""
    if context.root.strip("/"):
        return _recorded_runtime(context)
    parent = Workspace(context.workspace).temporary if context.workspace else None
    containers = context.config["containers"]
    try:
        with tempfile.TemporaryDirectory(prefix="selftest-", dir=parent, ignore_cleanup_errors=True) as directory:
            tries = try_runtimes(
                containers["runtime"],
                context.environment,
                directory,
                order=containers["search"],
                condor_directory=context.config["startd"]["condor_directory"],
                repositories=tuple(context.value("cvmfs.repositories") or ()),
            )
            tried = list(tries)
    except OSError as error:
        message = f"no runtime can be tried: {error.strerror}"
        return CheckResult("runtime", CheckStatus.FAIL, message, "the site frees space", code="disk.full")
    return judge_runtimes(tried)


def _recorded_runtime(context: Context) -> CheckResult:
    """The verdict over a recording, in which nothing can be run: that there is none can be told all the same."""
    fact = context.facts.get("software.apptainer")
    if fact is not None and fact.status is FactStatus.ABSENT:
        return judge_runtimes(())
    told = "no container can be run on a recording of a node"
    if fact is None or not fact.known:
        return CheckResult("runtime", CheckStatus.SKIP, f"{told}: {fact.detail if fact else 'not probed'}")
    found = ", ".join(str(entry.get("path")) for entry in fact.value if isinstance(entry, dict))
    return CheckResult("runtime", CheckStatus.SKIP, f"{told}; it has {found}")


def judge_runtimes(tried: Iterable[Tried]) -> CheckResult:
    """The verdict over the runtimes that were tried, the last one the one that worked if any did."""
    listed = list(tried)
    if not listed:
        message = "there is no container runtime: neither apptainer nor singularity in any place of containers.search"
        hint = "the site installs Apptainer (package apptainer), or names one in containers.runtime"
        return CheckResult("runtime", CheckStatus.FAIL, message, hint, code="container.missing")
    last = listed[-1]
    refused = "; ".join(f"{one.path}: {one.problem}" for one in listed if one.problem)
    if not last.problem:
        also = f" (not {refused})" if refused else ""
        message = f"{last.path} {last.version} ran a program, {last.mode}{also}"
        return CheckResult("runtime", CheckStatus.PASS, message)
    return CheckResult("runtime", CheckStatus.FAIL, f"no container runtime works: {refused}", last.hint, code=last.code)


def _unknown(name: str, fact_name: str, context: Context) -> CheckResult:
    fact = context.facts.get(fact_name)
    why = fact.detail if fact else "not probed"
    message = f"{fact_name} is not known: {why}"
    return CheckResult(name, CheckStatus.FAIL, message, "the site makes it readable", code="resource.unknown")
