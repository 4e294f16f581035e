"""A submission makes one private directory with everything its job takes, and nothing secret where it can be read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config import Layer, load_config
from pilot_agent.config_read import command_line_layer, read_layer
from pilot_agent.model import PilotError
from server_stub.credentials.kinds import Kind
from server_stub.entries import Factory, parse_factory
from server_stub.factory import site_keys
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.submit import drop_token, submit_pilots
from tests.server_stub.conftest import PAYLOAD, ScriptedBatch


def lines_of(description: Path) -> dict[str, str]:
    lines = description.read_text().splitlines()
    assert lines[-1] == "queue 1"
    return dict(line.split(" = ", 1) for line in lines[:-1])


def test_a_submitted_pilot_is_queued_with_its_job_and_digest(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    assert (pilot.state, pilot.job) == (PilotState.QUEUED, JobId(101, 0))
    assert pilot.sha256 == hashlib.sha256(PAYLOAD).hexdigest()
    assert store.get(pilot.id) == pilot
    assert [state for _, state in store.changes(pilot.id)] == [PilotState.PREPARED, PilotState.QUEUED]


def test_a_pilot_is_of_the_frontend_and_vo_that_asked_for_it(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch, vo="cms", frontend="fe")
    found = store.get(pilot.id)
    assert found is not None
    assert (found.vo, found.frontend) == ("cms", "fe")


def test_the_description_names_launcher_payload_digest_layers_and_outputs(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    lines = lines_of(batch.submitted[0])
    assert lines["executable"] == factory.launcher
    assert lines["arguments"] == (
        f'"--payload pilot.pyz --sha256 {pilot.sha256} -- '
        "run --config factory=factory.json --config entry=entry.json "
        '--set factory.cluster=$(Cluster) --set factory.process=$(Process) --output ."'
    )
    assert lines["requirements"] == '(TARGET.Machine == "wn1.example.org") && (MY.NumJobStarts ?: 0) == 0'
    assert "http://10.77.0.3:8080/payload/pilot.pyz" in lines["transfer_input_files"].split(", ")
    assert lines["transfer_output_files"] == "report.json, events.jsonl, logs"
    assert lines["getenv"] == "False"
    assert lines["My.PilotId"] == f'"{pilot.id}"'


def test_all_that_the_job_takes_along_exists_in_a_private_directory(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    directory = Path(pilot.directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    for name in lines_of(batch.submitted[0])["transfer_input_files"].split(", "):
        assert name.startswith("http://") or (directory / name).exists(), name


def test_the_pilots_layers_are_valid_and_say_who_sent_it(factory: Factory, store: Store, batch: ScriptedBatch) -> None:
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    layers = [read_layer(name, f"{pilot.directory}/{name}.json") for name in ("factory", "entry")]
    config = load_config(layers)
    assert config.get("factory.name") == "example"
    assert config.get("entry.name") == "site-a"
    assert config.get("site.name") == "Example_T2"
    assert config.get("vo.name") == "example"
    assert config.get("startd.idle_shutdown_seconds") == 20
    assert config.get("pool.token") == "pilot.token"


def test_a_pilot_is_told_what_only_the_factory_knows_of_it(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    config = load_config([read_layer("factory", f"{pilot.directory}/factory.json"), numbers(batch.submitted[0])])
    assert config.get("factory.glidein") == "example"
    assert config.get("factory.schedd") == "schedd@factory.example.org"
    assert (config.get("factory.cluster"), config.get("factory.process")) == (101, 0)


def numbers(description: Path) -> Layer:
    """What the arguments set once the batch system has put the job's number in."""
    words = lines_of(description)["arguments"].replace("$(Cluster)", "101").replace("$(Process)", "0").split()
    return command_line_layer(after for word, after in pairwise(words) if word == "--set")


