"""What a node told is kept, and told again; secrets are not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus, Json
from pilot_agent.probes.node import Node
from pilot_agent.probes.recording import RecordingError, finish_recording, load_recording, prepare_directory

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwaWxvdCJ9.c2lnbmF0dXJl"


def recorder(directory: Path) -> Node:
    return Node.of(Context(record=str(directory)))


def replay(directory: Path, **environment: str) -> Node:
    finish_recording(str(directory), environment, {"version": "1"})
    return Node.of(Context(root=str(directory)))


def test_files_listings_status_and_links_are_told_again(tmp_path: Path) -> None:
    place = tmp_path / "node"
    (place / "sub").mkdir(parents=True)
    (place / "file").write_text("content\n")
    (place / "file").chmod(0o640)
    (place / "link").symlink_to("file")
    live = recorder(tmp_path / "kept")

    def look(node: Node) -> list[Json]:
        return [
            node.read(f"{place}/file"),
            node.read(f"{place}/none"),
            node.names(str(place)),
            node.names(f"{place}/none"),
            node.status(f"{place}/file"),
            node.status("/dev/null"),
            node.link(f"{place}/link"),
            node.link(f"{place}/file"),
        ]

    seen = look(live)
    again = replay(tmp_path / "kept")
    assert look(again) == seen
    assert seen[4].mode == 0o640
    assert (seen[5].kind, seen[5].device) == ("device", "1:3")
    assert not again.live


def test_a_program_answers_again_what_it_answered_and_is_not_run(tmp_path: Path) -> None:
    live = recorder(tmp_path / "kept")
    said = live.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    missing = live.run(["/no/such/program"])
    assert (said.code, said.stdout, said.stderr, said.ok) == (3, "out\n", "err\n", False)
    assert missing.missing
    again = replay(tmp_path / "kept")
    assert again.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]) == said
    assert again.run(["/no/such/program"]) == missing
    other = again.run(["/bin/true"])
    assert (other.recorded, other.ok) == (False, False)


def test_an_active_test_answers_again_and_one_that_was_not_made_says_so(tmp_path: Path) -> None:
    live = recorder(tmp_path / "kept")
    answer = live.ask("sum", lambda: {"sum": 3})
    assert answer.value == {"sum": 3}

    def refused() -> Json:
        raise PermissionError(1, "Operation not permitted")

    problem = live.ask("refused", refused)
    assert problem.problem == "EPERM: Operation not permitted"
    again = replay(tmp_path / "kept")
    assert again.ask("sum", lambda: pytest.fail("it must not be tried again")) == answer
    assert again.ask("refused", refused) == problem
    assert not again.ask("other", lambda: 1).recorded


def test_a_test_that_hangs_costs_its_deadline_and_is_told(tmp_path: Path) -> None:
    live = recorder(tmp_path / "kept")

    def hang() -> Json:
        while True:
            os.read(os.pipe()[0], 1)

    answer = live.ask("hang", hang, seconds=0.2)
    assert answer.hung
    assert "did not end within" in answer.problem
    assert replay(tmp_path / "kept").ask("hang", hang).hung


def test_what_a_recorded_node_did_not_look_at_is_unknown_and_what_a_composed_one_lacks_is_absent(
    tmp_path: Path,
) -> None:
    live = recorder(tmp_path / "kept")
    live.exists("/dev/nothing")
    again = replay(tmp_path / "kept")
    assert again.absence("example.device", "no /dev/nothing", "/dev/nothing").status is FactStatus.ABSENT
    fact = again.absence("example.device", "nothing", "/dev/nothing", "/dev/other")
    assert (fact.status, fact.detail) == (FactStatus.UNKNOWN, "not recorded: /dev/other")
    manifest = tmp_path / "kept" / "recording.json"
    manifest.write_text(manifest.read_text().replace('"recorded"', '"composed"'))
    composed = Node.of(Context(root=str(tmp_path / "kept")))
    assert composed.absence("example.device", "nothing", "/dev/other").status is FactStatus.ABSENT


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"token: {TOKEN}", TOKEN),
        (f"a line with {TOKEN} in it", TOKEN),
        ("http_proxy=http://user:open-sesame@squid.example.org:3128/", "open-sesame"),
        ('ClaimId = "<192.0.2.1:9618?addrs=x>#1700000000#5#[Encryption="YES";]open-sesame"', "open-sesame"),
        ("<192.0.2.1:9618>#1700000000#5#open-sesame", "open-sesame"),
        ("s3_secret_key = open-sesame", "open-sesame"),
        ("Authorization: Bearer open-sesame", "open-sesame"),
        ("-----BEGIN RSA PRIVATE KEY-----\nopen-sesame\n-----END RSA PRIVATE KEY-----\n", "open-sesame"),
        ("-----BEGIN PRIVATE KEY-----\nopen-sesame cut", "open-sesame"),
    ],
)
def test_secrets_in_files_and_answers_are_removed(tmp_path: Path, text: str, secret: str) -> None:
    (tmp_path / "file").write_text(f"before\n{text}\nafter\n")
    live = recorder(tmp_path / "kept")
    assert secret in (live.read(f"{tmp_path}/file") or "")
    live.ask("secret", lambda: {"text": text, "password": "open-sesame"})
    live.run(["/bin/echo", "x", text])
    finish_recording(str(tmp_path / "kept"), {}, {})
    kept = b"".join(path.read_bytes() for path in (tmp_path / "kept").rglob("*") if path.is_file())
    assert secret.encode() not in kept
    assert b"open-sesame" not in kept
    assert b"before" in kept


def test_variables_that_probes_look_at_are_kept_without_secrets(tmp_path: Path) -> None:
    environment = {
        "SLURM_JOB_ID": "7",
        "SLURM_TOKEN": "x1",
        "HTTP_PROXY": "http://me:x2@squid:3128",
        "BEARER_TOKEN": "x3",
        "EDITOR": "vi",
        "PATH": "/bin",
    }
    finish_recording(str(tmp_path), environment, {})
    kept = load_recording(str(tmp_path)).environment
    assert kept == {"SLURM_JOB_ID": "7", "HTTP_PROXY": "http://(removed)@squid:3128", "PATH": "/bin"}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("recording.json", "{}", "schema"),
        ("recording.json", "[", "no JSON"),
        ("environment.json", '{"A": 1}', "expected variables"),
        ("answers/x.json", "[]", "expected an object"),
        ("answers/x.json", "[" * 200_000, "no JSON"),
        ("environment.json", "[" * 200_000, "no JSON"),
        ("readings/1.jsonl", "[1]\n", "line 1"),
        ("answers/x.json", '{"key": 1, "answer": ' + "[" * 60 + "]" * 60 + "}", "levels deep"),
        ("answers/x.json", "[" + "[]," * 1_000_000 + "[]]", "more than 1000000 values"),
    ],
)
def test_a_damaged_recording_is_refused_with_the_place(tmp_path: Path, file: str, content: str, said: str) -> None:
    finish_recording(str(tmp_path), {}, {})
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(RecordingError, match=said) as caught:
        load_recording(str(tmp_path))
    assert file.partition("/")[0] in str(caught.value)


def test_what_is_no_file_among_the_readings_is_refused(tmp_path: Path) -> None:
    finish_recording(str(tmp_path), {}, {})
    (tmp_path / "readings" / "1.jsonl").mkdir(parents=True)
    with pytest.raises(RecordingError, match="directory"):
        load_recording(str(tmp_path))


@pytest.mark.parametrize("name", ["readings/1.jsonl", "answers/1.json", "environment.json", "recording.json"])
def test_a_link_to_a_device_is_refused_without_opening_it(tmp_path: Path, name: str) -> None:
    finish_recording(str(tmp_path), {}, {})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("/dev/tty")
    with pytest.raises(RecordingError, match="no regular file"):
        load_recording(str(tmp_path))


@pytest.mark.parametrize("group", ["answers", "readings"])
def test_a_recording_is_bounded_as_a_whole_however_often_a_file_is_in_it(tmp_path: Path, group: str) -> None:
    finish_recording(str(tmp_path), {}, {})
    (tmp_path / group).mkdir()
    first = tmp_path / group / "0.json"
    first.write_text(json.dumps({"key": "a", "answer": "x" * (9 << 20)}))
    load_recording(str(tmp_path))
    for number in range(1, 4):
        os.link(first, tmp_path / group / f"{number}.json")
    with pytest.raises(RecordingError, match="more than 32 MiB"):
        load_recording(str(tmp_path))


def test_the_directory_of_a_new_recording_is_for_its_account_alone(open_path: Path) -> None:
    prepare_directory(str(open_path / "new"))
    assert (open_path / "new").stat().st_mode & 0o777 == 0o700
    prepare_directory(str(open_path / "new"))


def test_a_directory_that_others_can_write_exchange_or_fill_is_not_recorded_into(open_path: Path) -> None:
    loose, full, target = (open_path / name for name in ("loose", "full", "target"))
    for directory in (loose, full, target):
        directory.mkdir(mode=0o755)
    loose.chmod(0o777)
    (full / "mine").write_text("mine")
    (open_path / "link").symlink_to(target)
    (open_path / "file").write_text("")
    for name, said in {
        "loose": "written by everybody",
        "loose/inner": "no sticky bit",
        "link": "it is a link",
        "link/": "it is a link",
        "full": "not empty",
        "file": "File exists",
    }.items():
        with pytest.raises(RecordingError, match=said):
            prepare_directory(f"{open_path}/{name}")


def test_a_listing_of_many_lines_survives_a_cut_last_line(tmp_path: Path) -> None:
    finish_recording(str(tmp_path), {}, {})
    (tmp_path / "readings").mkdir()
    lines = json.dumps({"names": "/dev", "found": ["fuse"]}) + '\n{"names": "/pr'
    (tmp_path / "readings" / "1.jsonl").write_text(lines)
    assert Node.of(Context(root=str(tmp_path))).names("/dev") == ["fuse"]
