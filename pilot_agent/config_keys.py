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
    EXPRESSION = "ClassAd expression"
    RESOURCE_SLOTS = "resources with their slots"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``combine`` says what happens when several layers give it: the strongest wins, the smallest or the
    strictest applies (a number before any word, and of words the first of ``choices``), lists and mappings are
    joined, or all of them apply, each on its own: then the value is a list of {layer, value}. ``choices`` are the words
    allowed, in any case, and ``minimum`` and ``maximum`` are those of numbers."""

    path: str
    kind: Kind
    default: Json
    help: str
    combine: Literal["override", "smallest", "strictest", "append", "join", "all"] = "override"
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


IMAGE_SOURCES = ("cvmfs", "directory", "file", "docker", "oras", "https")
"""Where an image may come from: what lies under /cvmfs is ``cvmfs``, whatever it is."""

CONTAINER_WISHES = ("disable_gwms", "never", "optional", "preferred", "required", "required_gwms")

KEYS: tuple[Key, ...] = (
    Key(
        "pool.collectors",
        Kind.STRINGS,
        [],
        "addresses of the user pool's collectors, host[:port]; of several in one text, separated by commas, each pilot "
        "draws one, and of host:9620-9660 or host?sock=name1-20 one number",
    ),
    Key("pool.token", Kind.STRING, None, "file with the IDTOKEN that lets the startd join the pool"),
    Key("pool.token_check_seconds", Kind.INTEGER, 60, "how often to look whether pool.token was replaced", minimum=1),
    Key("pool.token_warning_seconds", Kind.INTEGER, 3600, "warn so long before the token expires", minimum=0),
    Key("pool.ccb", Kind.BOOLEAN, True, "let the pool reach the startd through a broker (CCB)"),
    Key("pool.ccb_brokers", Kind.STRINGS, [], "addresses of the brokers, as pool.collectors; otherwise the collectors"),
    Key("pool.join_seconds", Kind.INTEGER, 300, "give up when the collector was not reached for so long", minimum=1),
    Key("site.name", Kind.STRING, "unknown", "name of the site, advertised as GLIDEIN_Site"),
    Key("site.resource", Kind.STRING, None, "name of the site's resource, advertised as GLIDEIN_ResourceName"),
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
    Key(
        "site.setups",
        Kind.SETUPS,
        None,
        "programs that prepare the node or an image for jobs, in this order, before those of the VO: name, command, "
        "script, stage, where, platform, required, timeout_seconds, teardown, teardown_seconds; not in a VO's file",
        "all",
    ),
    Key(
        "site.checks",
        Kind.CHECKS,
        None,
        "programs whose exit code says whether node or image is fit: name, command, script, where, platform, required, "
        "kind, timeout_seconds; not in a VO's file",
        "all",
    ),
    Key(
        "site.periodics",
        Kind.PERIODICS,
        None,
        "tests repeated while jobs may run: name, period_seconds, command, script, where, platform, timeout_seconds, "
        "on_failure (report, stop_accepting, drain); not in a VO's file",
        "all",
    ),
    Key("entry.name", Kind.STRING, "unknown", "name of the factory's entry, advertised as GLIDEIN_Entry_Name"),
    Key("entry.gatekeeper", Kind.STRING, None, "where the entry submits to, advertised as GLIDEIN_Gatekeeper"),
    Key("entry.grid_type", Kind.STRING, None, "how the entry submits, advertised as GLIDEIN_GridType"),
    Key("factory.name", Kind.STRING, "unknown", "name of the factory, advertised as GLIDEIN_Factory"),
    Key("factory.glidein", Kind.STRING, None, "name of the factory's instance, advertised as GLIDEIN_Name"),
    Key("factory.schedd", Kind.STRING, None, "the factory's schedd, advertised as GLIDEIN_Schedd"),
    Key("factory.cluster", Kind.INTEGER, None, "the pilot's cluster there, advertised as GLIDEIN_ClusterId", minimum=0),
    Key("factory.process", Kind.INTEGER, None, "its number in it, advertised as GLIDEIN_ProcId", minimum=0),
    Key(
        "factory.credential",
        Kind.STRING,
        None,
        "name of the credential that the pilot was submitted with, advertised as GLIDEIN_CredentialIdentifier",
    ),
    Key("vo.name", Kind.STRING, "unknown", "name of the VO, advertised as GLIDECLIENT_Name"),
    Key("vo.group", Kind.STRING, None, "the VO's group that asked for the pilot, advertised as GLIDECLIENT_Group"),
    Key("vo.containers", Kind.STRING, "preferred", "what the VO wants of containers", choices=CONTAINER_WISHES),
    Key("vo.setups", Kind.SETUPS, None, "as site.setups, for the VO; not in the site's file", "all"),
    Key("vo.checks", Kind.CHECKS, None, "as site.checks, for the VO; not in the site's file", "all"),
    Key("vo.periodics", Kind.PERIODICS, None, "as site.periodics, for the VO; not in the site's file", "all"),
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
    Key(
        "containers.binds",
        Kind.BINDS,
        None,
        "binds of every job container, source[:destination[:ro]], or {source, destination, read_only, required}",
        "all",
    ),
    Key(
        "containers.scratch",
        Kind.SCRATCH,
        "/srv",
        "where a job's scratch directory, which is its home and working directory, appears in its container",
    ),
    Key("containers.bind_hosts", Kind.BOOLEAN, True, "bind /etc/hosts into job containers"),
    Key("containers.bind_localtime", Kind.BOOLEAN, True, "bind /etc/localtime into job containers"),
    Key("containers.bind_cvmfs", Kind.BOOLEAN, True, "bind CVMFS at /cvmfs, where repositories answer"),
    Key("containers.bind_opencl", Kind.BOOLEAN, True, "bind /etc/OpenCL/vendors, where jobs can get GPUs"),
    Key(
        "containers.gpu_libraries",
        Kind.BOOLEAN,
        True,
        "let the runtime bring the GPU driver's libraries (--nv, --rocm) to jobs that get GPUs",
    ),
    Key(
        "containers.options",
        Kind.OPTIONS,
        None,
        "options of the container runtime for every job, each one word: --name or --name=value",
        "all",
    ),
    Key(
        "containers.allowed_binds",
        Kind.DIRECTORIES,
        None,
        "directories of the node that binds may come from, whoever asks for them; otherwise from everywhere",
        "all",
    ),
    Key(
        "containers.allowed_options",
        Kind.OPTIONS,
        None,
        "options of the container runtime that may be asked for; the site's list comes in place of the usual one, "
        "which has no option that gives jobs rights or paths",
        "all",
    ),
    Key(
        "containers.allowed_paths",
        Kind.STRINGS,
        [],
        "directories of the node whose images a job may name, beside /cvmfs and the dictionary",
    ),
    Key(
        "containers.forbidden_image",
        Kind.STRING,
        "hold",
        "what becomes of a job whose own image is not allowed here: hold, with the reason for its owner, or elsewhere: "
        "it goes back to the queue, and this pilot takes no job with that image for an hour",
        choices=("hold", "elsewhere"),
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
    Key(
        "cvmfs.look_period_seconds",
        Kind.NUMBER,
        60,
        "how often to look whether the repositories that answered still do, seconds",
        minimum=1,
    ),
    Key(
        "cvmfs.look_timeout_seconds",
        Kind.NUMBER,
        20,
        "a repository that does not answer for so long has gone away, seconds",
        minimum=1,
    ),
    Key("services", Kind.SERVICES, {}, "programs that run beside the jobs", "join"),
    Key("benchmarks.enabled", Kind.BOOLEAN, True, "run the benchmarks"),
    Key("benchmarks.seconds", Kind.NUMBER, 0.1, "length of the built-in benchmark, seconds", "smallest", minimum=0.01),
    Key(
        "startd.slots",
        Kind.STRING,
        "partitionable",
        "one slot that is divided as jobs come, or slots of fixed size",
        choices=("partitionable", "fixed"),
    ),
    Key("startd.fixed_slots", Kind.INTEGER, None, "number of fixed slots; otherwise one for each core", minimum=1),
    Key("startd.cores_per_slot", Kind.INTEGER, None, "cores of each fixed slot, in place of their number", minimum=1),
    Key("startd.gpus", Kind.INTEGER, None, "most GPUs that jobs may get; otherwise all usable", "smallest", minimum=0),
    Key(
        "startd.resource_slots",
        Kind.RESOURCE_SLOTS,
        None,
        "resources with their slots, name[,number[,memory[,type[,disk]]]];..., as in GLIDEIN_Resource_Slots",
    ),
    Key("startd.start", Kind.EXPRESSION, None, "which jobs may run here; those of all layers must be true", "all"),
    Key("startd.rank", Kind.EXPRESSION, None, "which jobs are preferred; those of all layers are added up", "all"),
    Key(
        "startd.preempt",
        Kind.EXPRESSION,
        None,
        "which running jobs are ended; that of one layer is enough",
        "all",
    ),
    Key(
        "startd.claim_worklife_seconds",
        Kind.INTEGER,
        3600,
        "an access point may start further jobs on a slot for so long without a new match; 0 one job, -1 no limit",
        minimum=-1,
    ),
    Key("startd.idle_shutdown_seconds", Kind.INTEGER, 1200, "leave after so long without a job", minimum=1),
    Key(
        "startd.tail_shutdown_seconds",
        Kind.INTEGER,
        None,
        "leave so long after the last job, once there was one; otherwise as startd.idle_shutdown_seconds",
        minimum=1,
    ),
    Key(
        "startd.memory_policy",
        Kind.STRING,
        "off",
        "what becomes of a job that uses more memory than its slot has",
        choices=("hold", "off"),
    ),
    Key(
        "startd.disk_policy",
        Kind.STRING,
        "off",
        "what becomes of a job that uses more disk than its slot has",
        choices=("hold", "off"),
    ),
    Key(
        "startd.condor_source",
        Kind.STRINGS,
        ["directory", "path", "cvmfs", "tarball"],
        "where HTCondor is looked for, in this order; the first that works on the node is run",
        choices=("directory", "path", "cvmfs", "tarball"),
    ),
    Key("startd.condor_directory", Kind.STRING, None, "HTCondor's installation directory"),
    Key(
        "startd.condor_version",
        Kind.CONDOR_VERSION,
        "any",
        "the HTCondor wanted: a version or its beginning, such as 23.9; any, which of tarballs prefers those made for "
        "the node's distribution; or latest, which prefers the newest",
    ),
    Key("startd.condor_cvmfs", Kind.CONDOR_PLACES, [], "installation directories of HTCondor below /cvmfs, in order"),
    Key(
        "startd.condor_tarballs",
        Kind.TARBALLS,
        None,
        "where tarballs of HTCondor are: a directory of the node with an index.json, or the https:// or http:// "
        "address of an index, which needs startd.condor_index_sha256",
    ),
    Key("startd.condor_index_sha256", Kind.SHA256, None, "SHA-256 of the index of tarballs, 64 hexadecimal digits"),
    Key(
        "startd.condor_cache",
        Kind.STRING,
        None,
        "directory of the node where fetched tarballs are kept, shared by the pilots of one account; otherwise none is",
    ),
    Key("startd.condor_cache_mib", Kind.INTEGER, 512, "most that kept tarballs may take, MiB", "smallest", minimum=1),
    Key(
        "startd.condor_fetch_seconds",
        Kind.NUMBER,
        300,
        "time for fetching and unpacking one tarball of HTCondor, seconds",
        "smallest",
        minimum=1,
    ),
    Key(
        "startd.no_dns",
        Kind.WEIGHTED,
        "auto",
        "configure HTCondor without name look-ups",
        choices=("auto", "true", "false"),
    ),
    Key(
        "startd.transfer_plugins",
        Kind.STRINGS,
        [],
        "file transfer plugins beside HTCondor's compiled ones: names in its libexec directory, or paths",
        "append",
    ),
    Key("startd.domain", Kind.STRING, "pilot.local", "domain used when there are no name look-ups"),
    Key("startd.channel_period_seconds", Kind.INTEGER, 20, "period of the ad channel", minimum=1),
    Key("startd.ssh_to_job", Kind.BOOLEAN, True, "let users enter their running jobs with condor_ssh_to_job"),
    Key(
        "startd.services_attribute",
        Kind.STRING,
        "WantServices",
        "attribute in which jobs name the services that they need; they begin only while all of them are up",
    ),
    Key(
        "startd.cvmfs_attribute",
        Kind.STRING,
        "WantCvmfs",
        "attribute in which jobs name the CVMFS repositories that they need; they begin only while none has gone away",
    ),
    Key(
        "startd.disk_floor_mib",
        Kind.INTEGER,
        256,
        "take no job while less than this is free where jobs write, MiB; 0 for no floor",
        minimum=0,
    ),
    Key(
        "startd.disk_hard_floor_mib",
        Kind.INTEGER,
        32,
        "let the pilot end with its running jobs when less than this is free, MiB; 0 for no floor",
        minimum=0,
    ),
    Key("startd.disk_period_seconds", Kind.NUMBER, 30, "how often to look at the free space, seconds", minimum=1),
    Key(
        "startd.black_hole_jobs",
        Kind.INTEGER,
        10,
        "so many jobs that fail at once make the pilot drain and end as one on a broken node; 0 for never",
        minimum=0,
    ),
    Key(
        "startd.black_hole_clusters",
        Kind.INTEGER,
        3,
        "of at least so many clusters the failed jobs must be, of twice as many when all are one user's",
        minimum=1,
    ),
    Key(
        "startd.black_hole_seconds",
        Kind.NUMBER,
        30,
        "a job that ran for less than this before it failed has failed at once, seconds",
        minimum=0,
    ),
    Key(
        "startd.black_hole_share",
        Kind.NUMBER,
        0.9,
        "the share of the jobs ended within the window that must have failed at once",
        minimum=0,
        maximum=1,
    ),
    Key("startd.black_hole_window_seconds", Kind.NUMBER, 900, "how long an end of a job counts, seconds", minimum=1),
    Key(
        "startd.starter_isolation",
        Kind.STRING,
        "secrets",
        "what HTCondor's program for a job does not see: the pilot's secrets, or all but that job",
        choices=("secrets", "job"),
    ),
    Key("startd.attributes", Kind.MAPPING, {}, "further attributes of the machine ad", "join"),
    Key("startd.job_environment", Kind.STRING_MAPPING, None, "environment variables of every job", "all"),
    Key(
        "startd.pass_environment",
        Kind.VARIABLES,
        None,
        "variables of the node that jobs get with the values that the pilot was started with",
        "all",
    ),
    Key(
        "startd.allowed_environment",
        Kind.VARIABLES,
        None,
        "variables that jobs may get, whoever gives them, * for any characters; otherwise any",
        "all",
    ),
    Key(
        "time.walltime_seconds",
        Kind.INTEGER,
        None,
        "how long the batch job may take, counted from its start, which may lie before the pilot's",
        "smallest",
        minimum=1,
    ),
    Key(
        "time.until_token_expires",
        Kind.BOOLEAN,
        True,
        "let the pilot end before the pool's token expires, or the fresh one that took its place",
    ),
    Key(
        "time.margin_seconds",
        Kind.NUMBER,
        30,
        "time between the pilot's end and the first limit, for clocks and timers that are late, seconds",
        minimum=0,
    ),
    Key(
        "time.spread_seconds",
        Kind.NUMBER,
        None,
        "each pilot ends earlier by a part of this that it draws, seconds; otherwise a fiftieth of its time, 600 at "
        "most",
        minimum=0,
    ),
    Key(
        "time.retirement_seconds",
        Kind.NUMBER,
        None,
        "no job begins in the last so many seconds before jobs are ended; otherwise in the last tenth of the pilot's "
        "time, 60 at least and 1800 at most",
        minimum=0,
    ),
    Key(
        "time.minimum_seconds",
        Kind.NUMBER,
        600,
        "leave at once when jobs could begin for less than this, seconds",
        minimum=0,
    ),
    Key(
        "time.announcements_period_seconds",
        Kind.NUMBER,
        300,
        "how often to look for an end that the site announces in the features of machine or job",
        minimum=1,
    ),
    Key(
        "time.job_length",
        Kind.STRING_MAPPING,
        {
            "MaxWallTimeMins": "minutes",
            "JOB_EXPECTED_MAX_LIFETIME": "seconds",
            "MaxRuntime": "seconds",
            "AllowedExecuteDuration": "seconds",
            "AllowedJobDuration": "seconds",
        },
        "attributes in which jobs say how long they take, with their unit; the first that a job has counts, and it "
        "begins only where so much time is left",
        "join",
        choices=("seconds", "minutes", "hours"),
    ),
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
    Key(
        "upload.url",
        Kind.STRING,
        None,
        "where events (POST to .../events) and the report (.../report) go while the pilot lives and at its end",
    ),
    Key("upload.token", Kind.STRING, None, "file with a bearer token for upload.url, which must be https then"),
    Key("upload.authorities", Kind.STRING, None, "file with the certificate authorities that upload.url is held to"),
    Key("upload.period_seconds", Kind.NUMBER, 60, "how often events are uploaded while jobs run", minimum=1),
    Key(
        "upload.print_report",
        Kind.BOOLEAN,
        True,
        "print the report between markers on standard output at the end, where that is no terminal",
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

LAYERS = ("defaults", "factory", "entry", "vo", "site", "environment", "command line")
"""Weakest first (design section 11)."""
