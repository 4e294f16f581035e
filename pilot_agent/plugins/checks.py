"""The checks every node gets: what a pilot cannot do without, and what a site would like to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent.hookspecs import Check, Context, hookimpl
from pilot_agent.model import CheckResult, CheckStatus, FailureKind, Json


@hookimpl
def pilot_checks(config: Mapping[str, Json]) -> Iterable[Check]:
    """One check each for user namespaces, FUSE and CVMFS."""
    yield Check(name="userns", run=f"{__name__}:check_userns", required=False)
    yield Check(name="fuse", run=f"{__name__}:check_fuse", required=False)
    if config["cvmfs"]["repositories"] and config["cvmfs"]["use"].lower() != "never":
        required = config["cvmfs"]["use"].lower() == "required"
        yield Check(name="cvmfs", run=f"{__name__}:check_cvmfs", required=required, kind=FailureKind.NODE_RESOURCE)


def check_userns(context: Context) -> CheckResult:
    """Whether an ordinary user may make user namespaces, which unprivileged containers need."""
    return _fact_check(context, "userns", "userns.usable", "unprivileged user namespaces")


def check_fuse(context: Context) -> CheckResult:
    """Whether an ordinary user may mount with FUSE, which SIF images and cvmfsexec need."""
    return _fact_check(context, "fuse", "fuse.usable", "FUSE mounts by ordinary users")


def check_cvmfs(context: Context) -> CheckResult:
    """Whether every configured repository answers."""
    wanted = context.config["cvmfs"]["repositories"]
    answering = context.value("cvmfs.repositories", [])
    missing = [repository for repository in wanted if repository not in answering]
    if not missing:
        return CheckResult("cvmfs", CheckStatus.PASS, f"all of {', '.join(wanted)} answer")
    refused = {entry["repository"]: entry["reason"] for entry in context.value("cvmfs.refused", [])}
    listed = "; ".join(f"{repository}: {refused.get(repository, 'not tried')}" for repository in missing)
    hint = "the site must mount /cvmfs, or the VO set cvmfs.use to preferred"
    return CheckResult("cvmfs", CheckStatus.FAIL, f"repositories that do not answer: {listed}", hint)


def _fact_check(context: Context, name: str, fact_name: str, what: str) -> CheckResult:
    fact = context.facts.get(fact_name)
    if fact is None or not fact.known:
        detail = fact.detail if fact else "not probed"
        return CheckResult(name, CheckStatus.WARN, f"it is not known whether {what} work: {detail}")
    if fact.value:
        return CheckResult(name, CheckStatus.PASS, f"{what} work")
    return CheckResult(name, CheckStatus.FAIL, f"{what} do not work: {fact.detail}", code=f"{name}.unusable")
