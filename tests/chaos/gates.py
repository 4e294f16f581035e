"""Plugins that hold a pilot at a stage, so that a point is struck there and nowhere else."""

from __future__ import annotations

GATED = ("configure", "probe", "mount", "setup_early", "validate", "setup_late", "service", "benchmark")
"""Stages in which a plugin's code runs: the pilot stays there until the gate is opened."""
PASSING = ("container", "advertise", "handoff")
"""Stages without such code: they are met as their first event appears in the event log."""
LATE = ("idle", "running", "teardown")
"""After the hand-off: joined without a job, with a running job, being taken down with a job that will not go."""
EARLY = ("configure", "probe", "mount", "setup_early", "container", "validate", "setup_late", "service", "benchmark",
         "advertise", "handoff")  # fmt: skip
STAGES = (*EARLY, *LATE)
WITH_SERVICES = ("benchmark", "advertise", "handoff", *LATE)
"""Where the pilot has services, of which one is started again and again."""

_HEAD = """\
import time
from pathlib import Path

from pilot_agent.hookspecs import (
    Benchmark, Check, Mount, Periodic, Probe, Readiness, Service, Setup, SetupResult, hookimpl,
)
from pilot_agent.model import BenchmarkScore, CheckResult, CheckStatus, Fact

HERE = Path(__file__).parent
AT, GO = HERE / "at", HERE / "go"


def stay():
    AT.touch()
    until = time.monotonic() + 300
    while not GO.exists() and time.monotonic() < until:
        time.sleep(0.02)

"""

_SETUP = """
def work(context):
    stay()
    return SetupResult()

@hookimpl
def pilot_setups():
    yield Setup(name="gate", run=f"{__name__}:work", stage="@STAGE@", timeout_seconds=400)
"""
_BODIES = {
    "configure": "stay()\n",
    "probe": """
def work(context):
    stay()
    yield Fact("gate.passed", True)

@hookimpl
def pilot_probes():
    yield Probe(name="gate", run=f"{__name__}:work", gives=("gate.passed",), timeout_seconds=400)
""",
    "mount": """
def work(context):
    stay()
    yield Fact("gate.passed", True)

@hookimpl
def pilot_mounts():
    yield Mount(name="gate", run=f"{__name__}:work", timeout_seconds=400)
""",
    "setup_early": _SETUP.replace("@STAGE@", "early"),
    "validate": """
def work(context):
    stay()
    return CheckResult("gate", CheckStatus.PASS)

@hookimpl
def pilot_checks():
    yield Check(name="gate", run=f"{__name__}:work", timeout_seconds=400)
""",
    "setup_late": _SETUP.replace("@STAGE@", "late"),
    "service": """
SCRIPT = f"setsid sleep 900 & touch {AT}; exec sleep 900"

@hookimpl
def pilot_services():
    yield Service(name="gate", command=("/bin/sh", "-c", SCRIPT),
                  readiness=Readiness(command=("/bin/sh", "-c", f"test -e {GO}"), timeout_seconds=400))
""",
    "benchmark": """
def work(context):
    stay()
    return BenchmarkScore("gate", score=1.0, unit="1/s", seconds=1.0)

@hookimpl
def pilot_benchmarks():
    yield Benchmark(name="gate", run=f"{__name__}:work", timeout_seconds=400, cache_days=0)
""",
}

# What a pilot has beside its jobs: a service with a child in a session of its own, one that needs it and is for ever
# started again, each time with such a child left over, and a periodic task.
BYSTANDERS = """
def load(context):
    return {"BystanderLoad": 1.5}

@hookimpl
def pilot_services():
    yield Service(name="cache", command=(
        "/bin/sh", "-c", "setsid sleep 900 & trap 'exit 0' TERM; while :; do sleep 0.2; done"))
    yield Service(name="restless", command=("/bin/sh", "-c", "setsid sleep 900 & : > ready; sleep 1.5; exit 3"),
                  readiness=Readiness(file="ready"), needs=("cache",), required=False, per="node",
                  restart_limit=100000, backoff_seconds=0.2, backoff_limit_seconds=0.5)

@hookimpl
def pilot_periodics():
    yield Periodic(name="load", run=f"{__name__}:load", period_seconds=5)
"""

STUCK_SERVICE = """
@hookimpl
def pilot_services():
    yield Service(name="stuck", command=("/bin/sh", "-c", "cat @SILENT@/file; exec sleep 900"), stop_seconds=1)
"""
STUCK_PROBE = """
def work(context):
    yield Fact("stuck.file", open("@SILENT@/file").read())

@hookimpl
def pilot_probes():
    yield Probe(name="stuck", run=f"{__name__}:work", gives=("stuck.file",), timeout_seconds=@SECONDS@)
"""


def gate(stage: str) -> str:
    """A plugin that holds the pilot in this stage."""
    return _HEAD + _BODIES[stage]


def plugin(body: str) -> str:
    """A plugin with one of this module's other bodies."""
    return _HEAD + body
