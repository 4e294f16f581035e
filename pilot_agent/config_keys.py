"""Every configuration key, declared once: type, default, help, and how layers combine.

The reference page, the JSON Schema and the validation all come from this table.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from pilot_agent.model import Json


class Kind(enum.StrEnum):
    """The type of a key's value."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    STRINGS = "list of strings"
    MAPPING = "mapping"
    STRING_MAPPING = "mapping of strings"
    REQUIREMENTS = "list of requirements"
    IMAGES = "image dictionary"
    SERVICES = "mapping of services"
    WEIGHTED = "string or boolean"
    CORES = "integer or string"
    PLATFORM = "platform or mapping of weights"
    PREFIXES = "list of prefixes"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``combine`` says what happens when several layers give it: the strongest wins, the smallest or the
    strictest applies (a number before any word, and of words the first of ``choices``), lists and mappings are
    joined, or all of them apply, each on its own: then the value is a list of {layer, value}. ``choices`` are the words
    allowed, in any case, and ``minimum`` is that of numbers."""

    path: str
    kind: Kind
    default: Json
    help: str
    combine: Literal["override", "smallest", "strictest", "append", "join", "all"] = "override"
    choices: tuple[str, ...] = ()
    minimum: float | None = None


IMAGE_SOURCES = ("cvmfs", "directory", "file", "docker", "oras", "https")
"""Where an image may come from: what lies under /cvmfs is ``cvmfs``, whatever it is."""

CONTAINER_WISHES = ("disable_gwms", "never", "optional", "preferred", "required", "required_gwms")

KEYS: tuple[Key, ...] = (
    Key("pool.collectors", Kind.STRINGS, [], "addresses of the user pool's collectors, host[:port]"),
    Key("pool.token", Kind.STRING, None, "file with the IDTOKEN that lets the startd join the pool"),
    Key("pool.token_check_seconds", Kind.INTEGER, 60, "how often to look whether pool.token was replaced", minimum=1),
    Key("pool.token_warning_seconds", Kind.INTEGER, 3600, "warn so long before the token expires", minimum=0),
    Key("pool.ccb", Kind.BOOLEAN, True, "let the pool reach the startd through the collector (CCB)"),
    Key("pool.join_seconds", Kind.INTEGER, 300, "give up when the collector was not reached for so long", minimum=1),
    Key("site.name", Kind.STRING, "unknown", "name of the site, advertised as GLIDEIN_Site"),
    Key("site.containers", Kind.STRING, "optional", "what the site demands of containers", choices=CONTAINER_WISHES),
    Key("site.scratch", Kind.STRINGS, [], "directories to try for the workspace before the batch system's own"),
    Key(
        "site.cpus",
        Kind.CORES,
        "auto",
        "cores a pilot may use: those that batch system and kernel give it (slot or auto, the same), all that the "
        "kernel gives it, whatever the batch system says (node), or those of auto, but so many at most (a number)",
        "strictest",
        choices=("slot", "auto", "node"),
        minimum=1,
    ),
    Key("site.memory_mib", Kind.INTEGER, None, "most memory a pilot may use, MiB", "smallest", minimum=1),
    Key("site.memory_reserve_mib", Kind.INTEGER, 64, "memory kept for the pilot itself and HTCondor, MiB", minimum=0),
    Key("site.account", Kind.STRING, None, "account to change to when started as root"),
    Key("entry.name", Kind.STRING, "unknown", "name of the factory's entry, advertised as GLIDEIN_Entry_Name"),
    Key("factory.name", Kind.STRING, "unknown", "name of the factory, advertised as GLIDEIN_Factory"),
    Key("vo.name", Kind.STRING, "unknown", "name of the VO"),
    Key("vo.containers", Kind.STRING, "preferred", "what the VO wants of containers", choices=CONTAINER_WISHES),
    Key("requirements", Kind.REQUIREMENTS, [], "what the node must offer, for example cpu.usable >= 4", "append"),
    Key(
        "checks.profile",
        Kind.STRING,
        "none",
        "built-in rules that the node must meet beside the requirements",
        choices=("none", "pilot"),
    ),
    Key(
        "probes.endpoints",
        Kind.STRINGS,
        [],
        "what must be reached from the node: host:port or an http(s) address",
        "append",
    ),
    Key(
        "probes.proxies", Kind.STRINGS, [], "HTTP proxies to try, http://host:port, beside those of the site", "append"
    ),
    Key("probes.clock_url", Kind.STRING, None, "address whose Date header the node's clock is compared with"),
    Key("probes.gpu_test", Kind.BOOLEAN, False, "let every GPU allocate memory and compute, and refuse it if it fails"),
    Key("probes.disk_write_mib", Kind.INTEGER, 0, "measure the write speed with so much data, MiB; 0 not", minimum=0),
    Key("containers.runtime", Kind.STRING, None, "path of apptainer or singularity; otherwise it is searched"),
    Key(
        "containers.search",
        Kind.STRINGS,
        ["path", "system", "condor", "cvmfs", "modules"],
        "where runtimes are looked for, in this order: the search path, /usr/bin, HTCondor's own, CVMFS, environment "
        "modules; containers.runtime comes before all",
        choices=("path", "system", "condor", "cvmfs", "modules"),
    ),
    Key(
        "containers.default",
        Kind.PLATFORM,
        None,
        "platform of jobs that name none, or weights, 75% el9, 25% el8, from which each pilot draws; otherwise the "
        "platform called default, or the dictionary's first",
    ),
    Key(
        "containers.sources",
        Kind.STRINGS,
        None,
        "where images of the dictionary may come from; otherwise from everywhere",
        "all",
        choices=IMAGE_SOURCES,
    ),
    Key(
        "containers.prefixes",
        Kind.PREFIXES,
        None,
        "directories and beginnings of references that images of the dictionary must lie under; otherwise any",
        "all",
    ),
    Key(
        "containers.digests",
        Kind.STRING,
        None,
        "whether files and remote images of the dictionary must have a digest; otherwise optional",
        "all",
        choices=("optional", "required"),
    ),
    Key("containers.binds", Kind.STRINGS, [], "binds of every job container, source[:target[:ro]]", "append"),
    Key(
        "containers.allowed_paths",
        Kind.STRINGS,
        [],
        "directories of the node whose images a job may name, beside /cvmfs and the dictionary",
    ),
    Key(
        "containers.store_directory",
        Kind.STRING,
        None,
        "directory of the node where fetched images are kept, shared by the pilots of one account; otherwise each "
        "pilot has its own and removes it",
    ),
    Key("containers.store_mib", Kind.INTEGER, None, "most that fetched images may take, MiB", "smallest", minimum=1),
    Key("containers.fetch_seconds", Kind.NUMBER, 900, "time for fetching one image, seconds", "smallest", minimum=1),
    Key(
        "images",
        Kind.IMAGES,
        {},
        "platform -> ordered candidates {path, arch, requires, digest}, or platform -> architecture -> candidates, or "
        "all in one line, platform:path,platform:path",
        "join",
    ),
    Key("prove.budget_seconds", Kind.NUMBER, 20, "time for proving images at the start, seconds", minimum=0),
    Key("cvmfs.use", Kind.STRING, "preferred", "how much CVMFS is needed", choices=("never", "preferred", "required")),
    Key("cvmfs.repositories", Kind.STRINGS, [], "repositories that must answer", "append"),
    Key("services", Kind.SERVICES, {}, "programs that run beside the jobs", "join"),
    Key("benchmarks.enabled", Kind.BOOLEAN, True, "run the benchmarks"),
    Key("benchmarks.seconds", Kind.NUMBER, 0.1, "length of the built-in benchmark, seconds", "smallest", minimum=0.01),
    Key("startd.slots", Kind.STRING, "partitionable", "slot layout", choices=("partitionable",)),
    Key("startd.idle_shutdown_seconds", Kind.INTEGER, 1200, "leave after so long without a job", minimum=1),
    Key("startd.condor_directory", Kind.STRING, None, "HTCondor's installation directory; otherwise PATH is searched"),
    Key(
        "startd.no_dns",
        Kind.WEIGHTED,
        "auto",
        "configure HTCondor without name look-ups",
        choices=("auto", "true", "false"),
    ),
    Key("startd.domain", Kind.STRING, "pilot.local", "domain used when there are no name look-ups"),
    Key("startd.channel_period_seconds", Kind.INTEGER, 20, "period of the ad channel", minimum=1),
    Key("startd.ssh_to_job", Kind.BOOLEAN, True, "let users enter their running jobs with condor_ssh_to_job"),
    Key("startd.attributes", Kind.MAPPING, {}, "further attributes of the machine ad", "join"),
    Key("startd.job_environment", Kind.STRING_MAPPING, {}, "environment variables of every job", "join"),
    Key("time.walltime_seconds", Kind.INTEGER, None, "how long the pilot may live", "smallest", minimum=1),
    Key("time.teardown_seconds", Kind.NUMBER, 25, "budget for ending everything, seconds", "smallest", minimum=1),
    Key("time.vacate_seconds", Kind.NUMBER, 10, "time jobs get to end after a signal, seconds", "smallest", minimum=0),
    Key(
        "on_failure.hold_seconds", Kind.INTEGER, None, "hold the slot so long after a failure; 1200 in batch", minimum=0
    ),
    Key("plugins.directories", Kind.STRINGS, [], "directories with plugins", "append"),
    Key("plugins.load", Kind.STRINGS, [], "plugins to load: module names or entry points", "append"),
    Key("plugins.timeout_seconds", Kind.NUMBER, 20, "time for loading one plugin, seconds", minimum=0.1),
    Key("plugins.options", Kind.MAPPING, {}, "options of plugins: plugin -> option -> value", "join"),
    Key(
        "upload.directory",
        Kind.STRING,
        None,
        "where report, events and logs go at the end; otherwise the start directory",
    ),
)

WHERE = ("host", "image")
"""Where a requirement is judged, and where a service runs: on the node, or inside an image that jobs get."""

REQUIREMENT_FIELDS: dict[str, Kind] = {
    "require": Kind.STRING,
    "level": Kind.STRING,
    "where": Kind.STRING,
    "platform": Kind.STRING,
}
"""Fields of one requirement in its long form."""

SERVICE_FIELDS: dict[str, Kind] = {
    "command": Kind.STRINGS,
    "where": Kind.STRING,
    "platform": Kind.STRING,
    "environment": Kind.STRING_MAPPING,
    "port": Kind.INTEGER,
    "ready_file": Kind.STRING,
    "ready_command": Kind.STRINGS,
    "ready_seconds": Kind.NUMBER,
    "required": Kind.BOOLEAN,
    "attributes": Kind.MAPPING,
    "stop_signal": Kind.STRING,
    "stop_seconds": Kind.NUMBER,
    "after": Kind.STRINGS,
}
"""Fields of one entry of ``services``."""

SERVICE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""A service's name becomes a directory's: the pattern of those that can."""

READY_WAYS = ("port", "ready_file", "ready_command")
"""The fields of which a service has one at most: how it is known to be ready."""

LARGEST_PORT = 65535

IMAGE_FIELDS: dict[str, Kind] = {
    "path": Kind.STRING,
    "arch": Kind.STRING,
    "requires": Kind.MAPPING,
    "digest": Kind.STRING,
}
"""Fields of one candidate of ``images``."""

LAYERS = ("defaults", "factory", "entry", "vo", "site", "environment", "command line")
"""Weakest first (design section 11)."""
