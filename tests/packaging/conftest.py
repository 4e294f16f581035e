"""The built files, made from the download cache of `make payload`, and ways to start them like a node would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / "build/cache"
LAUNCHER = PROJECT / "packaging/launcher.sh"
STRANGER = 65534
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}
PATIENCE_SECONDS = 60.0
sys.path.insert(0, str(PROJECT / "packaging"))

PYPROJECT = """
[project]
name = "example-vo"
version = "2.5"
license = "MIT"
dependencies = [{needs}]

[project.entry-points.pilot_agent]
example = "example_vo.hooks"
"""
HOOKS = """
from importlib.resources import files

from pilot_agent.hookspecs import Attribute, Option, hookimpl


@hookimpl
def pilot_options():
    yield Option(name="colour", type="string", default="red")


@hookimpl
def pilot_attributes(config):
    colour = config["plugins"]["options"]["example"]["colour"]
    word = files("example_vo").joinpath("word.txt").read_text()
    yield Attribute(name=f"Example_{colour}_{word}", value=True)
"""

LOOKING_GLASS_CLI = '''
"""Prints what the start of the payload has made of this process, and of a child."""
import json, os, subprocess, sys, time

def main(argv):
    if argv == ["sleep"]:
        print(os.getpid(), flush=True)
        time.sleep(60)
    if argv == ["change-account"]:
        from pilot_agent.__main__ import hand_over_runtime
        hand_over_runtime(65534, 65534)
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        import zipfile
        print(os.geteuid(), zipfile.__name__)
        return 0
    command = [*json.loads(os.environ["PILOT_AGENT_INTERPRETER"]), os.environ["PILOT_AGENT_PAYLOAD"], "_child"]
    child = subprocess.run(command, capture_output=True, text=True, cwd="/").stdout if argv != ["no-child"] else ""
    seen = {"flags": [sys.flags.isolated, sys.flags.no_site, sys.flags.dont_write_bytecode, sys.flags.utf8_mode]}
    seen |= {"path": sys.path, "argv": argv, "environment": dict(os.environ), "child": child.strip()}
    seen |= {"encoding": sys.stdout.encoding, "command": command, "prefix": sys.prefix}
    print(json.dumps(seen))
    return 0
'''
LOOKING_GLASS_CHILD = """
import sys

def main(argv):
    print(sys.flags.isolated, sys.flags.no_site, *sys.version_info[:2])
    return 0
"""


@dataclass(frozen=True, slots=True)
class Built:
    """Both files of one build, in a directory that every account can read."""

    pyz: Path
    sh: Path


def system_python() -> str:
    """A Python >= 3.11 that any account may start."""
    for name in ("python3.13", "python3.12", "python3.11"):
        if found := shutil.which(name, path="/usr/bin:/usr/local/bin"):
            return found
    pytest.fail("no python3.11, python3.12 or python3.13 in /usr/bin or /usr/local/bin")


def start(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    cwd: Path | str = "/",
    uid: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command with exactly this environment (PATH is given), as another account if told to."""
    as_account = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    env = {"PATH": "/usr/bin:/bin", **(environment or {})}
    words = [*as_account, *(str(word) for word in command)]
    return subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def plugin_source(directory: Path, needs: str = "", pyproject: str = PYPROJECT) -> Path:
    """A plugin's directory with a package, a data file and a licence."""
    package = directory / "src/example_vo"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__/hooks.cpython-311.pyc").write_bytes(b"junk")
    (package / "__init__.py").write_text("")
    (package / "hooks.py").write_text(HOOKS)
    (package / "word.txt").write_text("hello")
    (directory / "LICENSE").write_text("all of it")
    (directory / "pyproject.toml").write_text(pyproject.replace("{needs}", needs))
    return directory


def forms(built: Built) -> dict[str, list[str]]:
    """How each of the two files is started."""
    return {"pyz": [system_python(), str(built.pyz)], "sh": ["/bin/sh", str(built.sh)]}


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A directory that every account can enter (pytest's own are closed)."""
    path = Path(tempfile.mkdtemp(prefix="pilot-test-public."))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _build(project: Path, output: Path, plugins: Sequence[Path] = ()) -> Built:
    from build_payload import build

    if not (CACHE / "debs").is_dir():
        pytest.fail(f"{CACHE}/debs is missing: run `make payload` first; tests download nothing")
    build(project, output, CACHE, plugins=plugins)
    return Built(output / "pilot.pyz", output / "pilot.sh")


@pytest.fixture(scope="session")
def output_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pilot-test-built."))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def built(output_dir: Path) -> Built:
    """The payload of this checkout, from a copy that stays as it is while the tests run, with a plugin that a factory
    chose."""
    copy = output_dir / "snapshot"
    shutil.copytree(PROJECT / "pilot_agent", copy / "pilot_agent", ignore=shutil.ignore_patterns("__pycache__"))
    return _build(copy, output_dir / "real", [plugin_source(output_dir / "plugin")])


@pytest.fixture(scope="session")
def looking_glass(output_dir: Path) -> Built:
    """A payload with the real start and a command line that prints what it was started with."""
    package = output_dir / "project/pilot_agent"
    package.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py", "dataclass_code.py", "light.py"):
        shutil.copy(PROJECT / "pilot_agent" / name, package / name)
    (package / "cli.py").write_text(LOOKING_GLASS_CLI)
    (package / "child.py").write_text(LOOKING_GLASS_CHILD)
    return _build(output_dir / "project", output_dir / "glass")


@pytest.fixture(scope="session")
def kept(output_dir: Path) -> dict[str, str]:
    """Environment with which pilot.sh unpacks once for many tests."""
    return {"PILOT_AGENT_RUNTIME_DIR": str(output_dir / "kept")}


@pytest.fixture(params=["pyz", "sh"])
def version_command(request: pytest.FixtureRequest, built: Built) -> list[str]:
    """`--version` of each of the two files."""
    return [*forms(built)[request.param], "--version"]


@pytest.fixture(autouse=True)
def nothing_is_left_in_tmp() -> Iterator[None]:
    """No test may leave an unpacked interpreter behind. Those of other pilots on this machine come and go."""
    before = _unpacked()
    yield
    new = _unpacked() - before
    until = time.monotonic() + PATIENCE_SECONDS
    while new & _unpacked() and time.monotonic() < until:
        time.sleep(0.1)
    assert not new & _unpacked()


def _unpacked() -> set[str]:
    return {name for name in os.listdir("/tmp") if name.startswith(("pilot-runtime", "pilot-psutil"))}
