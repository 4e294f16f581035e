"""The operator's side of what is signed: keys, roles, drafts that wait, and what pilots are given at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import artifacts
import pytest
from artifact_repository import keys as keys_module
from artifact_repository.store import Store
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import FetcherInterface, Updater

from tests.packaging.signing import Operator

PLUGIN = "plugin/atlas/probe-1.0.whl"


class Mirror(FetcherInterface):
    """The published directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.directory / unquote(urlsplit(url).path).lstrip("/")
        if not path.is_file():
            raise DownloadHTTPError("not found", 404)
        return iter([path.read_bytes()])


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    """One with a repository and a VO, nothing published yet."""
    made = Operator(tmp_path, capsys)
    made.do("init")
    made.do("delegate", "atlas", "--public", made.key("atlas"))
    return made


def pilot(operator: Operator, bootstrap: bytes | None = None) -> Updater:
    """A pilot that begins with the first root, and looks at the published directory."""
    place = operator.place / f"pilot-{len(list(operator.place.iterdir()))}"
    (place / "artifacts").mkdir(parents=True)
    first = bootstrap or (operator.published / "metadata/1.root.json").read_bytes()
    address = "https://artifacts.example.org"
    return Updater(
        str(place), f"{address}/metadata/", str(place / "artifacts"), f"{address}/targets/",
        fetcher=Mirror(operator.published), bootstrap=first,
    )  # fmt: skip


def fetched(updater: Updater, name: str) -> bytes | None:
    target = updater.get_targetinfo(name)
    return None if target is None else Path(updater.download_target(target)).read_bytes()


def test_what_a_vo_signed_reaches_a_pilot_that_knows_the_first_root(operator: Operator) -> None:
    operator.do("add", "plugin", operator.file("probe-1.0.whl"), "--vo", "atlas", keys=operator.place / "atlas")
    operator.do("add", "images", operator.file("images.yaml", "el9: []"))
    told = operator.publish()
    assert told.startswith("2 artifacts; root 1, snapshot 1, timestamp 1\n")
    updater = pilot(operator)
    assert fetched(updater, PLUGIN) == b"content"
    assert fetched(updater, "images/images.yaml") == b"el9: []"
    assert fetched(updater, "plugin/atlas/other.whl") is None


def test_a_second_init_is_refused_and_makes_no_keys(operator: Operator) -> None:
    """Keys that sign nothing would lie beside those that do, under the same names."""
    before = sorted(operator.keys.iterdir())
    assert "is a repository already" in operator.refused("init")
    assert sorted(operator.keys.iterdir()) == before


def test_a_vo_signs_nothing_outside_its_own_directories(operator: Operator) -> None:
    """Also with metadata that the tool would not have made."""
    operator.do("add", "plugin", operator.file("probe-1.0.whl"), "--vo", "atlas", keys=operator.place / "atlas")
    ring = keys_module.KeyRing((operator.place / "atlas",)).signers()
    store = Store(operator.repository, ring)
    with store.edit_targets("atlas") as targets:
        targets.targets["plugin/cms/probe.whl"] = targets.targets[PLUGIN]
        targets.targets["config/site.yaml"] = targets.targets[PLUGIN]
    for name in ("plugin/cms/probe.whl", "config/site.yaml"):
        target = operator.repository / "targets" / name
        target.parent.mkdir(parents=True)
        shutil.copyfile(operator.repository / "targets" / PLUGIN, target)
    assert "is not what a pilot would be given" in operator.refused("publish", operator.published)
    assert not (operator.published / "metadata/timestamp.json").exists()


def test_a_change_waits_for_as_many_signatures_as_the_role_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path, capsys)
    first, second = operator.key("targets", "one"), operator.key("targets", "two")
    publics = ["--public", f"targets={first}", "--public", f"targets={second}", "--threshold", "targets=2"]
    operator.do("init", *publics)
    assert "targets 1 waits for 2" in operator.do("add", "config", operator.file("site.yaml"))
    assert "lacks 2 signatures" in operator.refused("publish", operator.published)
    assert "targets 1 waits for 1" in operator.do("sign", "targets", keys=tmp_path / "one")
    assert "none of these keys signs targets" in operator.refused("sign", "targets", keys=tmp_path / "one")
    assert "waits" not in operator.do("sign", "targets", keys=tmp_path / "two")
    assert operator.publish().startswith("1 artifacts")
    assert fetched(pilot(operator), "config/site.yaml") == b"content"


