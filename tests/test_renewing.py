"""A newer token comes from the factory to where HTCondor reads it, and a worse one nowhere."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot_agent import renewing
from pilot_agent.workspace import Workspace
from tests.small_factory import Factory, small_factory

ADDRESS = "/p/credentials/idtoken"


def token(jti: str, seconds: float, issuer: str = "pool.test") -> str:
    def part(document: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    claims = {"iss": issuer, "sub": "pilot@pool.test", "exp": int(time.time() + seconds), "jti": jti}
    return f"{part({'alg': 'HS256', 'kid': 'POOL'})}.{part(claims)}.c2lnbmF0dXJl"


@pytest.fixture
def factory() -> Iterator[Factory]:
    with small_factory() as running:
        yield running


class Pilot:
    """A workspace with a token, and the file that the batch system brought."""

    def __init__(self, place: Path, factory: Factory) -> None:
        self.workspace = Workspace(str(place / "workspace"))
        for directory in (self.workspace.upload, self.workspace.tokens):
            os.makedirs(directory, mode=0o700)
        self.source, self.installed = place / "pool.token", Path(self.workspace.tokens, "pool")
        self.old = token("old", 100)
        for path in (self.source, self.installed):
            path.write_text(self.old + "\n")
            path.chmod(0o600)
        (place / "upload.token").write_text("proof\n")
        plan = {
            "url": f"http://127.0.0.1:{factory.server_address[1]}/p", "token": str(place / "upload.token"),
            "authorities": None, "pilot_id": "p1", "version": "1",
        }  # fmt: skip
        Path(self.workspace.upload, "plan.json").write_text(json.dumps(plan))

    def renew(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
        code = renewing.main([self.workspace.root, str(self.installed)])
        return code, json.loads(capsys.readouterr().out)

    @property
    def tokens(self) -> tuple[str, str]:
        return self.source.read_text().strip(), self.installed.read_text().strip()


@pytest.fixture
def pilot(tmp_path: Path, factory: Factory) -> Pilot:
    return Pilot(tmp_path, factory)


@pytest.fixture
def capsys(capfd: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    """The answer is written to the descriptor."""
    return capfd


def test_a_newer_token_takes_the_place_of_what_htcondor_reads_and_of_no_file_that_jobs_could_see(
    pilot: Pilot, factory: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = token("new", 5000)
    factory.documents[ADDRESS] = newer.encode()
    code, told = pilot.renew(capsys)
    assert (code, told["changed"], told["expires"] > time.time() + 4000) == (0, True, True)
    assert pilot.tokens == (pilot.old, newer)
    assert [path.stat().st_mode & 0o777 for path in (pilot.source, pilot.installed)] == [0o600, 0o600]
    assert factory.fetched[0]["Authorization"] == "Bearer proof"
    assert newer not in json.dumps(told)
    assert list(Path(pilot.workspace.private).glob("token*")) == [Path(pilot.workspace.tokens)]
    assert pilot.renew(capsys)[1]["changed"] is False


@pytest.mark.parametrize("seconds", [None, 100, 50])
def test_where_there_is_nothing_that_lasts_longer_all_stays(
    pilot: Pilot, factory: Factory, capsys: pytest.CaptureFixture[str], seconds: float | None
) -> None:
    if seconds is not None:
        factory.documents[ADDRESS] = token("same", seconds).encode()
    code, told = pilot.renew(capsys)
    assert (code, told["changed"]) == (0, False)
    assert pilot.tokens == (pilot.old, pilot.old)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no token", "token.invalid"),
        (token("late", -5).encode(), "token.expired"),
        ((token("one", 5000) + "\n" + token("two", 5000)).encode(), "token.invalid"),
    ],
)
def test_what_is_no_token_that_counts_replaces_nothing(
    pilot: Pilot, factory: Factory, capsys: pytest.CaptureFixture[str], content: bytes, code: str
) -> None:
    factory.documents[ADDRESS] = content
    assert pilot.renew(capsys)[1]["code"] == code
    assert pilot.tokens == (pilot.old, pilot.old)


def test_a_token_of_another_pool_is_not_installed(
    pilot: Pilot, factory: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    factory.documents[ADDRESS] = token("other", 5000, issuer="elsewhere").encode()
    code, told = pilot.renew(capsys)
    assert (code, told["code"]) == (67, "token.other_pool")
    assert pilot.tokens == (pilot.old, pilot.old)


def test_a_factory_that_does_not_answer_is_told_without_any_token(
    pilot: Pilot, factory: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    factory.documents[ADDRESS] = token("new", 5000).encode()
    factory.status = 503
    code, told = pilot.renew(capsys)
    assert (code, told["code"]) == (1, "token.renewal")
    assert "503" in told["message"]
    assert "proof" not in told["message"]
