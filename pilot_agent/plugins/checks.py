"""The checks every node gets: what a pilot cannot do without, and what a site would like to know."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pilot_agent.hookspecs import Check, Context, hookimpl
from pilot_agent.model import CheckResult, CheckStatus, FactStatus, FailureKind, Json, PilotError
from pilot_agent.plugins.cvmfs import native_allowed, own_rungs_allowed
from pilot_agent.plugins.cvmfs import wishes as cvmfs_wishes
from pilot_agent.probes.network.targets import configured_targets
from pilot_agent.startd.artifacts import version_refusal
from pilot_agent.startd.discovery import find_condor
from pilot_agent.startd.token import read_token

CLOCK_WARN_SECONDS, CLOCK_SECONDS = 60, 300
"""Some token issuers allow a minute of difference, X.509 tools five; beyond that nothing that is signed is taken."""


@hookimpl
def pilot_checks(config: Mapping[str, Json]) -> Iterable[Check]:
    """What a pilot needs of any node, what its pool needs of it, and what containers and CVMFS need."""
    joins = bool(config["pool"]["collectors"])
    yield Check(name="resources", run=f"{__name__}:check_resources")
    yield Check(name="condor", run=f"{__name__}:check_condor", required=joins)
    if joins:
        yield Check(name="token", run=f"{__name__}:check_token", kind=FailureKind.CREDENTIAL)
    yield Check(name="clock", run=f"{__name__}:check_clock", kind=FailureKind.NETWORK)
    if config["probes"]["endpoints"] or joins:
        yield Check(name="network", run=f"{__name__}:check_network", kind=FailureKind.NETWORK)
    yield Check(name="gpu", run=f"{__name__}:check_gpu", required=bool(config["probes"]["gpu_test"]))
    yield Check(name="userns", run=f"{__name__}:check_userns", required=False)
    yield Check(name="fuse", run=f"{__name__}:check_fuse", required=False)
    if "never" not in cvmfs_wishes(config):
        required = "required" in cvmfs_wishes(config)
        yield Check(name="cvmfs", run=f"{__name__}:check_cvmfs", required=required, kind=FailureKind.NODE_RESOURCE)


def check_resources(context: Context) -> CheckResult:
    """Whether cores, memory and disk are known: HTCondor would take the whole node for what is not."""
    names = ("cpu.usable", "memory.usable_mib", "disk.workspace_free_mib")
    unknown = [name for name in names if context.value(name) is None]
    if not unknown:
        return CheckResult("resources", CheckStatus.PASS, "cores, memory and disk are known")
    message = f"not known: {', '.join(unknown)}"
    hint = "the site makes them readable, or limits them in its file"
    return CheckResult("resources", CheckStatus.FAIL, message, hint, code="resource.unknown")


def check_condor(context: Context) -> CheckResult:
    """Whether the node has the HTCondor that the pilot will start. What CVMFS or tarballs have is not tried: to fetch
    and to prove it is the pilot's matter."""
    startd = context.config["startd"]
    order = [source.lower() for source in startd["condor_source"]]
    places = {"directory": startd["condor_directory"], "path": None}
    wrong = []
    for source in order:
        if source not in places or (source == "directory" and not places[source]):
            continue
        try:
            found = find_condor(places[source], context.environment)
        except PilotError as error:
            wrong.append(_failed("condor", error))
            continue
        reason = version_refusal(found.version, startd["condor_version"])
        if not reason:
            return CheckResult("condor", CheckStatus.PASS, f"HTCondor {found.version} in {found.sbin}")
        hint = "the site installs that version, or startd.condor_version allows another"
        message = f"the HTCondor in {found.sbin} is not the one that is wanted: {reason}"
        wrong.append(CheckResult("condor", CheckStatus.FAIL, message, hint, code="condor.version"))
    others = {"cvmfs": startd["condor_cvmfs"], "tarball": startd["condor_tarballs"]}
    brought = " or ".join(f"{source} ({others[source]})" for source in order if others.get(source))
    if brought:
        message = f"this node has none that is ready, and a pilot takes it from {brought}, which is not tried here"
        return CheckResult("condor", CheckStatus.SKIP, message)
    if wrong:
        decisive = next((one for one in wrong if one.code != "condor.missing"), wrong[0])
        return replace(decisive, message="; ".join(one.message for one in wrong))
    message, hint = "startd.condor_source names no place that is configured", "the factory adds path, or names a place"
    return CheckResult("condor", CheckStatus.FAIL, message, hint, code="condor.missing")