def test_a_draft_is_signed_elsewhere_and_accepted_here(operator: Operator) -> None:
    operator.do("add", "plugin", operator.file("probe-1.0.whl"), "--vo", "atlas")
    carried = operator.place / "carried.json"
    shutil.copyfile(operator.repository / "drafts/atlas.json", carried)
    (signer,) = keys_module.KeyRing((operator.place / "atlas",)).signers().values()
    metadata = Metadata.from_file(str(carried))
    metadata.sign(signer, append=True)
    metadata.to_file(str(carried))
    operator.do("accept", "atlas", carried)
    operator.publish()
    assert fetched(pilot(operator), PLUGIN) == b"content"


def test_what_says_something_else_than_the_draft_is_not_accepted(operator: Operator) -> None:
    operator.do("add", "plugin", operator.file("probe-1.0.whl"), "--vo", "atlas")
    other = operator.place / "other.json"
    metadata: Metadata[Targets] = Metadata.from_file(str(operator.repository / "drafts/atlas.json"))
    metadata.signed.targets.clear()
    metadata.to_file(str(other))
    assert "it says something else" in operator.refused("accept", "atlas", other)


def test_keys_are_changed_and_a_pilot_of_before_follows(operator: Operator) -> None:
    operator.do("add", "config", operator.file("site.yaml"))
    operator.publish()
    for role in ("root", "timestamp", "targets"):
        (old,) = (path.stem.split("-")[1] for path in operator.keys.glob(f"{role}-*.json"))
        operator.do("rotate", role, "--new", operator.key(role, "keys"), "--old", old)
    assert "root 4" in operator.publish()
    updater = pilot(operator)
    updater.refresh()
    assert fetched(updater, "config/site.yaml") == b"content"


def test_a_new_root_needs_the_keys_of_the_old_one(operator: Operator) -> None:
    operator.publish()
    new = operator.key("root", "new")
    (old,) = (path.stem.split("-")[1] for path in operator.keys.glob("root-*.json"))
    told = operator.do("rotate", "root", "--new", new, "--old", old, keys=operator.place / "new")
    assert f"root 2 waits for 1 signatures of: {old}" in told
    assert "root version 2 lacks 1" in operator.refused("publish", operator.published)


def test_a_vo_that_lost_its_role_signs_nothing_any_more(operator: Operator) -> None:
    operator.do("add", "plugin", operator.file("probe-1.0.whl"), "--vo", "atlas", keys=operator.place / "atlas")
    operator.publish()
    operator.do("revoke", "atlas")
    operator.publish()
    assert fetched(pilot(operator), PLUGIN) is None
    assert "atlas has no role here" in operator.refused("revoke", "atlas")


def test_a_plugin_that_no_pilot_would_load_is_not_signed(operator: Operator) -> None:
    told = operator.refused("add", "plugin", operator.file("probe-1.0.tar.gz"), "--vo", "atlas")
    assert "probe-1.0.tar.gz is no wheel" in told
    assert "pip wheel" in told


def test_an_artifact_under_a_known_name_never_changes(operator: Operator) -> None:
    operator.do("add", "config", operator.file("site.yaml"))
    told = operator.refused("add", "config", operator.file("site.yaml", "another"))
    assert "another name, with its version in it" in told
    operator.do("add", "config", operator.file("site.yaml", "another"), "--replace")
    operator.publish()
    assert fetched(pilot(operator), "config/site.yaml") == b"another"
    operator.do("remove", "config/site.yaml")
    assert "nobody signs config/site.yaml" in operator.refused("remove", "config/site.yaml")


def test_an_artifact_that_was_changed_behind_the_tool_is_not_published(operator: Operator) -> None:
    operator.do("add", "config", operator.file("site.yaml"))
    (operator.repository / "targets/config/site.yaml").write_text("altered")
    assert "another file than the one that was signed" in operator.refused("publish", operator.published)
    (operator.repository / "targets/config/site.yaml").unlink()
    assert "signed and missing" in operator.refused("publish", operator.published)


def test_a_publication_that_was_altered_is_refused_by_pilots_and_put_right_by_the_tool(operator: Operator) -> None:
    operator.do("add", "config", operator.file("site.yaml"))
    operator.publish()
    metadata = operator.published / "metadata/3.targets.json"
    metadata.write_bytes(metadata.read_bytes().replace(b'"length": 7', b'"length": 8'))
    (artifact,) = (operator.published / "targets/config").iterdir()
    artifact.write_bytes(b"damaged")
    with pytest.raises(RepositoryError):
        pilot(operator).refresh()
    operator.publish()
    assert fetched(pilot(operator), "config/site.yaml") == b"content"


def test_metadata_that_was_altered_behind_the_tool_is_not_published(operator: Operator) -> None:
    operator.do("add", "config", operator.file("site.yaml"))
    metadata = operator.repository / "metadata/3.targets.json"
    metadata.write_bytes(metadata.read_bytes().replace(b'"length": 7', b'"length": 6'))
    told = operator.refused("publish", operator.published)
    assert "another file than the one that was signed" in told or "pilots would refuse" in told
    assert not (operator.published / "metadata/timestamp.json").exists()