def test_the_names_that_the_factorys_file_gives_go_before_those_that_are_known(
    document: dict[str, Any], store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    document["pilot"]["factory"] = {"glidein": "v3", "schedd": "other@factory", "credential": "id-1"}
    factory = parse_factory(document, str(tmp_path))
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    written = json.loads(Path(pilot.directory, "factory.json").read_text())["factory"]
    assert written == {"name": "example", "glidein": "v3", "schedd": "other@factory", "credential": "id-1"}


def test_a_schedd_without_a_known_name_is_left_out(factory: Factory, store: Store, batch: ScriptedBatch) -> None:
    batch.name = ""
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    assert "schedd" not in json.loads(Path(pilot.directory, "factory.json").read_text())["factory"]


def test_each_pilot_gets_a_token_of_its_own_that_only_its_directory_holds(
    factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    pilots = submit_pilots(factory, factory.entry("site-a"), 2, store, batch)
    tokens = [Path(pilot.directory, "pilot.token") for pilot in pilots]
    assert {token.read_text() for token in tokens} == {"token-a\n", "token-b\n"}
    assert all(token.stat().st_mode & 0o777 == 0o600 for token in tokens)
    assert list((tmp_path / "tokens").iterdir()) == []
    for description in batch.submitted:
        assert "token-" not in description.read_text()
        assert lines_of(description)["encrypt_input_files"] == "pilot.token"


def test_tokens_may_lie_on_another_file_system(
    factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    within = os.rename

    def rename(source: str, target: str) -> None:
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        within(source, target)

    monkeypatch.setattr(os, "rename", rename)
    test_each_pilot_gets_a_token_of_its_own_that_only_its_directory_holds(factory, store, batch, tmp_path)


def test_only_files_are_tokens(factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path) -> None:
    (tmp_path / "tokens" / "a-directory").mkdir()
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    assert Path(pilot.directory, "pilot.token").read_text() == "token-a\n"


def test_an_entry_without_tokens_sends_none(
    factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    (tmp_path / "payload" / "pilot.sh").write_text("#!/bin/sh\n")
    (pilot,) = submit_pilots(factory, factory.entry("site-b"), 1, store, batch)
    assert not Path(pilot.directory, "pilot.token").exists()
    assert "pilot.token" not in batch.submitted[0].read_text()
    assert "pool" not in json.loads(Path(pilot.directory, "entry.json").read_text())


def test_without_a_token_left_the_failure_names_the_directory_and_who_must_act(
    factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    for token in (tmp_path / "tokens").iterdir():
        token.unlink()
    with pytest.raises(PilotError, match="tokens is empty") as caught:
        submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    assert caught.value.failure.code == "token.missing"
    assert "the VO must act" in caught.value.failure.hint
    assert batch.submitted == []


def test_an_entry_takes_no_more_pilots_than_it_may_have(factory: Factory, store: Store, batch: ScriptedBatch) -> None:
    submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    with pytest.raises(PilotError, match=r"room for 1 of its 2 pilots \(limits\.total\), 2 asked"):
        submit_pilots(factory, factory.entry("site-a"), 2, store, batch)
    assert len(batch.submitted) == 1


def test_without_the_payload_nothing_is_submitted(factory: Factory, store: Store, batch: ScriptedBatch) -> None:
    with pytest.raises(PilotError, match=r"pilot\.sh cannot be read") as caught:
        submit_pilots(factory, factory.entry("site-b"), 1, store, batch)
    assert caught.value.failure.code == "payload.missing"
    assert store.pilots() == []


def test_a_pilot_that_the_batch_system_refuses_is_remembered_without_its_token(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    batch.broken = True
    with pytest.raises(PilotError, match="does not answer"):
        submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    (pilot,) = store.pilots()
    assert (pilot.state, pilot.message) == (PilotState.REFUSED, "the access point does not answer")
    assert not Path(pilot.directory, "pilot.token").exists()


def test_what_a_frontend_gave_a_pilot_goes_along_and_lets_it_in(
    document: dict[str, Any], store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    document["entries"][0] |= {"type": "condor", "contact": "ce.example.org"}
    factory = parse_factory(document, str(tmp_path))
    contents = {Kind.IDTOKEN: b"own-token\n", Kind.SCITOKEN: b"site-token\n"}
    entry = factory.entry("site-a")
    (pilot,) = submit_pilots(factory, entry, 1, store, batch, vo="a", frontend="f", credentials=lambda _: contents)
    assert (pilot.vo, pilot.frontend) == ("a", "f")
    lines, directory = lines_of(batch.submitted[0]), Path(pilot.directory)
    assert (directory / "pilot.token").read_text() == "own-token\n"
    assert lines["scitokens_file"] == str(directory / "site.scitoken")
    assert "site.scitoken" not in lines["transfer_input_files"]
    assert [path.stat().st_mode & 0o777 for path in directory.glob("*.*token")] == [0o600, 0o600]
    assert len(list((tmp_path / "tokens").iterdir())) == 2
    (directory / "site.proxy" / "sent by a node").mkdir(parents=True)
    drop_token(pilot.directory)
    assert [*directory.glob("*.*token"), *directory.glob("site.*")] == []


def test_pilots_of_a_frontend_share_the_file_of_their_ssh_key(
    document: dict[str, Any], store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    """The gridmanager connects to a login node once for each name of such a file."""
    document["entries"][0] |= {"type": "batch slurm", "contact": "pilots@login.example.org", "max_pilots": 10}
    factory = parse_factory(document, str(tmp_path))
    entry = factory.entry("site-a")

    def key_of(frontend: str, content: bytes) -> tuple[Pilot, str]:
        def give(_: Pilot) -> dict[Kind, bytes]:
            return {Kind.IDTOKEN: b"own", Kind.SSH_KEY: content}

        (pilot,) = submit_pilots(factory, entry, 1, store, batch, frontend=frontend, credentials=give)
        words = lines_of(batch.submitted[-1])["grid_resource"].split()
        return pilot, words[words.index("--rgahp-key") + 1]

    (first, path), (second, same) = key_of("f", b"one"), key_of("f", b"one")
    (third, others) = key_of("g", b"one")
    assert path == same == os.path.realpath(Path(first.directory, "site.key"))
    assert path != others, "what one frontend renews is not another's"
    assert key_of("f", b"two")[1] not in (path, others)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert Path(path).read_bytes() == b"one"
    drop_token(first.directory)
    later = time.time() + 3600
    assert site_keys.tidy(factory.state, [one.directory for one in store.pilots()], later) == 0
    drop_token(second.directory)
    assert site_keys.tidy(factory.state, [one.directory for one in store.pilots()]) == 0, "it may be a new pilot's"
    assert site_keys.tidy(factory.state, [one.directory for one in store.pilots()], later) == 1
    assert not Path(path).exists()
    assert Path(third.directory, "site.key").read_bytes() == b"one"


def test_without_a_credential_left_those_before_it_are_submitted(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    Path(factory.entry("site-a").tokens or "", "b").unlink()
    with pytest.raises(PilotError, match="tokens is empty"):
        submit_pilots(factory, factory.entry("site-a"), 2, store, batch)
    assert [pilot.state for pilot in store.pilots()] == [PilotState.QUEUED]


def test_a_pilot_of_which_nobody_knows_whether_it_was_submitted_stays_prepared(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    batch.silent = True
    with pytest.raises(PilotError, match="no answer in time"):
        submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    (pilot,) = store.pilots()
    assert (pilot.state, pilot.job) == (PilotState.PREPARED, None)
    assert Path(pilot.directory, "pilot.token").exists()


def test_a_pilot_of_a_cloud_is_told_all_by_its_machines_user_data(
    document: dict[str, Any], store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    cloud = {"image": "ami-1", "machine": "m5", "access_key": "a", "secret_key": "s"}
    document["entries"][0] |= {"type": "ec2", "contact": "https://ec2.example.org/", "cloud": cloud}
    document |= {"uploads": True, "url": "https://factory.example.org"}
    factory = parse_factory(document, str(tmp_path))
    (pilot,) = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    script = Path(lines_of(batch.submitted[0])["ec2_user_data_file"])
    assert script.stat().st_mode & 0o777 == 0o600
    assert f"--sha256 {pilot.sha256}" in script.read_text()


def test_a_machine_whose_user_data_cannot_be_made_is_not_asked_for(
    document: dict[str, Any], store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    cloud = {"image": "ami-1", "machine": "m5", "access_key": "a", "secret_key": "s"}
    document["entries"][0] |= {"type": "ec2", "contact": "https://ec2.example.org/", "cloud": cloud}
    document |= {"uploads": True, "url": "https://factory.example.org"}
    (tmp_path / "launcher.sh").unlink()
    factory = parse_factory(document, str(tmp_path))
    with pytest.raises(PilotError, match="no user data can be made") as caught:
        submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    assert caught.value.failure.code == "description.unusable"
    assert store.pilots() == []
    assert list(Path(factory.state, "pilots").iterdir()) == []