def check_token(context: Context) -> CheckResult:
    """Whether the pool's token is there, readable, and not expired."""
    path = context.config["pool"]["token"]
    if not path:
        hint = "the factory or the VO sets pool.token"
        return CheckResult("token", CheckStatus.FAIL, "pool.token names no file", hint, code="token.missing")
    try:
        _, token = read_token(path)
    except PilotError as error:
        return _failed("token", error)
    if token.expires is None:
        return CheckResult("token", CheckStatus.PASS, "the pool's token never expires")
    until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(token.expires))
    return CheckResult("token", CheckStatus.PASS, f"the pool's token is good until {until}")


def _failed(name: str, error: PilotError) -> CheckResult:
    failure = error.failure
    return CheckResult(name, CheckStatus.FAIL, failure.message, failure.hint, code=failure.code)


def check_clock(context: Context) -> CheckResult:
    """Whether the node's clock is right enough for tokens and certificates."""
    fact = context.facts.get("clock.offset_seconds")
    if fact is None or not fact.known:
        why = fact.detail if fact else "it was not probed"
        asked = bool(context.config.get("probes", {}).get("clock_url"))
        status = CheckStatus.WARN if asked else CheckStatus.SKIP
        return CheckResult("clock", status, f"the clock was compared with nothing: {why}")
    offset = float(fact.value)
    ahead = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} {fact.source}"
    if abs(offset) <= CLOCK_WARN_SECONDS:
        return CheckResult("clock", CheckStatus.PASS, f"the clock is {ahead}")
    status = CheckStatus.FAIL if abs(offset) > CLOCK_SECONDS else CheckStatus.WARN
    message = f"the clock is {ahead}; tokens and certificates are refused, some beyond {CLOCK_WARN_SECONDS} s"
    hint = "the site starts a time service on the node, for example: systemctl enable --now chronyd"
    return CheckResult("clock", status, message, hint, code="clock.skew")


def check_network(context: Context) -> CheckResult:
    """Whether every configured endpoint is reached."""
    targets = configured_targets(context.config, context.pilot_id)
    own = {target.shown for target in targets}
    # Where a node is judged for several VOs, the probe tried what any of them needs.
    tried = [entry for entry in context.value("network.endpoints", []) if isinstance(entry, dict)]
    endpoints = [entry for entry in tried if entry.get("endpoint") in own]
    named = [target.shown for target in targets if target.source == "probes.endpoints"]
    reached = {entry.get("endpoint") for entry in endpoints if entry.get("reachable")}
    reasons = {entry.get("endpoint"): entry.get("reason", "") for entry in endpoints}
    missing = [endpoint for endpoint in named if endpoint not in reached]
    pools = [entry for entry in endpoints if entry.get("source") == "pool.collectors" and not entry.get("reachable")]
    if not missing and pools:
        listed = "; ".join(f"{entry.get('endpoint')}: {entry.get('reason')}" for entry in pools)
        hint = "the pool starts its collector, or the site opens its firewall for outgoing connections to it"
        message = f"collectors not reached: {listed}"
        return CheckResult("network", CheckStatus.WARN, message, hint, code="collector.unreachable")
    if not missing:
        return CheckResult("network", CheckStatus.PASS, f"reached: {', '.join(sorted(map(str, reached))) or 'nothing'}")
    listed = "; ".join(f"{endpoint}: {reasons.get(endpoint) or 'not tried'}" for endpoint in missing)
    proxies = [one for one in context.value("network.proxies", []) if isinstance(one, dict)]
    if proxies and all(one.get("works") is False for one in proxies):
        broken = "; ".join(f"{one.get('proxy')}: {one.get('reason')}" for one in proxies)
        hint = "the site repairs its proxy, or takes it out of the configuration"
        message = f"not reached: {listed}; no proxy works: {broken}"
        return CheckResult("network", CheckStatus.FAIL, message, hint, code="proxy.unreachable")
    hint = "the site opens its firewall for outgoing connections to them, or names a proxy in probes.proxies"
    return CheckResult("network", CheckStatus.FAIL, f"not reached: {listed}", hint, code="endpoint.unreachable")


