"""Every configuration key, declared once: type, default, help, and how layers combine.

The reference page, the JSON Schema and the validation all come from this table.
"""

from __future__ import annotations

from pilot_agent.config_keys_containers import CONTAINER_KEYS
from pilot_agent.config_keys_cvmfs import CVMFS_KEYS
from pilot_agent.config_keys_startd import STARTD_KEYS
from pilot_agent.config_kinds import CONTAINER_WISHES, CVMFS_WISHES, Key, Kind

FACTORY_LAYERS = ("factory", "entry")
TRUSTED = ("factory", "entry", "site", "command line")
"""The layers that may say whom a pilot believes: no VO, which signs what it brings, and no variable of the node."""
_ARRAYS = "largest size of the arrays of the benchmark memory, MiB; four times the last-level cache each is enough"
_DISK_FILE = "size of the file that the benchmark disk writes into the workspace, MiB"
_NETWORK_URLS = "addresses of files that the benchmark network downloads, the one that counts first"
_NETWORK_MIB = "what the benchmark network downloads of each file at most, MiB"

KEYS: tuple[Key, ...] = (
    Key(
        "pool.collectors",
        Kind.COLLECTORS,
        [],
        "addresses of the user pool's collectors, host[:port]; of several in one text, separated by commas, each pilot "
        "draws one, and of host:9620-9660 or host?sock=name1-20 one number",
    ),
    Key("pool.token", Kind.STRING, None, "file with the IDTOKEN that lets the startd join the pool"),
    Key("pool.token_check_seconds", Kind.INTEGER, 60, "how often to look whether pool.token was replaced", minimum=1),
    Key(
        "pool.renew_token",
        Kind.BOOLEAN,
        False,
        "ask the factory at upload.url for a newer pool.token when half of its time is over",
    ),
    Key("pool.token_warning_seconds", Kind.INTEGER, 3600, "warn so long before the token expires", minimum=0),
    Key("pool.ccb", Kind.BOOLEAN, True, "let the pool reach the startd through a broker (CCB)"),
    Key(
        "pool.ccb_brokers",
        Kind.COLLECTORS,
        [],
        "addresses of the brokers, as pool.collectors; otherwise the collectors",
    ),
    Key("pool.join_seconds", Kind.INTEGER, 300, "give up when the collector was not reached for so long", minimum=1),
    Key("site.name", Kind.STRING, "unknown", "name of the site, advertised as GLIDEIN_Site"),
    Key("site.resource", Kind.STRING, None, "name of the site's resource, advertised as GLIDEIN_ResourceName"),
    Key("site.containers", Kind.STRING, "optional", "what the site demands of containers", choices=CONTAINER_WISHES),
    Key("site.cvmfs", Kind.STRING, "optional", "what the site demands of CVMFS", choices=CVMFS_WISHES),
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
        "site.probes",
        Kind.PROBES,
        None,
        "programs that find something out: name, gives (names of facts), requires, command, script, protocol, "
        "timeout_seconds; not in a VO's file",
        "all",
    ),
    Key(
        "site.setups",
        Kind.SETUPS,
        None,
        "programs that prepare the node or an image for jobs, in this order, before those of the VO: name, command, "
        "script, stage, where, platform, protocol, required, timeout_seconds, teardown, teardown_seconds; not in a "
        "VO's file",
        "all",
    ),
    Key(
        "site.checks",
        Kind.CHECKS,
        None,
        "programs whose exit code says whether node or image is fit: name, command, script, where, platform, required, "
        "kind, protocol (pilot, json, nagios), timeout_seconds; not in a VO's file",
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
    Key(
        "site.benchmarks",
        Kind.BENCHMARKS,
        None,
        "benchmarks that are programs: name, timeout_seconds, command, script, where, platform, result, score_at, "
        "parts_at, unit, cores, when, period_seconds, memory_mib, disk_mib, version, cache_days; not in a VO's file",
        "all",
    ),
    Key("entry.name", Kind.STRING, "unknown", "name of the factory's entry, advertised as GLIDEIN_Entry_Name"),
    Key("entry.gatekeeper", Kind.STRING, None, "where the entry submits to, advertised as GLIDEIN_Gatekeeper"),
    Key("entry.grid_type", Kind.STRING, None, "how the entry submits, advertised as GLIDEIN_GridType"),
    Key("factory.name", Kind.STRING, "unknown", "name of the factory, advertised as GLIDEIN_Factory"),
    Key("factory.glidein", Kind.STRING, None, "name of the factory's instance, advertised as GLIDEIN_Name"),
    Key("factory.schedd", Kind.STRING, None, "the factory's schedd, advertised as GLIDEIN_Schedd"),
    Key(
        "factory.output",
        Kind.STRING,
        "pilot-agent",
        "how the pilot ends for whoever submitted it: with its own exit codes, or as GlideinWMS factories read it: "
        "with exit code 0 or 1, and with their markers and XML on standard output and error beside the report",
        choices=("pilot-agent", "glideinwms"),
        layers=TRUSTED,
    ),
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
    Key("vo.probes", Kind.PROBES, None, "as site.probes, for the VO; not in the site's file", "all"),
    Key("vo.setups", Kind.SETUPS, None, "as site.setups, for the VO; not in the site's file", "all"),
    Key("vo.checks", Kind.CHECKS, None, "as site.checks, for the VO; not in the site's file", "all"),
    Key("vo.periodics", Kind.PERIODICS, None, "as site.periodics, for the VO; not in the site's file", "all"),
    Key("vo.benchmarks", Kind.BENCHMARKS, None, "as site.benchmarks, for the VO; not in the site's file", "all"),
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
    *CONTAINER_KEYS,
    Key(
        "images",
        Kind.IMAGES,
        {},
        "platform -> ordered candidates {path, arch, requires, digest}, or platform -> architecture -> candidates, or "
        "all in one line, platform:path,platform:path",
        "join",
    ),
    Key("prove.budget_seconds", Kind.NUMBER, 20, "time for proving images at the start, seconds", minimum=0),
    *CVMFS_KEYS,
    Key(
        "services",
        Kind.SERVICES,
        {},
        "programs that run beside the jobs; without a command: options of the plugin of that name, which is loaded",
        "merge",
    ),
    Key("benchmarks.enabled", Kind.BOOLEAN, True, "run the benchmarks"),
    Key("benchmarks.run", Kind.STRINGS, ["hash"], "the built-in benchmarks that run, beside those of plugins"),
    Key("benchmarks.memory_mib", Kind.INTEGER, 2048, _ARRAYS, "smallest", minimum=1),
    Key("benchmarks.disk_mib", Kind.INTEGER, 256, _DISK_FILE, "smallest", minimum=1),
    Key("benchmarks.network_urls", Kind.STRINGS, [], _NETWORK_URLS),
    Key("benchmarks.network_mib", Kind.NUMBER, 16, _NETWORK_MIB, "smallest", minimum=1),
    Key(
        "benchmarks.budget_seconds",
        Kind.NUMBER,
        20,
        "what all benchmarks before the jobs may take together, seconds; one that may take longer than what is left is "
        "skipped",
        "smallest",
        minimum=0,
    ),
    Key(
        "benchmarks.cache_directory",
        Kind.STRING,
        None,
        "where scores are kept for the next pilots on the node; otherwise in the account's directory below /var/tmp",
    ),
    Key("benchmarks.seconds", Kind.NUMBER, 0.1, "length of the benchmark hash, seconds", "smallest", minimum=0.01),
    *STARTD_KEYS,
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
    Key(
        "artifacts.mirrors",
        Kind.STRINGS,
        [],
        "addresses (https://, http://) of what packaging/artifacts.py published; the first is asked first",
        layers=TRUSTED,
    ),
    Key(
        "artifacts.proxies",
        Kind.STRINGS,
        [],
        "ways to the mirrors, tried in this order: http://host:port of a proxy, or `direct`; without any, the proxy "
        "that the environment names",
        layers=TRUSTED,
    ),
    Key(
        "artifacts.bundle",
        Kind.STRING,
        None,
        "file that says whose signatures to believe, as packaging/artifacts.py bundle writes it, in place of the one "
        "that the payload carries",
        layers=TRUSTED,
    ),
    Key(
        "artifacts.config",
        Kind.STRINGS,
        [],
        "configuration (config/NAME of the factory, config/VO/NAME of a VO) and image dictionaries (images/NAME, "
        "images/VO/NAME) that are fetched from artifacts.mirrors; a file of the same layer is stronger",
        "append",
        layers=TRUSTED,
    ),
    Key(
        "artifacts.seconds",
        Kind.NUMBER,
        60,
        "time for fetching all signed plugins, and for all signed configuration, seconds",
        minimum=1,
    ),
    Key("plugins.directories", Kind.STRINGS, [], "directories with plugins", "append"),
    Key(
        "plugins.local",
        Kind.BOOLEAN,
        False,
        "under a factory: whether other layers (VO, site, environment, command line) may name plugins.directories",
        layers=FACTORY_LAYERS,
    ),
    Key("plugins.load", Kind.STRINGS, [], "plugins to load: module names or entry points", "append"),
    Key(
        "plugins.signed",
        Kind.STRINGS,
        [],
        "wheels of plugins that are fetched from artifacts.mirrors, such as plugin/VO/probe-1.0-py3-none-any.whl",
        "append",
    ),
    Key("plugins.timeout_seconds", Kind.NUMBER, 20, "time for loading one plugin, seconds", minimum=0.1),
    Key("plugins.options", Kind.MAPPING, {}, "options of plugins: plugin -> option -> value", "merge"),
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
        "upload.heartbeat_seconds",
        Kind.NUMBER,
        300,
        "after how long without anything to upload the pilot says that it lives (POST to .../heartbeat)",
        minimum=1,
    ),
    Key(
        "upload.print_report",
        Kind.BOOLEAN,
        True,
        "print the report between markers on standard output at the end, where that is no terminal",
    ),
)

LAYERS = ("defaults", "factory", "entry", "vo", "site", "environment", "command line")
"""Weakest first (design section 11)."""
