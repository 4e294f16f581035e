"""pilot.sh unpacks only where nobody else can interfere, and uses again only what nobody else can have written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import SHELLS, STRANGER, Built, start

VERSION = "pilot-agent 0.1.0\n"
ATTACKER = 12345


@pytest.fixture
def shared(public_dir: Path) -> Path:
    """A directory like /tmp: everybody may write, only owners may remove."""
    directory = public_dir / "shared"
    directory.mkdir()
    directory.chmod(0o1777)
    return directory


def kept_name(built: Built, uid: int) -> str:
    found = re.search(rb"^SHA256=([0-9a-f]{64})$", built.sh.read_bytes()[:20000], re.MULTILINE)
    assert found
    return f"pilot-runtime-{uid}-{found[1].decode()}"


def version_with(built: Built, base: Path, uid: int = STRANGER, **variables: str) -> tuple[str, str]:
    environment = {"PILOT_AGENT_RUNTIME_DIR": str(base), "TMPDIR": str(base), **variables}
    done = start([built.sh, "--version"], environment, uid=uid)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def plant(directory: Path, marker: Path) -> None:
    """A runtime whose interpreter leaves a mark when somebody starts it."""
    (directory / "bin").mkdir(parents=True)
    program = directory / "bin/pilot-python"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)


def test_a_kept_runtime_is_used_again(built: Built, shared: Path) -> None:
    assert version_with(built, shared) == (VERSION, "")
    (kept,) = shared.iterdir()
    assert kept.name == kept_name(built, STRANGER)
    assert kept.stat().st_mode & 0o777 == 0o700
    before = kept.stat().st_ino
    assert version_with(built, shared) == (VERSION, "")
    assert kept.stat().st_ino == before


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_unpacks_uses_again_and_refuses(built: Built, shared: Path, shell: str, public_dir: Path) -> None:
    environment = {"PILOT_AGENT_RUNTIME_DIR": str(shared)}
    command = [*SHELLS[shell], str(built.sh), "--version"]
    for _ in range(2):
        done = start(command, environment, uid=STRANGER)
        assert (done.stdout, done.stderr, done.returncode) == (VERSION, "", 0)
    assert [path.name for path in shared.iterdir()] == [kept_name(built, STRANGER)]
    damaged = public_dir / "damaged.sh"
    data = built.sh.read_bytes()
    damaged.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    assert start([*SHELLS[shell], damaged, "--version"]).returncode == 68


def test_pilots_that_start_at_once_share_one_runtime(built: Built, shared: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PILOT_AGENT_RUNTIME_DIR": str(shared)}
    command = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", str(built.sh), "--version"]
    pipe = subprocess.PIPE
    starts = [subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe) for _ in range(4)]
    ended = [(*one.communicate(timeout=120), one.returncode) for one in starts]
    assert ended == [(VERSION, "", 0)] * 4
    assert [path.name for path in shared.iterdir()] == [kept_name(built, STRANGER)]


def test_a_node_without_blake2_checks_a_kept_runtime_as_well(built: Built, shared: Path, public_dir: Path) -> None:
    programs = public_dir / "programs"
    programs.mkdir()
    for path in (*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()):
        if path.name != "b2sum" and not (programs / path.name).is_symlink():
            (programs / path.name).symlink_to(path)
    assert version_with(built, shared, PATH=str(programs)) == (VERSION, "")
    (kept,) = shared.iterdir()
    before = kept.stat().st_ino
    assert version_with(built, shared, PATH=str(programs)) == (VERSION, "")
    assert kept.stat().st_ino == before
    module = kept / "lib/python3.13/os.pyc"
    content = module.read_bytes()
    module.write_bytes(content[::-1])
    assert version_with(built, shared, PATH=str(programs)) == (VERSION, "")
    assert module.read_bytes() == content


@pytest.mark.parametrize(
    "damage", ["truncated", "removed", "altered", "module", "added", "linked", "hidden", "elsewhere"]
)
def test_a_damaged_kept_runtime_is_made_again(built: Built, shared: Path, damage: str) -> None:
    """Also where it was a job of the same account, that kept the size of each file."""
    version_with(built, shared)
    (kept,) = shared.iterdir()
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    if damage == "truncated":
        os.truncate(kept / "lib/python3.13/argparse.pyc", 10)
    elif damage == "removed":
        (kept / "so/libcrypto.so.3").unlink()
    elif damage == "module":
        module = kept / "lib/python3.13/os.pyc"
        module.write_bytes(module.read_bytes()[::-1])
    elif damage in ("added", "hidden"):
        package = kept / "lib/python3.13/argparse"
        package.mkdir()
        (package / "__init__.py").write_text("raise SystemExit(9)")
        package.chmod(0o755 if damage == "added" else 0o111)
        os.chown(package, STRANGER, STRANGER)
    elif damage == "linked":
        (kept / "lib/python3.13/argparse.py").symlink_to("/dev/null")
    elif damage == "elsewhere":  # as many files as before, and all that are known are unaltered
        directory = kept / "lib/python3.13/json"
        inside = sum(path.is_file() for path in directory.rglob("*"))
        other = shared.parent / "other"
        shutil.move(directory, other)
        (other / "json.py").write_text("raise SystemExit(9)")
        directory.symlink_to(other)
        for number in range(inside - 1):
            (kept / f"junk{number}").touch()
    else:
        payload = kept / "pilot.pyz"
        data = payload.read_bytes()
        payload.write_bytes(data[:5000] + b"x" + data[5001:])
    assert version_with(built, shared) == (VERSION, "")
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before


def test_a_runtime_of_another_account_is_refused(built: Built, shared: Path, public_dir: Path) -> None:
    trap = shared / kept_name(built, STRANGER)
    plant(trap, public_dir / "marker")
    for path in (trap, *trap.rglob("*")):
        os.chown(path, ATTACKER, ATTACKER)
    output, errors = version_with(built, shared)
    assert output == VERSION
    assert f"it belongs to uid {ATTACKER}" in errors
    assert not (public_dir / "marker").exists()
    assert list(shared.iterdir()) == [trap]


def test_a_link_in_place_of_the_runtime_is_refused(built: Built, shared: Path, public_dir: Path) -> None:
    plant(public_dir / "elsewhere", public_dir / "marker")
    trap = shared / kept_name(built, STRANGER)
    trap.symlink_to(public_dir / "elsewhere")
    os.chown(trap, STRANGER, STRANGER, follow_symlinks=False)
    output, errors = version_with(built, shared)
    assert output == VERSION
    assert "it is not a directory" in errors
    assert (public_dir / "elsewhere/bin/pilot-python").exists()
    assert not (public_dir / "marker").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_runtime_that_others_can_write_is_refused(built: Built, shared: Path, mode: int) -> None:
    version_with(built, shared)
    (kept,) = shared.iterdir()
    kept.chmod(mode)
    output, errors = version_with(built, shared)
    assert output == VERSION
    assert "its mode is" in errors


def test_a_base_where_everybody_can_rename_is_refused(built: Built, public_dir: Path) -> None:
    base = public_dir / "open"
    base.mkdir()
    base.chmod(0o777)
    done = start([built.sh, "--version"], {"PILOT_AGENT_RUNTIME_DIR": str(base)}, uid=STRANGER)
    assert done.stdout == VERSION
    assert "everybody may rename" in done.stderr
    assert list(base.iterdir()) == []


def test_a_base_of_another_account_is_refused(built: Built, shared: Path) -> None:
    os.chown(shared, ATTACKER, ATTACKER)
    output, errors = version_with(built, shared)
    assert output == VERSION
    assert f"it belongs to uid {ATTACKER}" in errors


def test_a_scratch_directory_that_everybody_can_rename_in_is_passed_over(built: Built, public_dir: Path) -> None:
    base = public_dir / "open"
    base.mkdir()
    base.chmod(0o777)
    done = start(["sh", "-x", built.sh, "--version"], {"_CONDOR_SCRATCH_DIR": str(base)}, uid=STRANGER)
    assert done.stdout == VERSION
    assert f"pilot-runtime={base}" not in done.stderr
    assert "runtime=/tmp/pilot-runtime." in done.stderr


def test_no_usable_place_is_an_error_that_names_all_that_were_tried(built: Built) -> None:
    script = 'mount -t tmpfs -o noexec none /tmp && mount -t tmpfs -o noexec none /var/tmp && "$@"'
    moved = Path("/run/pilot-test-noexec.sh")
    shutil.copy(built.sh, moved)
    try:
        command = ["unshare", "-m", "sh", "-ec", script, "sh", "setpriv", f"--reuid={STRANGER}", "--clear-groups"]
        done = start([*command, "/bin/sh", moved, "--version"], {"TMPDIR": "/nonexistent"}, cwd="/proc")
    finally:
        moved.unlink()
    assert done.returncode == 64
    assert done.stdout.startswith('{"kind": "node_resource", "code": "workspace.unusable"')
    for tried in (
        "_CONDOR_SCRATCH_DIR=: not set",
        "TMPDIR=/nonexistent: not a directory",
        "PWD=/proc: not writable",
        "/tmp: programs may not be started there",
        "/var/tmp: programs may not be started there",
    ):
        assert tried in done.stderr


def test_a_damaged_file_is_refused(built: Built, public_dir: Path) -> None:
    damaged = public_dir / "pilot.sh"
    data = bytearray(built.sh.read_bytes())
    data[-100] ^= 1
    damaged.write_bytes(data)
    done = start(["/bin/sh", damaged, "--version"])
    assert done.returncode == 68
    assert '"code": "artifact.digest"' in done.stdout


def test_another_processor_is_told_so(built: Built, public_dir: Path) -> None:
    uname = public_dir / "uname"
    uname.write_text('#!/bin/sh\n[ "$1" = -m ] && echo aarch64 || echo Linux\n')
    uname.chmod(0o755)
    done = start([built.sh, "--version"], {"PATH": f"{public_dir}:/usr/bin:/bin"})
    assert done.returncode == 66
    assert "aarch64" in done.stderr
    assert '"code": "platform.unsupported"' in done.stdout


def test_a_pipe_is_told_that_a_file_is_needed(built: Built) -> None:
    done = start(["sh", "-c", 'sh <"$1"', "sh", built.sh])
    assert done.returncode == 66
    assert "not from a pipe" in done.stderr