def check_gpu(context: Context) -> CheckResult:
    """Whether every GPU that the job may use passed its test."""
    devices = [device for device in context.value("gpu.devices", []) if isinstance(device, dict)]
    broken = [device for device in devices if device.get("state") == "unusable"]
    if not devices:
        return CheckResult("gpu", CheckStatus.SKIP, "this job may use no GPU")
    if not broken and not context.config.get("probes", {}).get("gpu_test"):
        answer = "1 GPU answers" if len(devices) == 1 else f"{len(devices)} GPUs answer"
        return CheckResult("gpu", CheckStatus.PASS, f"{answer}; none was asked to compute")
    if not broken:
        computed = sum(device.get("tested") is True for device in devices)
        other = f"; {len(devices) - computed} cannot be tested and are believed" if computed < len(devices) else ""
        what = "1 GPU computed what it should" if computed == 1 else f"{computed} GPUs computed what they should"
        return CheckResult("gpu", CheckStatus.PASS, f"{what}{other}")
    listed = "; ".join(f"{one.get('name')} {one.get('uuid')}: {one.get('reason') or 'unknown'}" for one in broken)
    hint = "the site repairs these GPUs or takes them out of the allocation"
    return CheckResult("gpu", CheckStatus.FAIL, f"GPUs that cannot be used: {listed}", hint, code="gpu.unusable")


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
    if not wanted:
        return _mounted_repositories(context, answering)
    missing = [repository for repository in wanted if repository not in answering]
    if not missing:
        return CheckResult("cvmfs", CheckStatus.PASS, f"all of {', '.join(wanted)} answer")
    fact = context.facts.get("cvmfs.repositories")
    if fact is not None and fact.status is FactStatus.UNKNOWN:
        message = f"it is not known whether {', '.join(wanted)} answer: {fact.detail}"
        hint = "look on the node itself; the site repairs what cannot be looked at there"
        return CheckResult("cvmfs", CheckStatus.FAIL, message, hint, code="cvmfs.broken")
    refused = {entry["repository"]: entry["reason"] for entry in context.value("cvmfs.refused", [])}
    listed = "; ".join(f"{repository}: {refused.get(repository, 'not tried')}" for repository in missing)
    hint = _cvmfs_change(context.config, "them")
    message = f"repositories that do not answer: {listed}"
    return CheckResult("cvmfs", CheckStatus.FAIL, message, hint, code="cvmfs.broken")


def _mounted_repositories(context: Context, answering: list[str]) -> CheckResult:
    """The verdict where no repository is asked for: what is mounted should answer."""
    refused = context.value("cvmfs.refused", [])
    if refused:
        listed = "; ".join(f"{entry['repository']}: {entry['reason']}" for entry in refused)
        hint = "the site repairs these mounts, jobs that look into them fail or hang"
        return CheckResult("cvmfs", CheckStatus.WARN, f"mounted and not answering: {listed}", hint, code="cvmfs.broken")
    if answering:
        return CheckResult("cvmfs", CheckStatus.PASS, f"all of {', '.join(answering)} answer")
    if "required" in cvmfs_wishes(context.config):
        hint = _cvmfs_change(context.config, "CVMFS")
        return CheckResult(
            "cvmfs", CheckStatus.FAIL, "CVMFS is required and no repository is mounted", hint, code="cvmfs.broken"
        )
    return CheckResult("cvmfs", CheckStatus.SKIP, "no repository is asked for and none is mounted")


def _cvmfs_change(config: Mapping[str, Json], what: str) -> str:
    """Who must do what, and who can do without where CVMFS is required."""
    change = f"the site mounts {what} at /cvmfs"
    if not native_allowed(config) and config["cvmfs"]["repositories"] and own_rungs_allowed(config):
        change = (
            "who named the repositories or made the client corrects what the reason says; or whoever set "
            "cvmfs.rungs adds native, where the site mounts them"
        )
    elif not native_allowed(config):
        change = "whoever set cvmfs.rungs adds native, namespace or fusermount, the ways that this version takes"
    keys = [
        f"the {who} sets {section}.{name} to preferred"
        for who, section, name in (("VO", "cvmfs", "use"), ("site", "site", "cvmfs"))
        if config[section][name].lower() == "required"
    ]
    return f"{change}, or {' and '.join(keys)}" if keys else change


def _fact_check(context: Context, name: str, fact_name: str, what: str) -> CheckResult:
    fact = context.facts.get(fact_name)
    if fact is None or not fact.known:
        detail = fact.detail if fact else "not probed"
        return CheckResult(name, CheckStatus.WARN, f"it is not known whether {what} work: {detail}")
    if fact.value:
        return CheckResult(name, CheckStatus.PASS, f"{what} work")
    return CheckResult(name, CheckStatus.FAIL, f"{what} do not work", fact.detail, code=f"{name}.unusable")
