"""From a VO's archive to a service that reads it; what was altered on the way starts nothing."""

from __future__ import annotations

import os
import signal
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pilot_agent import host, stages
from pilot_agent.config import Layer, load_config
from pilot_agent.configure import new_state
from pilot_agent.environment import clean_environment
from pilot_agent.events import EventLog
from pilot_agent.interpreter import interpreter_command
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.stages import Session
from pilot_agent.state import State
from pilot_agent.trust import signed_files
from pilot_agent.trust.bundle import Trust
from pilot_agent.trust.signed_files import fetch_files
from pilot_agent.workspace import Workspace
from tests.trust.conftest import Repository

NAME = "files/atlas/models-3.zip"


class Models:
    """A VO's archive in a repository that is served, and a pilot that wants it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.place = repository.operator.place
        self.trust = Trust(str(repository.bundle), (repository.address,))

    def publish(self, *members: tuple[str, bytes]) -> None:
        path = self.place / NAME.rpartition("/")[2]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)
        self.repository.operator.do("add", "files", path, "--vo", "atlas", keys=self.place / "atlas")
        self.repository.publish()

    def fetch(self, name: str = NAME) -> Path:
        directory = self.place / "artifacts"
        return Path(
            fetch_files(
                name,
                self.trust,
                directory=str(directory / "files"),
                scratch=str(directory),
                environment={},
                seconds=60,
            )
        )

    def alter(self) -> None:
        """Change one byte of what is served."""
        [path] = self.repository.operator.published.rglob("*.zip")
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(content)

    def refused(self, name: str = NAME) -> Failure:
        with pytest.raises(PilotError) as caught:
            self.fetch(name)
        directory = self.place / "artifacts" / "files"
        assert not directory.exists() or list(directory.iterdir()) == []
        assert list((self.place / "artifacts").glob("*.zip")) == []
        return caught.value.failure


@pytest.fixture
def models(repository: Repository) -> Models:
    return Models(repository)


def test_a_signed_archive_is_unpacked_and_fetched_once(models: Models) -> None:
    models.publish(("scale/config.pbtxt", b"name: 'scale'"), ("scale/1/model.py", b"x = 1"))
    found = models.fetch()
    assert (found / "scale/1/model.py").read_text() == "x = 1"
    models.repository.site.refusals.update({"": 500})
    assert models.fetch() == found


def test_what_was_altered_on_the_way_is_corruption_and_nothing_of_it_stays(models: Models) -> None:
    models.publish(("scale/1/model.py", b"x = 1"))
    models.alter()
    failure = models.refused()
    assert (failure.kind, failure.code, failure.exit_code) == (FailureKind.CORRUPTION, "artifact.digest", 68)


def test_what_nobody_signed_is_told(models: Models) -> None:
    assert models.refused().code == "artifact.missing"


def test_a_signed_archive_that_leaves_its_directory_is_refused(models: Models) -> None:
    models.publish(("../../private/pool.token", b"x"))
    assert "is no name of a file of a service" in models.refused().message


def test_a_signed_bomb_is_refused(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_files, "MOST_BYTES", 1 << 20)
    models.publish(("scale/1/model.bin", bytes(2 << 20)))
    assert "unpacks to more than 1 MiB" in models.refused().message


def test_what_is_no_archive_of_files_is_a_wrong_configuration(models: Models) -> None:
    for name in ("files/atlas/models.tar", "files/../models.zip"):
        assert models.refused(name).code == "config.invalid"


SCORER = {
    "command": ["/bin/sh", "-c", "cp {files:models}/scale/1/model.py . && : > ready; exec sleep 600"],
    "files": {"models": NAME},
    "ready_file": "ready",
}


@pytest.fixture
def pilot(models: Models, tmp_path: Path) -> Iterator[tuple[Session, State]]:
    """A pilot before its service stage, with a service that needs the archive; what it started is ended."""
    artifacts = {"mirrors": [models.repository.address], "bundle": str(models.repository.bundle)}
    config = load_config([Layer("factory", {"services": {"scorer": SCORER}, "artifacts": artifacts})])
    workspace = Workspace(str(tmp_path / "pilot-1"))
    os.mkdir(workspace.root)
    workspace.create()
    environment = clean_environment({}, home=workspace.temporary, temporary=workspace.temporary)
    around = host.Surroundings(tuple(interpreter_command()), environment, ())
    state = new_state(config, {}, output=str(tmp_path))
    loaded = host.load_plugins([], config.values, around, 60)
    session = Session(around, loaded, EventLog(workspace.events, state.started), workspace)
    yield session, state
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if directory.joinpath("cwd").readlink().is_relative_to(workspace.services):
                os.kill(int(directory.name), signal.SIGKILL)
                os.waitpid(int(directory.name), 0)


def test_a_service_reads_its_signed_files(models: Models, pilot: tuple[Session, State]) -> None:
    models.publish(("scale/1/model.py", b"x = 1"))
    session, state = pilot
    after = stages.service(session, state)
    assert [(one.status, one.name) for one in after.services] == [("ready", "scorer")]
    assert Path(session.workspace.services, "scorer", "model.py").read_text() == "x = 1"


def test_a_service_whose_files_were_altered_is_not_started_and_ends_a_pilot_that_requires_it(
    models: Models, pilot: tuple[Session, State]
) -> None:
    models.publish(("scale/1/model.py", b"x = 1"))
    models.alter()
    session, state = pilot
    after = stages.service(session, state)
    [failure] = after.failures
    assert (failure.kind, failure.code, failure.exit_code) == (FailureKind.CORRUPTION, "artifact.digest", 68)
    assert "the required service scorer did not become ready" in failure.message
    assert [(one.status, one.pid, one.starts) for one in after.services] == [("failed", None, 0)]
    assert not Path(session.workspace.services, "scorer").exists()
