"""The hooks of the plugin ``squid``: its options, a check of the program, its configuration, the service."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from pilot_agent.hookspecs import Check, Context, Liveness, Option, Readiness, Service, Setup, SetupResult, hookimpl
from pilot_agent.model import CheckResult, CheckStatus, FailureKind, Json
from pilot_squid.configuration import DIRECTORY, PICTURE, PORT, configuration, upstream

NAME = "squid"
LARGEST_PORT = 65535
TEMPLATE = "squid.conf.in"
EXPORTS = ("http_proxy", "HTTP_PROXY", "FRONTIER_PROXY", "OSG_SQUID_LOCATION")
WITHOUT_SCHEME = "OSG_SQUID_LOCATION"
"""The variable whose readers expect host:port."""
ALIVE = f"http{PICTURE}"
CHECK_SECONDS = 10.0
SEARCH_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where systems put squid; an ordinary account's PATH often has none of them."""

# Squid names its shared memory by -n, and leaves it behind when it is killed; what it holds is of no use to another.
CLEAN = "rm -f /dev/shm/pilotsquid$(id -u)p*-cf__*.shm"
START = f"""
umask 077
[ -f {TEMPLATE} ] || {{ echo "squid has no configuration; the setup squid in the report says why"; exit 1; }}
{CLEAN}
sed -e "s|{PORT}|$2|" -e "s|{DIRECTORY}|$PWD|" {TEMPLATE} > squid.conf || exit
PATH="$PATH:{SEARCH_PATH}"
name="pilotsquid$(id -u)p$2"
if grep -q ^cache_dir squid.conf && ! [ -d cache/00 ]; then
    "$1" -N -z -n "$name" -f squid.conf || exit
fi
exec "$1" -N -d 1 -n "$name" -f squid.conf
"""


@hookimpl
def pilot_options() -> Iterator[Option]:
    """What a configuration may say of it, below ``services.squid``."""
    yield Option(name="program", type="string", default="squid", help="squid: a path, or a name looked for in PATH")
    yield Option(name="platform", type="string", default="", help="run squid of this platform's image, not the node's")
    yield Option(name="port", type="integer", default=0, help="TCP port; 0: a free one")
    yield Option(name="per", type="string", default="node", help="one for all pilots of a node, or of each pilot")
    yield Option(name="proxies", type="list", default=[], help="http://host:port behind it; none: what the pilot found")
    yield Option(name="direct", type="string", default="fallback", help="ask servers directly: never, fallback, only")
    yield Option(
        name="destinations", type="list", default=[], help="hosts and .domains that it fetches from; none: all"
    )
    yield Option(name="memory_mib", type="integer", default=256, help="memory, taken from what jobs get")
    yield Option(name="disk_mib", type="integer", default=2048, help="cache on disk; 0: in memory only")
    yield Option(name="object_mib", type="integer", default=1024, help="the largest file that is kept")
    yield Option(name="exports", type="list", default=list(EXPORTS), help="variables of jobs that name the cache")
    yield Option(
        name="cvmfs",
        type="boolean",
        default=True,
        help="the pilot's own CVMFS client asks it first, where port is given and destinations are not",
    )
    yield Option(name="required", type="boolean", default=False, help="a pilot without it ends")


@hookimpl
def pilot_checks(config: Mapping[str, Json]) -> Iterator[Check]:
    """The program is on the node, and the options make sense."""
    options = config["plugins"]["options"][NAME]
    kind = FailureKind.CONFIG if _mistake(options) else FailureKind.NODE_RESOURCE
    run = f"{__name__}:can_be_started"
    yield Check(name=NAME, run=run, kind=kind, required=options["required"], timeout_seconds=CHECK_SECONDS)


def can_be_started(context: Context) -> CheckResult:
    """Whether squid can be started as configured."""
    options = context.config["plugins"]["options"][NAME]
    mistake = _mistake(options)
    if mistake:
        return CheckResult(NAME, CheckStatus.FAIL, mistake, hint=f"correct services.{NAME}")
    if options["platform"]:
        return CheckResult(NAME, CheckStatus.PASS, f"squid comes from the image of {options['platform']}")
    program = options["program"]
    found = shutil.which(program, path=f"{context.environment.get('PATH', os.defpath)}:{SEARCH_PATH}")
    if found is not None:
        return CheckResult(NAME, CheckStatus.PASS, f"squid is {found}")
    hint = f"install Debian's or EPEL's squid, or name the program in services.{NAME}.program"
    return CheckResult(NAME, CheckStatus.FAIL, f"there is no program {program} on this node", hint=hint)


def _mistake(options: Mapping[str, Any]) -> str:
    """What is wrong with the options themselves."""
    if options["per"] not in ("pilot", "node"):
        return f"per is {options['per']!r}; pilot or node is needed"
    if not 0 <= options["port"] <= LARGEST_PORT:
        return f"port is {options['port']}; 1 to {LARGEST_PORT} is needed, or 0 for a free one"
    try:
        # Which proxies the site has is not known here.
        configuration(options, upstream({**options, "direct": "only"}, ()))
        upstream(options, [{"proxy": "http://proxy.invalid:3128", "works": True}])
    except ValueError as error:
        return str(error)
    return ""


@hookimpl
def pilot_setups(config: Mapping[str, Json]) -> Iterator[Setup]:
    """The configuration, when the proxies of the site are known."""
    required = config["plugins"]["options"][NAME]["required"]
    yield Setup(name=NAME, run=f"{__name__}:write_configuration", teardown=("/bin/sh", "-c", CLEAN), required=required)


def write_configuration(context: Context) -> SetupResult:
    """Write squid's configuration, without the port, into the directory of the service."""
    options = context.config["plugins"]["options"][NAME]
    text = configuration(options, upstream(options, context.value("network.proxies", ())))
    directory = os.path.join(context.workspace or os.curdir, "services", NAME)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with open(os.path.join(directory, TEMPLATE), "w", encoding="utf-8", opener=_private) as file:
        file.write(text)
    return SetupResult()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@hookimpl
def pilot_services(config: Mapping[str, Json]) -> Iterator[Service]:
    """Squid in the foreground, on the loopback device."""
    options = config["plugins"]["options"][NAME]
    if _mistake(options):
        return  # the check says so
    address = "{host}:{port:http}"
    yield Service(
        name=NAME,
        command=("/bin/sh", "-c", START, NAME, options["program"], "{port:http}"),
        where="image" if options["platform"] else "host",
        platform=options["platform"] or None,
        ports={"http": options["port"]},
        readiness=Readiness(http=ALIVE),
        liveness=Liveness(http=ALIVE),
        attributes={"HasSquid": True, "SquidProxy": f"http://{address}"},
        exports={name: address if name == WITHOUT_SCHEME else f"http://{address}" for name in options["exports"]},
        memory_mib=options["memory_mib"],
        per="node" if options["per"] == "node" else "pilot",
        # What is not among the destinations is refused, and a client takes that for the server's answer.
        cvmfs_proxy="http" if options["cvmfs"] and not options["destinations"] else None,
        required=options["required"],
        stop_seconds=10.0,
    )
