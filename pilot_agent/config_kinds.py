"""What a configuration key is declared with: its type, and how layers combine; and what the values of the larger types
are made of."""

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
    PORTS = "mapping of ports"
    PORT = "number or name of a port"
    DEVICES = "number of devices or the word all"
    WEIGHTED = "string or boolean"
    CORES = "integer or string"
    PLATFORM = "platform or mapping of weights"
    PREFIXES = "list of prefixes"
    DIRECTORIES = "list of directories"
    BINDS = "list of binds"
    SCRATCH = "path inside containers"
    CONDOR_VERSION = "version of HTCondor"
    CONDOR_PLACES = "list of directories of CVMFS"
    TARBALLS = "directory or address"
    SHA256 = "digest"
    OPTIONS = "list of runtime options"
    VARIABLES = "list of variables"
    SETUPS = "list of setups"
    CHECKS = "list of checks"
    PERIODICS = "list of periodic tests"
    BENCHMARKS = "list of benchmarks"
    PROBES = "list of probes"
    EXPRESSION = "ClassAd expression"
    RESOURCE_SLOTS = "resources with their slots"
    COLLECTORS = "list of collectors"
    DOMAIN = "domain"
    REPOSITORIES = "list of repositories"
    PLAIN_DIRECTORY = "directory"
    CVMFS_PROXIES = "list of proxy groups"
    CVMFS_PARAMETERS = "parameters of the CVMFS client"
    CVMFS_REPOSITORY_PARAMETERS = "repositories with parameters of the CVMFS client"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``combine`` says what happens when several layers give it: the strongest wins, the smallest or the
    strictest applies (a number before any word, and of words the first of ``choices``), lists and mappings are
    joined, mappings of mappings merged, or all of them apply, each on its own: then the value is a list of {layer,
    value}. ``choices`` are the words allowed, in any case, and ``minimum`` and ``maximum`` are those of numbers.
    ``layers`` are those that may give it (empty: all)."""

    path: str
    kind: Kind
    default: Json
    help: str
    combine: Literal["override", "smallest", "strictest", "append", "join", "merge", "all"] = "override"
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    layers: tuple[str, ...] = ()


IMAGE_SOURCES = ("cvmfs", "directory", "file", "docker", "oras", "https")
"""Where an image may come from: what lies under /cvmfs is ``cvmfs``, whatever it is."""

CONTAINER_WISHES = ("disable_gwms", "never", "optional", "preferred", "required", "required_gwms")

CVMFS_WISHES = ("never", "optional", "preferred", "required")

CVMFS_DIRECT = ("never", "fallback", "only")
CVMFS_CACHES = ("private", "shared", "alien")

CVMFS_RUNGS = ("native", "namespace", "fusermount", "container")
"""The ways in which CVMFS comes to jobs, the best first (design section 9)."""

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
    "script": Kind.STRING,
    "where": Kind.STRING,
    "platform": Kind.STRING,
    "binds": Kind.STRINGS,
    "environment": Kind.STRING_MAPPING,
    "files": Kind.STRING_MAPPING,
    "ports": Kind.PORTS,
    "port": Kind.PORT,
    "ready_http": Kind.STRING,
    "ready_log": Kind.STRING,
    "ready_file": Kind.STRING,
    "ready_command": Kind.STRINGS,
    "ready_seconds": Kind.NUMBER,
    "live_port": Kind.PORT,
    "live_http": Kind.STRING,
    "live_command": Kind.STRINGS,
    "live_period_seconds": Kind.NUMBER,
    "live_timeout_seconds": Kind.NUMBER,
    "live_failures": Kind.INTEGER,
    "metrics_http": Kind.STRING,
    "metrics_names": Kind.STRINGS,
    "metrics_period_seconds": Kind.NUMBER,
    "required": Kind.BOOLEAN,
    "attributes": Kind.MAPPING,
    "exports": Kind.STRING_MAPPING,
    "after": Kind.STRINGS,
    "before": Kind.STRINGS,
    "needs": Kind.STRINGS,
    "restart": Kind.STRING,
    "restart_limit": Kind.INTEGER,
    "restart_window_seconds": Kind.NUMBER,
    "backoff_seconds": Kind.NUMBER,
    "backoff_limit_seconds": Kind.NUMBER,
    "cores": Kind.NUMBER,
    "memory_mib": Kind.INTEGER,
    "disk_mib": Kind.INTEGER,
    "gpus": Kind.DEVICES,
    "gpus_exclusive": Kind.BOOLEAN,
    "gpus_optional": Kind.BOOLEAN,
    "log_mib": Kind.INTEGER,
    "per": Kind.STRING,
    "cvmfs_proxy": Kind.STRING,
    "stop_signal": Kind.STRING,
    "stop_seconds": Kind.NUMBER,
}
"""Fields of one entry of ``services``."""

SERVICE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""A service's name becomes a directory's: the pattern of those that can."""

READY_WAYS = ("port", "ready_http", "ready_log", "ready_file", "ready_command")
"""The fields of which a service has one at most: how it is known to be ready."""

BIND_FIELDS: dict[str, Kind] = {
    "source": Kind.STRING,
    "destination": Kind.STRING,
    "read_only": Kind.BOOLEAN,
    "required": Kind.BOOLEAN,
}
"""Fields of one bind in its long form."""

IMAGE_FIELDS: dict[str, Kind] = {
    "path": Kind.STRING,
    "arch": Kind.STRING,
    "requires": Kind.MAPPING,
    "digest": Kind.STRING,
}
"""Fields of one candidate of ``images``."""
