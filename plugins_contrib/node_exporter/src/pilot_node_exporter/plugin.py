"""The hooks of the plugin ``node_exporter``: its options, a check of the program, the service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping

from pilot_agent.hookspecs import Check, Context, Option, Readiness, Service, hookimpl
from pilot_agent.model import CheckResult, CheckStatus, Json

NAME = "node_exporter"
PROGRAM = "prometheus-node-exporter"
COLLECTORS = ("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "pressure", "stat", "uname", "vmstat")
CHECK_SECONDS = 10.0


@hookimpl
def pilot_options() -> Iterator[Option]:
    """What a configuration may say of it, below ``plugins.options.node_exporter``."""
    yield Option(
        name="program", type="string", default=PROGRAM, help="the exporter: a path, or a name looked for in PATH"
    )
    yield Option(name="port", type="integer", default=9100, help="TCP port")
    yield Option(name="collectors", type="list", default=list(COLLECTORS), help="what it measures, and nothing else")
    yield Option(name="required", type="boolean", default=False, help="a pilot without it ends")


@hookimpl
def pilot_checks(config: Mapping[str, Json]) -> Iterator[Check]:
    """The program is on the node."""
    required = config["plugins"]["options"][NAME]["required"]
    yield Check(name=NAME, run=f"{__name__}:program_is_there", required=required, timeout_seconds=CHECK_SECONDS)


def program_is_there(context: Context) -> CheckResult:
    """Whether the node has the program that would be started."""
    program = context.config["plugins"]["options"][NAME]["program"]
    found = shutil.which(program, path=context.environment.get("PATH"))
    if found is not None:
        return CheckResult(NAME, CheckStatus.PASS, f"the node exporter is {found}")
    hint = f"install Debian's {PROGRAM}, or name the program in plugins.options.{NAME}.program"
    return CheckResult(NAME, CheckStatus.FAIL, f"there is no program {program} on this node", hint=hint)


@hookimpl
def pilot_services(config: Mapping[str, Json]) -> Iterator[Service]:
    """The exporter, on the loopback device."""
    options = config["plugins"]["options"][NAME]
    address = f"127.0.0.1:{options['port']}"
    yield Service(
        name=NAME,
        command=(
            options["program"],
            f"--web.listen-address={address}",
            "--collector.disable-defaults",
            *(f"--collector.{name}" for name in options["collectors"]),
        ),
        readiness=Readiness(port=options["port"]),
        attributes={"NodeExporterUrl": f"http://{address}/metrics"},
        required=options["required"],
    )
