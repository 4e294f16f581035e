"""The factory on a site's gate: this checkout's code in the factory's shared home, run as its own account."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.testbed import unit_tests
from tests.testbed.command import CommandError
from tests.testbed.grid import SITE_POOL, USER_POOL
from tests.testbed.slurm import PARTITION
from tests.testbed.slurm_site import LOGIN, POOL_LOGIN, SlurmSite, give
from tests.testbed.trees import FACTORY

PROJECT = Path(__file__).resolve().parents[2]
INSTALLED = f"{FACTORY.home}/pilot-factory"
CONFIGURATION = f"{INSTALLED}/factory.yaml"
COMMAND_TIMEOUT_SECONDS = 180.0
TAIL_SECONDS = 1

DIRECT, OVER_SSH, SCHEDD, POOL, REFUSED = "slurm-direct", "slurm-login", "htcondor-site", "htcondor-login", "refused"
ENTRIES: Mapping[str, Mapping[str, Any]] = {
    DIRECT: {"type": "batch slurm", "queue": PARTITION, "walltime_seconds": 1800},
    OVER_SSH: {"type": "batch slurm", "contact": LOGIN, "queue": PARTITION, "walltime_seconds": 1800},
    SCHEDD: {
        "type": "condor",
        "contact": f"{SITE_POOL.head}:9618",
        "requirements": f'TARGET.Machine == "wn1.{SITE_POOL.domain}"',
        "submit": {"schedd": f"factory.{SITE_POOL.domain}", "payload": "file"},
    },
    # Nothing tells the pool which of its nodes has a Python: this payload brings its own.
    POOL: {"type": "batch condor", "contact": POOL_LOGIN, "payload": "sh"},
    REFUSED: {"type": "batch slurm", "queue": "nowhere"},
}
"""What is particular about each entry."""

Json = Any


class SiteFactory:
    """The factory of one gate, whose commands its operator gives."""

    def __init__(self, site: SlurmSite, payloads: Path) -> None:
        self._site = site
        self._numbers = itertools.count()
        self._gate = site.gate
        code = self._gate.path(INSTALLED)
        code.mkdir()
        for package in ("pilot_agent", "server_stub"):
            shutil.copytree(PROJECT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
        (code / "payload").mkdir()
        (code / "tokens").mkdir()
        for name in ("pilot.pyz", "pilot.sh"):
            shutil.copyfile(payloads / name, code / "payload" / name)
        shutil.copy2(PROJECT / "packaging" / "launcher.sh", code / "launcher.sh")
        (code / "launcher.sh").chmod(0o755)
        (code / "factory.yaml").write_text(json.dumps(configuration(), indent=1), encoding="utf-8")
        for path in (code, *code.rglob("*")):
            os.chown(path, FACTORY.uid, FACTORY.uid)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the factory's to its end."""
        return self._gate.run(
            ["python3", "-B", "-m", "server_stub", "factory", *words],
            user=FACTORY.name,
            cwd=INSTALLED,
            env={"PYTHONPATH": f"{INSTALLED}:{unit_tests.SITE}", "PILOT_FACTORY_CONFIG": CONFIGURATION},
            timeout_seconds=COMMAND_TIMEOUT_SECONDS,
        )

    def told(self, *words: str) -> Json:
        """The JSON that a command answered. Raises CommandError with what it said where it failed."""
        done = self.run(*words, "--json")
        if done.returncode != 0:
            raise CommandError(f"{' '.join(words)}: exit status {done.returncode}\n{done.stderr}\n{self._site.log()}")
        return json.loads(done.stdout)

    def submit(self, entry: str) -> dict[str, Json]:
        """Submit one pilot, with a token of its own; the pilot as the factory shows it."""
        name = f"{next(self._numbers)}.token"
        give(self._gate, f"{INSTALLED}/tokens/{name}", self._site.grid.token(), mode=0o600)
        (pilot,) = self.told("submit", "--entry", entry)
        shown: dict[str, Json] = pilot
        return shown

    def pilot(self, number: str) -> dict[str, Json]:
        """A pilot after the batch system was asked once more."""
        self.told("collect")
        found: Sequence[dict[str, Json]] = self.told("pilots", "list")
        return next(pilot for pilot in found if pilot["id"] == number)

    def returned(self, pilot: Mapping[str, Json], name: str) -> Path:
        """Where the outer machine finds a file that a pilot returned."""
        return self._gate.path(f"{pilot['directory']}/{name}")


def configuration() -> dict[str, Json]:
    """The factory's file. All that the batch system copies lies in the home that the site's nodes see too."""
    return {
        "name": "gate-factory",
        "state": "state",
        "payloads": "payload",
        "launcher": "launcher.sh",
        "url": "http://gate:8080",
        "pilot": {
            "pool": {"collectors": [f"{USER_POOL.head}:9618"], "join_seconds": 20},
            "vo": {"name": "example", "containers": "never"},
            "startd": {"idle_shutdown_seconds": 300, "tail_shutdown_seconds": TAIL_SECONDS},
            "on_failure": {"hold_seconds": 0},
            "benchmarks": {"seconds": 0.01, "budget_seconds": 1000},
        },
        "entries": [
            {
                "name": name,
                "site": name,
                "payload": "pyz",
                "tokens": "tokens",
                "memory_mib": 500,
                "pilot": {"site": {"containers": "never"}, "time": {"vacate_seconds": 3}},
                **particular,
            }
            for name, particular in ENTRIES.items()
        ],
    }
