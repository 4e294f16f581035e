"""The launcher starts only the payload that the factory meant, with a Python that is new enough."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.conftest import LAUNCHER, SHELLS, STRANGER, Built, start, system_python

VERSION = "pilot-agent 0.1.0\n"


OLD = "#!/bin/sh\necho 3.6.8\n"
HIDE = 'for p in /usr/bin/python3* /usr/local/bin/python3*; do [ ! -f "$p" ] || mount --bind "$OLD" "$p"; done; "$@"'
"""Whatever Python this machine has is another one for a while."""


@dataclass(frozen=True)
class Job:
    """A job's directory with launcher and payloads, and the shell that runs the launcher there."""

    directory: Path
    shell: tuple[str, ...]

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def launch(
        self, payload: str, digest: str, *arguments: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        words = [*self.shell, "launcher.sh", "--payload", payload, "--sha256", digest, *arguments]
        return start(words, environment, cwd=self.directory, uid=STRANGER)

    def without_python(
        self, *options: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """As root, where what this machine has is too old."""
        script(self / "old-python", OLD)
        payload = ["--payload", str(self / "pilot.pyz"), "--sha256", sha256(self / "pilot.pyz")]
        words = [*self.shell, str(self / "launcher.sh"), *payload, *options, "--", "--version"]
        known = {"OLD": str(self / "old-python"), **(environment or {})}
        return start(["unshare", "-m", "sh", "-c", HIDE, "sh", *words], known, cwd=self.directory)


def script(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


@pytest.fixture(params=SHELLS)
def job(request: pytest.FixtureRequest, built: Built, public_dir: Path) -> Job:
    """Launcher and both payloads."""
    shutil.copy(LAUNCHER, public_dir / "launcher.sh")
    shutil.copy(built.pyz, public_dir)
    shutil.copy(built.sh, public_dir)
    return Job(public_dir, tuple(SHELLS[request.param]))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["pilot.pyz", "pilot.sh"])
def test_the_right_payload_is_started(job: Job, name: str) -> None:
    done = job.launch(name, sha256(job / name), "--", "--version")
    assert (done.stdout, done.returncode) == (VERSION, 0), done.stderr
    assert job.launch(name, sha256(job / name).upper(), "--", "--version").stdout == VERSION


@pytest.mark.parametrize("name", ["pilot.pyz", "pilot.sh"])
def test_another_payload_is_refused(job: Job, name: str) -> None:
    done = job.launch(name, "0" * 64, "--", "--version")
    assert done.returncode == 68
    assert json.loads(done.stdout)["code"] == "artifact.digest"
    assert sha256(job / name) in done.stderr


def test_a_missing_payload_is_named(job: Job) -> None:
    done = job.launch("absent.pyz", "0" * 64)
    assert done.returncode == 68
    assert json.loads(done.stdout)["code"] == "artifact.missing"


@pytest.mark.parametrize(
    "arguments", [[], ["--payload"], ["--payload", "x"], ["--nonsense"], ["--python"], ["--image", ""]]
)
def test_a_wrong_command_line_is_a_usage_error(job: Job, arguments: list[str]) -> None:
    done = start([*job.shell, job / "launcher.sh", *arguments])
    assert done.returncode == 2
    assert json.loads(done.stdout)["kind"] == "usage"


def test_a_poisoned_python_environment_is_ignored(job: Job) -> None:
    (job / "sitecustomize.py").write_text("raise SystemExit('poisoned')\n")
    poison = {"PYTHONPATH": str(job.directory), "PYTHONHOME": "/nonexistent", "PYTHONINSPECT": "1"}
    done = job.launch("pilot.pyz", sha256(job / "pilot.pyz"), "--", "--version", environment=poison)
    assert (done.stdout, done.stderr, done.returncode) == (VERSION, "", 0)


def test_a_node_without_a_new_python_is_told_what_was_seen(job: Job) -> None:
    done = job.without_python()
    assert done.returncode == 66
    assert json.loads(done.stdout)["code"] == "python.too_old"
    assert "/usr/bin/python3 (3.6.8)" in done.stderr
    assert "pilot.sh" in done.stderr


def test_a_configured_python_is_taken_before_all_others(job: Job) -> None:
    inner = f'#!/bin/sh\necho chosen >&2\nexec {system_python()} "$@"\n'
    script(job / "its python/3.13/bin/python3", inner)
    pattern = str(job / "its python/*/bin/python3")
    done = job.launch("pilot.pyz", sha256(job / "pilot.pyz"), "--python", pattern, "--", "--version")
    assert (done.stdout, done.stderr, done.returncode) == (VERSION, "chosen\n", 0)


def test_of_several_configured_ones_the_first_that_works_is_taken(job: Job) -> None:
    script(job / "old/python", OLD)
    script(job / "broken/python", "#!/bin/sh\nexit 1\n")
    script(job / "bare/python", "#!/bin/sh\necho 3.12.1 without ssl, ctypes\n")
    script(job / "talks/python", "#!/bin/sh\nwhile echo 9; do :; done\n")
    script(job / "good/python", f'#!/bin/sh\nexec {system_python()} "$@"\n')
    names = ("old", "broken", "bare", "talks", "absent")
    options = [word for name in names for word in ("--python", str(job / name / "python"))]
    found = job.without_python(*options, "--python", str(job / "good/python"))
    # system_python() is hidden too, so what is good elsewhere is not here
    assert found.returncode == 66
    for words in ("old/python (3.6.8)", "broken/python (does not start)", "bare/python (3.12.1 without ssl, ctypes)"):
        assert words in found.stderr
    assert f"{job / 'absent/python'} (no such program)" in found.stderr
    done = job.launch("pilot.pyz", sha256(job / "pilot.pyz"), *options, "--", "--version")
    assert (done.stdout, done.returncode) == (VERSION, 0), done.stderr


def test_a_python_that_everybody_may_replace_is_passed_over(job: Job) -> None:
    trap = f"#!/bin/sh\ntouch {job / 'marker'}\n"
    script(job / "open/python3.13", trap).parent.chmod(0o777)
    script(job / "closed/python3.13", trap).chmod(0o757)
    script(job / "wide/below/python3.13", trap)
    (job / "wide").chmod(0o777)
    (job / "relative").mkdir()
    script(job / "relative/python3.13", trap)
    job.directory.chmod(0o1777)
    path = f"{job / 'open'}:{job / 'closed'}:{job / 'wide/below'}:relative:/usr/bin:/bin"
    done = job.launch("pilot.pyz", sha256(job / "pilot.pyz"), "--", "--version", environment={"PATH": path})
    assert (done.stdout, done.returncode) == (VERSION, 0), done.stderr
    assert not (job / "marker").exists()


RUNTIME = """#!/bin/sh
# exec --bind A,B --pwd DIR IMAGE COMMAND ...: no container, but it tells how it was asked for one.
echo "$2 $3|$4 $5|$6" >>"$RECORD"
[ "$6" = good.sif ] || exit 255
shift 6
for p in /usr/bin/python3* /usr/local/bin/python3*; do umount "$p" 2>/dev/null; done
exec "$@"
"""


def test_the_python_of_an_image_is_the_last_resort(job: Job, tmp_path: Path) -> None:
    script(job / "bin/apptainer", RUNTIME)
    record = tmp_path / "record"
    environment = {"PATH": f"{job / 'bin'}:/usr/bin:/bin", "RECORD": str(record), "TMPDIR": str(tmp_path)}
    done = job.without_python("--image", "good.sif", environment=environment)
    assert (done.stdout, done.returncode) == (VERSION, 0), done.stderr
    assert "The pilot runs in good.sif with /usr/bin/python3" in done.stderr
    probed, ran = record.read_text().splitlines()
    assert probed == ran
    binds, directory, image = ran.split("|")
    assert {str(job.directory), str(tmp_path)} <= set(binds.removeprefix("--bind ").split(","))
    assert (directory, image) == (f"--pwd {job.directory}", "good.sif")


@pytest.mark.parametrize("runtime", [RUNTIME, None], ids=["an image that does not start", "no runtime"])
def test_an_image_that_cannot_help_is_named(job: Job, runtime: str | None, tmp_path: Path) -> None:
    if runtime:
        script(job / "bin/apptainer", runtime)
    environment = {"PATH": f"{job / 'bin'}:/usr/bin:/bin", "RECORD": str(tmp_path / "record")}
    done = job.without_python("--image", "bad.sif", environment=environment)
    assert done.returncode == 66
    assert ("bad.sif with" if runtime else "neither apptainer nor singularity") in done.stderr
    assert json.loads(done.stdout)["code"] == "python.too_old"
