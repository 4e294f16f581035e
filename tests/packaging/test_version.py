"""Both payloads say what they are, and the same of their content."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.conftest import Built, forms, start


def about(built: Built, form: str, environment: dict[str, str]) -> dict[str, Any]:
    done = start([*forms(built)[form], "version", "--json"], environment)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_both_payloads_tell_their_own_digest_and_one_build(built: Built, kept: dict[str, str]) -> None:
    pyz, sh = (about(built, form, kept) for form in ("pyz", "sh"))
    assert pyz["digest"] == hashlib.sha256(built.pyz.read_bytes()).hexdigest()
    assert sh["digest"] == hashlib.sha256(built.sh.read_bytes()).hexdigest()
    assert pyz["build"] == sh["build"] is not None
    assert (pyz["python"]["carried"], sh["python"]["carried"]) == (False, True)
    assert pyz["contract"] == 1
    assert start(["/bin/sh", "pilot.sh", "version"], kept, cwd=built.sh.parent).stdout.count(str(built.sh)) == 1


def test_a_variable_of_another_payload_is_not_believed(built: Built) -> None:
    told = about(built, "pyz", {"PILOT_AGENT_PAYLOAD_FILE": "/etc/passwd"})
    assert told["file"] == str(built.pyz)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git repository with one commit."""
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/code.py").write_text("")
    (tmp_path / "other").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    return tmp_path


def git(directory: Path, *words: str) -> str:
    settings = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(directory), *settings, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_payload_names_the_commit_and_whether_it_was_changed(checkout: Path) -> None:
    from payload.revision import revision_of

    found = revision_of(checkout, "agent")
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert found.committed is not None
    assert found.modified is False
    (checkout / "other").write_text("changed")
    assert revision_of(checkout, "agent").modified is False
    (checkout / "agent/new.py").write_text("")
    assert revision_of(checkout, "agent").modified is True


def test_what_is_no_checkout_has_no_commit(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from payload.revision import Revision, revision_of

    assert revision_of(checkout / "agent", "code.py") == Revision()
    assert revision_of(tmp_path_factory.mktemp("plain"), "agent") == Revision()
