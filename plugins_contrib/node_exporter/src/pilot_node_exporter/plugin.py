"""The hooks of the plugin ``node_exporter``: its options, a check of the program, the service."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Mapping

from pilot_agent.hookspecs import Check, Context, Liveness, Metrics, Option, Readiness, Service, hookimpl
from pilot_agent.model import CheckResult, CheckStatus, Json

NAME = "node_exporter"
PROGRAM = "prometheus-node-exporter"
LOOPBACK = "127.0.0.1"
LARGEST_PORT = 65535
EVERYWHERE = ("0.0.0.0", "[::]", "::")  # noqa: S104 - what a site may ask for, and nothing that is done unasked
COLLECTORS = ("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "pressure", "stat", "uname", "vmstat")
FAMILIES = (
    "node_load1",
    "node_memory_MemAvailable_bytes",
    "node_procs_running",
    "node_procs_blocked",
    "node_disk_read_bytes_total",
    "node_disk_written_bytes_total",
    "node_network_receive_bytes_total",
    "node_network_transmit_bytes_total",
    "node_pressure_cpu_waiting_seconds_total",
    "node_pressure_io_waiting_seconds_total",
    "node_pressure_memory_waiting_seconds_total",
)
"""What makes sense as one number for the whole node."""
CHECK_SECONDS = 10.0


@hookimpl
def pilot_options() -> Iterator[Option]:
    """What a configuration may say of it, below ``services.node_exporter``."""
    yield Option(name="program", type="string", default=PROGRAM, help="the exporter: a path, or a name in PATH")
    yield Option(name="address", type="string", default=LOOPBACK, help="where it answers beside the loopback device")
    yield Option(name="port", type="integer", default=0, help="TCP port; 0: a free one")
    yield Option(name="collectors", type="list", default=list(COLLECTORS), help="what it measures, and nothing else")
    yield Option(name="families", type="list", default=list(FAMILIES), help="what of it is kept in the report")
    yield Option(name="period_seconds", type="number", default=60.0, help="how often that is read")
    yield Option(name="per", type="string", default="pilot", help="one for all pilots of a node, or of each pilot")
    yield Option(name="required", type="boolean", default=False, help="a pilot without it ends")


@hookimpl
def pilot_checks(config: Mapping[str, Json]) -> Iterator[Check]:
    """The program is on the node."""
    required = config["plugins"]["options"][NAME]["required"]
    yield Check(name=NAME, run=f"{__name__}:program_is_there", required=required, timeout_seconds=CHECK_SECONDS)


def program_is_there(context: Context) -> CheckResult:
    """Whether the node has the program that would be started."""
    program = context.config["plugins"]["options"][NAME]["program"]
    found = shutil.which(program, path=context.environment.get("PATH", os.defpath))
    if found is not None:
        return CheckResult(NAME, CheckStatus.PASS, f"the node exporter is {found}")
    hint = f"install Debian's {PROGRAM}, or name the program in services.{NAME}.program"
    return CheckResult(NAME, CheckStatus.FAIL, f"there is no program {program} on this node", hint=hint)


@hookimpl
def pilot_services(config: Mapping[str, Json]) -> Iterator[Service]:
    """The exporter, on the loopback device and where else the site wants it. Raises ``ValueError`` for an option that
    makes no sense."""
    options = config["plugins"]["options"][NAME]
    if options["per"] not in ("pilot", "node"):
        raise ValueError(f"services.{NAME}.per is {options['per']!r}; pilot or node is needed")
    if not 0 <= options["port"] <= LARGEST_PORT:
        raise ValueError(f"services.{NAME}.port is {options['port']}; 1 to {LARGEST_PORT} is needed, or 0")
    address = options["address"]
    # Everywhere is the loopback device too, and a second listener there would find the port taken.
    listened = dict.fromkeys([address] if address in EVERYWHERE else [LOOPBACK, address])
    reached = socket.gethostname() if address in EVERYWHERE else address
    page = "metrics/metrics"
    families = tuple(options["families"])
    yield Service(
        name=NAME,
        command=(
            options["program"],
            *(f"--web.listen-address={where}:{{port:metrics}}" for where in listened),
            "--web.disable-exporter-metrics",
            "--collector.disable-defaults",
            *(f"--collector.{name}" for name in options["collectors"]),
        ),
        # One core is enough for it, however many the node has.
        environment={"GOMAXPROCS": "1"},
        ports={"metrics": options["port"]},
        readiness=Readiness(http=page),
        liveness=Liveness(http=page, period_seconds=60.0, timeout_seconds=10.0),
        metrics=Metrics(http=page, names=families, period_seconds=options["period_seconds"]) if families else None,
        attributes={"NodeExporterUrl": f"http://{reached}:{{port:metrics}}/metrics"},
        per="node" if options["per"] == "node" else "pilot",
        required=options["required"],
    )
