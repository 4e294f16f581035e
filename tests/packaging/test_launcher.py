"""The launcher starts only the payload that the factory meant, with a Python that is new enough."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import LAUNCHER, STRANGER, Built, start

VERSION = "pilot-agent 0.1.0\n"


def launch(
    payload: Path, digest: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return start(
        ["/bin/sh", "launcher.sh", "--payload", payload, "--sha256", digest, "--", *arguments],
        environment,
        cwd=payload.parent,
        uid=STRANGER,
    )


@pytest.fixture
def job(built: Built, public_dir: Path) -> Path:
    """A job's directory: launcher and both payloads."""
    shutil.copy(LAUNCHER, public_dir / "launcher.sh")
    shutil.copy(built.pyz, public_dir)
    shutil.copy(built.sh, public_dir)
    return public_dir


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["pilot.pyz", "pilot.sh"])
def test_the_right_payload_is_started(job: Path, name: str) -> None:
    done = launch(job / name, sha256(job / name), "--version")
    assert (done.stdout, done.returncode) == (VERSION, 0), done.stderr
    assert launch(job / name, sha256(job / name).upper(), "--version").stdout == VERSION


@pytest.mark.parametrize("name", ["pilot.pyz", "pilot.sh"])
def test_another_payload_is_refused(job: Path, name: str) -> None:
    done = launch(job / name, "0" * 64, "--version")
    assert done.returncode == 68
    assert json.loads(done.stdout)["code"] == "artifact.digest"
    assert sha256(job / name) in done.stderr


def test_a_missing_payload_is_named(job: Path) -> None:
    done = launch(job / "absent.pyz", "0" * 64)
    assert done.returncode == 68
    assert json.loads(done.stdout)["code"] == "artifact.missing"


@pytest.mark.parametrize("arguments", [[], ["--payload"], ["--payload", "x"], ["--nonsense"]])
def test_a_wrong_command_line_is_a_usage_error(job: Path, arguments: list[str]) -> None:
    done = start(["/bin/sh", job / "launcher.sh", *arguments])
    assert done.returncode == 2
    assert json.loads(done.stdout)["kind"] == "usage"


def test_a_poisoned_python_environment_is_ignored(job: Path) -> None:
    (job / "sitecustomize.py").write_text("raise SystemExit('poisoned')\n")
    poison = {"PYTHONPATH": str(job), "PYTHONHOME": "/nonexistent", "PYTHONINSPECT": "1"}
    done = launch(job / "pilot.pyz", sha256(job / "pilot.pyz"), "--version", environment=poison)
    assert (done.stdout, done.stderr, done.returncode) == (VERSION, "", 0)


def test_a_node_without_a_new_python_is_told_what_was_seen(job: Path) -> None:
    old = job / "old-python"
    old.write_text("#!/bin/sh\necho 3.6.8\n")
    old.chmod(0o755)
    hide = (
        'for p in /usr/bin/python3* /usr/local/bin/python3*; do [ ! -f "$p" ] || mount --bind "$OLD" "$p"; done; "$@"'
    )
    command: list[str | Path] = [
        "/bin/sh",
        job / "launcher.sh",
        "--payload",
        job / "pilot.pyz",
        "--sha256",
        sha256(job / "pilot.pyz"),
    ]
    done = start(["unshare", "-m", "sh", "-c", hide, "sh", *command, "--", "--version"], {"OLD": str(old)})
    assert done.returncode == 66
    assert json.loads(done.stdout)["code"] == "python.missing"
    assert "/usr/bin/python3 (3.6.8)" in done.stderr
    assert "pilot.sh" in done.stderr