@pytest.mark.parametrize("name", ["../up", ".hidden", "a/b", "x" * 200, "new\nline", "sp ace"])
def test_a_name_that_could_leave_its_directory_is_refused(operator: Operator, name: str) -> None:
    file = operator.file("file")
    assert "is no name of an artifact" in operator.refused("add", "config", file, f"--name={name}")


@pytest.mark.parametrize("vo", ["root", "targets", "../x", "Atlas", "a b", ""])
def test_a_vo_gets_no_name_that_is_taken_or_that_is_no_file(operator: Operator, vo: str) -> None:
    key = next((operator.place / "atlas").glob("*.json"))
    assert "is no name of a VO here" in operator.refused("delegate", vo, "--public", key)


def test_a_private_key_is_its_owners_and_may_have_a_password(operator: Operator) -> None:
    password = operator.file("password", "a long one\n")
    directory = operator.place / "locked"
    operator.do("key", directory, "cms", "--password-file", password)
    (private,) = directory.glob("*.pem")
    assert private.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert b"ENCRYPTED" in private.read_bytes()
    assert "--password-file is not given" in operator.refused("show", keys=directory)
    assert operator.attempt("show", "--password-file", password, keys=directory)[0] == 0
    os.chmod(private, 0o640)
    assert f"chmod 600 {private}" in operator.refused("show", "--password-file", password, keys=directory)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda key: key | {"keyid": "0" * 64}, "is not that of the key"),
        (lambda key: key | {"keytype": "rsa"}, "holds a key of type rsa"),
        (lambda key: {}, "holds no public key"),
        (lambda key: [], "holds no public key"),
        (lambda key: key | {"keyval": {"public": "zz"}}, "holds no public key"),
    ],
)
def test_a_public_key_is_what_it_says_or_is_refused(operator: Operator, change: object, reason: str) -> None:
    assert callable(change)
    public = operator.key("cms")
    public.write_text(json.dumps(change(json.loads(public.read_text()))))
    assert reason in operator.refused("delegate", "cms", "--public", public)


def test_metadata_that_was_damaged_is_named_with_its_backups(operator: Operator) -> None:
    (operator.repository / "metadata/1.root.json").write_text("{")
    told = operator.refused("show")
    assert "1.root.json" in told
    assert "backups/" in told
    before = max((operator.repository / "backups").iterdir())
    shutil.copytree(before, operator.repository, dirs_exist_ok=True)
    operator.do("show")


def test_the_standing_is_told_as_json(operator: Operator) -> None:
    operator.do("add", "plugin", operator.file("probe-1.0.whl"), "--vo", "atlas")
    told = json.loads(operator.do("show", "--json"))
    roles = {one["role"]: one for one in told["roles"]}
    assert roles["atlas"]["draft"] == 1
    assert roles["atlas"]["missing"] == 1
    assert roles["root"]["version"] == 1


def test_a_payload_is_given_the_newest_root_and_the_floor(operator: Operator) -> None:
    operator.publish()
    operator.publish()
    path = operator.place / "bundle.json"
    operator.do("bundle", path)
    told = json.loads(path.read_text())
    versions = {role: told[role]["signed"]["version"] for role in ("root", "timestamp", "snapshot")}
    assert versions == {"root": 1, "timestamp": 2, "snapshot": 1}
    pilot(operator, json.dumps(told["root"]).encode()).refresh()


def test_the_commands_of_the_how_to_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "docs/how-to/sign-artifacts.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("python packaging/artifacts.py ")]
    assert len(lines) == 14
    (tmp_path / "tarballs").mkdir()
    for name in ("site.yaml", "atlas_pilot-1.0-py3-none-any.whl", "tarballs/condor.tar.gz", "tarballs/index.json"):
        (tmp_path / name).write_text("content")
    for line in lines:
        # The page cannot know how the identifiers of the keys begin.
        made = sorted(Path("keys").glob("timestamp-*.json"), key=lambda path: path.stat().st_mtime_ns)
        names = {
            "tarballs/*.tar.gz": Path("tarballs/condor.tar.gz"),
            "atlas-keys/atlas.json": next(Path("atlas-keys").glob("*.json"), None),
            "keys/timestamp-new.json": made[-1] if made else None,
            "3f2a91c0": made[0].stem.partition("-")[2] if made else None,
        }
        words = [str(names.get(word, word)) for word in line.split()[2:]]
        assert artifacts.main(words) == 0, f"{line}: {capsys.readouterr().err}"


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        artifacts.main(["--help"])
    told = capsys.readouterr().out
    assert "  artifacts.py " in told
    assert max(map(len, told.splitlines())) <= 80
