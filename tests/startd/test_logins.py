"""A login of condor_ssh_to_job is prepared away from the job, gets nothing of the job's, and enters or refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pilot_agent.startd.logins import SHELL_SETUP, SSHD, SSHD_SETUP, groups_of_logins, login_programs

HOSTILE = {
    "PATH": "/proc/self/cwd",
    "OPENSSL_CONF": "openssl.cnf",
    "_CONDOR_SHELL": "evil.sh",
    "_CONDOR_SCRATCH_DIR": "/scratch",
    "BASH_ENV": "evil.sh",
    "BASH_FUNC_umask%%": "() { touch ran; }",
    "SHELLOPTS": "xtrace",
    "PS4": "$(touch ran)",
}
KEYGEN = '#!/bin/sh\nenv > "$0.seen"\nfor last; do :; done\necho private > "$last"; echo "ssh-rsa AAAA" > "$last.pub"\n'


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A private directory whose name is no shell word."""
    path = tmp_path / "pri vate$(x)"
    path.mkdir()
    return path


def program(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def prepare(tmp_path: Path, private: Path, keygen: str = KEYGEN) -> subprocess.CompletedProcess[str]:
    """Prepare a login as the starter of a hostile job does, with another ssh-keygen than the node's."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"ssh-keygen": keygen, "sshd": "", "nsenter": ""}.items():
        program(tools, name, text)
    text = login_programs(str(private))[SSHD_SETUP]
    text = text.replace("PATH=/usr/sbin", f"PATH={tools}:/usr/sbin")
    for path in ("/usr/sbin/sshd", "/usr/bin/ssh-keygen", "/usr/bin/nsenter"):
        text = text.replace(path, str(tools / path.rsplit("/", 1)[1]))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    script = program(tmp_path, "setup", text)
    words = [script, str(scratch), "/l ib/enter", "/none", "ssh-keygen; touch ran"]
    return subprocess.run(words, env=HOSTILE, cwd=scratch, capture_output=True, text=True)


def test_a_login_is_prepared_in_the_private_directory(tmp_path: Path, private: Path) -> None:
    done = prepare(tmp_path, private)
    assert done.stdout.splitlines()[-1] == "condor_ssh_to_job_sshd_setup SUCCESS", done.stdout + done.stderr
    [login] = private.iterdir()
    assert f"SSHD DIR BEGIN\n{login}\ncondor_ssh_to_job_sshd_setup SSHD DIR END\n" in done.stdout
    assert "AUTHORIZED CLIENT KEY BEGIN\nprivate\n" in done.stdout
    assert (login / "authorized_keys").read_text() == "restrict,pty ssh-rsa AAAA\n"
    assert f"ForceCommand /l\\ ib/enter {os.getpid()}" in (login / "sshd_config").read_text().splitlines()
    assert login.stat().st_mode & 0o777 == 0o700
    assert not list((tmp_path / "scratch").iterdir())


def test_the_jobs_variables_reach_nothing_that_prepares_a_login(tmp_path: Path, private: Path) -> None:
    prepare(tmp_path, private)
    seen = (tmp_path / "tools" / "ssh-keygen.seen").read_text()
    assert not [name for name in HOSTILE if name != "PATH" and f"{name}=" in seen]


def test_the_reason_of_a_failure_reaches_the_user(tmp_path: Path, private: Path) -> None:
    done = prepare(tmp_path, private, "#!/bin/sh\necho no entropy >&2\nexit 1\n")
    assert done.returncode == 1
    assert done.stdout == "ssh-keygen: no entropy\n"


def test_sshd_gets_nothing_of_the_jobs(tmp_path: Path, private: Path) -> None:
    sshd = program(tmp_path, "fake", '#!/bin/sh\necho "$@"\nenv\n')
    script = program(tmp_path, "sshd", login_programs(str(private))[SSHD].replace("/usr/sbin/sshd", sshd))
    done = subprocess.run([script, "/l/sshd_config"], env=HOSTILE, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "-i -e -f /l/sshd_config", done.stderr
    assert {line.partition("=")[0] for line in done.stdout.splitlines()[1:]} <= {"PATH", "PWD", "SHLVL", "_"}


@pytest.mark.parametrize(
    "starter", ["", "0", "x", str(os.getpid())], ids=["none", "nought", "no number", "not contained"]
)
def test_a_login_refuses_when_there_is_no_container_to_enter(tmp_path: Path, private: Path, starter: str) -> None:
    script = program(tmp_path, "enter", login_programs(str(private))[SHELL_SETUP])
    environment = {**HOSTILE, "SSH_ORIGINAL_COMMAND": f"touch {tmp_path}/ran"}
    done = subprocess.run([script, starter], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("has not started or just ended.\n")
    assert not (tmp_path / "ran").exists()


def test_a_login_sees_the_nodes_groups_without_that_of_terminals(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "group").write_bytes(b"root:x:0:\ntty:x:5:\ntty2:x:6:\nh\xe9:x:7:")
    assert groups_of_logins(str(tmp_path)).encode(errors="surrogateescape") == b"root:x:0:\ntty2:x:6:\nh\xe9:x:7:"
    assert groups_of_logins(str(tmp_path / "absent")) == ""
