"""A login node that is a script in the place of ssh: what is asked of it, and what is made of its answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pilot_agent.model import FailureKind, PilotError
from server_stub.login_node import LoginNode, look, prove

Ssh = Callable[[str], Path]
NODE = LoginNode("login.example.org", "pilots")


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    """Lets `ssh` be a script; the path of the file to which it writes its arguments, one a line."""
    said = tmp_path / "arguments"

    def make(body: str) -> Path:
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {said}\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")
        return said

    return make


@pytest.mark.parametrize(
    ("contact", "target", "port"),
    [("pilots@login.example.org", "pilots@login.example.org", 22), ("login:2222", "login", 2222)],
)
def test_a_contact_names_account_host_and_port(contact: str, target: str, port: int) -> None:
    node = LoginNode.parse(contact)
    assert (node.target, node.port, node.contact) == (target, port, contact)


@pytest.mark.parametrize(
    "contact", ["", "-oProxyCommand=x", "a b", "a@b@c", "host:0", "host:99999", "host;id", "@host"]
)
def test_what_is_no_contact_is_refused(contact: str) -> None:
    with pytest.raises(PilotError) as error:
        LoginNode.parse(contact)
    assert error.value.failure.kind is FailureKind.USAGE


def test_it_is_asked_without_a_password_and_only_with_a_known_key(ssh: Ssh) -> None:
    said = ssh("echo pilot-login-node system slurm /opt/slurm/bin")
    look(LoginNode("login.example.org", "pilots", 2222, "/etc/keys/site"))
    words = said.read_text().splitlines()
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"} <= set(words)
    assert words[words.index("-p") + 1] == "2222"
    assert words[words.index("-i") + 1] == "/etc/keys/site"
    assert words[words.index("--") + 1] == "pilots@login.example.org"


def test_a_greeting_is_no_answer(ssh: Ssh) -> None:
    ssh("echo Welcome system slurm; echo pilot-login-node system pbs /opt/pbs/bin; echo pilot-login-node python /bin/p")
    found = look(NODE)
    assert found.systems == {"pbs": "/opt/pbs/bin"}
    assert (found.python, found.installed) == ("/bin/p", False)


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ("Host key verification failed.", "site.host_key", FailureKind.CREDENTIAL),
        ("pilots@login: Permission denied (publickey).", "site.refused", FailureKind.CREDENTIAL),
        ("ssh: connect to host login port 22: Connection refused", "site.unreachable", FailureKind.NETWORK),
    ],
)
def test_who_must_act_is_known_by_what_ssh_says(ssh: Ssh, words: str, code: str, kind: FailureKind) -> None:
    ssh(f"echo '{words}' >&2; exit 255")
    with pytest.raises(PilotError) as error:
        look(NODE)
    failure = error.value.failure
    assert (failure.code, failure.kind) == (code, kind)
    assert words in failure.message


def test_a_node_on_which_nothing_is_installed_says_what_to_do(ssh: Ssh) -> None:
    ssh("echo pilot-login-node system slurm /usr/bin")
    with pytest.raises(PilotError) as error:
        prove(NODE)
    assert error.value.failure.code == "site.not_installed"
    assert "site install pilots@login.example.org" in error.value.failure.hint


def test_a_program_that_does_not_start_there_is_told_with_its_words(ssh: Ssh) -> None:
    answers = ("system slurm /usr/bin", "installed yes", "transfer $GahpVersion")
    ssh("".join(f"echo 'pilot-login-node {one}'\n" for one in answers) + 'echo "GLIBC_2.38 not found" >&2')
    with pytest.raises(PilotError) as error:
        prove(NODE)
    assert error.value.failure.code == "site.unusable"
    assert "blahpd of pilots@login.example.org does not start: GLIBC_2.38 not found" in error.value.failure.message
