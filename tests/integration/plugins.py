"""Plugins for the tests, as their authors would write them: slow ones, broken ones."""

from __future__ import annotations

PREAMBLE = """\
import os
import sys
import time

from pilot_agent.hookspecs import (
    Attribute, Benchmark, Check, Mount, Periodic, Probe, Readiness, Service, Setup, SetupResult, StartdFragment,
    hookimpl,
)
from pilot_agent.model import BenchmarkScore, CheckResult, CheckStatus, Fact

"""

SLOW: dict[str, str] = {
    "configure": "time.sleep(600)\n",
    "probe": """
def work(context):
    time.sleep(600)
    yield Fact("slow.fact", 1)

@hookimpl
def pilot_probes():
    yield Probe(name="slow", run=f"{__name__}:work", gives=("slow.fact",), timeout_seconds=900)
""",
    "mount": """
def work(context):
    time.sleep(600)
    yield Fact("slow.fact", 1)

@hookimpl
def pilot_mounts():
    yield Mount(name="slow", run=f"{__name__}:work", timeout_seconds=900)
""",
    "setup_early": """
def work(context):
    time.sleep(600)
    return SetupResult()

@hookimpl
def pilot_setups():
    yield Setup(name="slow", run=f"{__name__}:work", stage="early", timeout_seconds=900)
""",
    "validate": """
def work(context):
    time.sleep(600)
    return CheckResult("slow", CheckStatus.PASS)

@hookimpl
def pilot_checks():
    yield Check(name="slow", run=f"{__name__}:work", timeout_seconds=900)
""",
    "setup_late": """
def work(context):
    time.sleep(600)
    return SetupResult()

@hookimpl
def pilot_setups():
    yield Setup(name="slow", run=f"{__name__}:work", stage="late", timeout_seconds=900)
""",
    "service": """
@hookimpl
def pilot_services():
    yield Service(
        name="slow", command=("/bin/sh", "-c", "setsid sleep 600 & exec sleep 600"),
        readiness=Readiness(file="never", timeout_seconds=900),
    )
""",
    "benchmark": """
def work(context):
    time.sleep(600)
    return BenchmarkScore("slow", score=1.0, unit="1/s", seconds=600.0)

@hookimpl
def pilot_benchmarks():
    yield Benchmark(name="slow", run=f"{__name__}:work", timeout_seconds=900, cache_days=0)
""",
}
"""Stage -> a plugin that makes it take ten minutes. While the configure stage lasts it is being imported."""

STUBBORN_PROBE = """
import signal
import subprocess

def work(context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["/bin/sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"], start_new_session=True)
    time.sleep(600)
    yield Fact("stubborn.fact", 1)

@hookimpl
def pilot_probes():
    yield Probe(name="stubborn", run=f"{__name__}:work", timeout_seconds=900)
"""
"""A probe that ignores SIGTERM and has a child in a session of its own that does so too."""

BYSTANDERS = """
def load(context):
    return {"BystanderLoad": 1.5}

@hookimpl
def pilot_services():
    yield Service(
        name="cache", command=("/bin/sh", "-c", "setsid sleep 600 & trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        attributes={"HasCache": True}, restart="never",
    )

@hookimpl
def pilot_periodics():
    yield Periodic(name="load", run=f"{__name__}:load", period_seconds=5)
"""
"""A service that stays, with a child in a session of its own, and a periodic task."""

FUSE = """
@hookimpl
def pilot_services():
    script = (
        "mkdir low mnt; touch low/inside; fuse-overlayfs -f -o lowerdir=low mnt & "
        "until test -e mnt/inside; do sleep 0.05; done; touch ready; wait"
    )
    yield Service(
        name="files", command=("/bin/sh", "-c", script), readiness=Readiness(file="ready", timeout_seconds=30),
    )
"""
"""A service that mounts a file system in its directory."""


def slow(stage: str) -> str:
    """A plugin that makes this stage slow."""
    return PREAMBLE + SLOW[stage]
