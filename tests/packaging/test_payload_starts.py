"""The built files start on nodes that are not what one would wish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.conftest import STRANGER, Built, forms, start, system_python

VERSION = "pilot-agent 0.1.0\n"


def look(built: Built, form: str, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    done = start([*forms(built)[form], *arguments], environment)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_version_is_answered_from_any_directory(version_command: list[str], tmp_path: Path) -> None:
    for cwd in ("/", "/proc", tmp_path):
        done = start(version_command, cwd=cwd)
        assert (done.stdout, done.stderr, done.returncode) == (VERSION, "", 0)


def test_version_is_answered_with_a_relative_path(built: Built) -> None:
    assert start(["/bin/sh", "pilot.sh", "--version"], cwd=built.sh.parent).stdout == VERSION
    assert start([system_python(), "pilot.pyz", "--version"], cwd=built.pyz.parent).stdout == VERSION


def test_the_files_are_programs_themselves(built: Built) -> None:
    assert start([built.pyz, "--version"]).stdout == VERSION
    assert start([built.sh, "--version"]).stdout == VERSION


def test_an_ordinary_account_with_a_read_only_home_can_start_it(version_command: list[str], public_dir: Path) -> None:
    public_dir.chmod(0o555)
    done = start(version_command, {"HOME": str(public_dir)}, uid=STRANGER)
    assert (done.stdout, done.returncode) == (VERSION, 0), done.stderr
    assert list(public_dir.iterdir()) == []


@pytest.mark.parametrize(
    "environment",
    [{}, {"TMPDIR": "/nonexistent", "_CONDOR_SCRATCH_DIR": "/nonexistent"}, {"HOME": "/nonexistent"}],
    ids=["nothing set", "TMPDIR missing", "HOME missing"],
)
def test_a_bare_environment_is_enough(version_command: list[str], environment: dict[str, str]) -> None:
    done = start(version_command, environment, uid=STRANGER)
    assert (done.stdout, done.returncode) == (VERSION, 0), done.stderr


def test_no_network_is_needed(version_command: list[str]) -> None:
    assert start(["unshare", "-n", *version_command]).stdout == VERSION


@pytest.mark.parametrize("closing", [">&-", "<&- >&- 2>&-", ">/dev/full", "| true"])
def test_a_closed_or_full_standard_output_is_no_reason_to_fail(
    version_command: list[str], closing: str, public_dir: Path, kept: dict[str, str]
) -> None:
    done = start(["sh", "-c", f'"$@" {closing}', "sh", *version_command], kept, cwd=public_dir)
    assert done.returncode == 0
    assert done.stderr == ""
    assert list(public_dir.iterdir()) == []


@pytest.mark.parametrize("form", ["pyz", "sh"])
def test_closed_streams_are_open_to_commands(looking_glass: Built, form: str, public_dir: Path) -> None:
    result = public_dir / "err"
    command = ["sh", "-c", '"$@" no-child <&- >&- 2>"$OUT"', "sh", *forms(looking_glass)[form]]
    done = start(command, {"OUT": str(result)})
    assert done.returncode == 0
    assert result.read_text() == ""


@pytest.mark.parametrize("form", ["pyz", "sh"])
@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1", "nonsense"])
def test_text_is_utf_8_in_every_locale(looking_glass: Built, form: str, locale: str, kept: dict[str, str]) -> None:
    seen = look(looking_glass, form, "\u00e9\u20ac", environment={"LC_ALL": locale, "LANG": locale, **kept})
    assert seen["encoding"] == "utf-8"
    assert seen["argv"] == ["\u00e9\u20ac"]


@pytest.mark.parametrize("form", ["pyz", "sh"])
def test_commands_and_children_run_isolated(looking_glass: Built, form: str) -> None:
    seen = look(looking_glass, form)
    assert seen["flags"] == [1, 1, 1, 1]
    assert seen["child"].split()[:2] == ["1", "1"]
    assert not [entry for entry in seen["path"] if "-packages" in entry]


@pytest.mark.parametrize("form", ["pyz", "sh"])
def test_a_poisoned_python_environment_is_ignored(looking_glass: Built, form: str, public_dir: Path) -> None:
    for name in ("json.py", "subprocess.py", "signal.py", "pilot_agent.py"):
        (public_dir / name).write_text("raise SystemExit('poisoned')\n")
    poison = {"PYTHONPATH": str(public_dir), "PYTHONINSPECT": "1", "PYTHONWARNINGS": "error", "PYTHONUTF8": "0"}
    seen = look(looking_glass, form, environment={**poison, "PYTHONDEVMODE": "1"})
    assert str(public_dir) not in seen["path"]
    assert seen["child"]


def test_the_private_python_ignores_pythonhome_and_library_variables(looking_glass: Built, public_dir: Path) -> None:
    for name in ("libz.so.1", "libexpat.so.1", "libm.so.6"):
        (public_dir / name).write_text("not a library")
    poison = {"PYTHONHOME": "/nonexistent", "LD_LIBRARY_PATH": str(public_dir), "LD_PRELOAD": "/nonexistent/x.so"}
    seen = look(looking_glass, "sh", environment=poison)
    environment = seen["environment"]
    assert environment["LD_LIBRARY_PATH"] == str(public_dir)
    assert "LD_PRELOAD" not in environment
    assert environment["PILOT_AGENT_SITE_LD_PRELOAD"] == "/nonexistent/x.so"
    assert seen["child"] == "1 1 3 13"


def test_a_missing_preloaded_library_does_not_stop_pilot_pyz(built: Built) -> None:
    done = start([*forms(built)["pyz"], "--version"], {"LD_PRELOAD": "/nonexistent/x.so"})
    assert (done.stdout, done.returncode) == (VERSION, 0)


def test_private_library_paths_are_in_the_command_and_not_in_the_environment(looking_glass: Built) -> None:
    seen = look(looking_glass, "sh")
    assert seen["command"][0] == f"{seen['prefix']}/bin/pilot-python"
    assert "LD_LIBRARY_PATH" not in seen["environment"]
    assert seen["environment"]["PATH"] == "/usr/bin:/bin"


def test_the_unpacked_interpreter_is_gone_after_the_command(looking_glass: Built, public_dir: Path) -> None:
    seen = look(looking_glass, "sh", environment={"TMPDIR": str(public_dir)})
    assert Path(seen["prefix"]).parent == public_dir
    assert list(public_dir.iterdir()) == []


def test_the_unpacked_interpreter_is_gone_after_sigterm(looking_glass: Built, public_dir: Path) -> None:
    command = [*forms(looking_glass)["sh"], "sleep"]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(public_dir)}
    with subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid, "pilot.sh must become the interpreter"
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(public_dir.iterdir()) == []


def test_root_may_change_to_an_account_that_then_removes_the_interpreter(
    looking_glass: Built, public_dir: Path
) -> None:
    public_dir.chmod(0o1777)
    done = start([looking_glass.sh, "change-account"], {"TMPDIR": str(public_dir)})
    assert (done.stdout, done.stderr) == ("65534 zipfile\n", "")
    assert list(public_dir.iterdir()) == []


def test_keep_runtime_leaves_it_and_says_where(looking_glass: Built, public_dir: Path) -> None:
    done = start([looking_glass.sh, "--keep-runtime", "no-child"], {"TMPDIR": str(public_dir)})
    (kept,) = public_dir.iterdir()
    assert str(kept) in done.stderr
    assert json.loads(done.stdout)["prefix"] == str(kept)


def test_carried_libraries_work_from_the_payload_and_leave_no_file(looking_glass: Built, public_dir: Path) -> None:
    code = (
        "import sys; a = sys.argv[1]; sys.path[:0] = [a + '/cp311'] * (sys.version_info[1] == 11) + [a]\n"
        "import psutil, pluggy, yaml, pynvml\n"
        "print(psutil.Process().memory_info().rss > 0, psutil._psutil_linux.__name__)\n"
    )
    command = [system_python(), "-I", "-S", "-B", "-W", "error", "-c", code, str(looking_glass.pyz)]
    done = start(command, {"TMPDIR": str(public_dir)}, cwd=public_dir)
    assert done.stdout.splitlines() == ["True psutil._psutil_linux"], done.stderr
    assert list(public_dir.iterdir()) == []
