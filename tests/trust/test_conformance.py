"""The attacks that The Update Framework names, and archives made to do harm, against a pilot's own command line.

Each is refused as corruption (68), nothing of it runs, and nothing of it is left.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from tests.trust.test_signed_plugins import NAME, Signed


def arbitrary_software(signed: Signed) -> None:
    """Another wheel, of the same length, in the place of the signed one."""
    (artifact,) = (signed.repository.operator.published / "targets/plugin/atlas").glob("*none-any.whl")
    content = artifact.read_bytes()
    artifact.write_bytes(content.replace(b"ran", b"bad"))


def rollback(signed: Signed) -> None:
    timestamp = signed.repository.metadata / "timestamp.json"
    old = timestamp.read_bytes()
    signed.repository.publish()
    signed.repository.give_bundle()
    timestamp.write_bytes(old)


def freeze(signed: Signed) -> None:
    """What was the newest once is shown for ever."""
    from artifact_repository import store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "LIFETIMES", {**store.LIFETIMES, "timestamp": timedelta(seconds=0)})
        with pytest.raises(AssertionError, match="expired"):
            signed.repository.publish()
    made = (signed.repository.operator.repository / "metadata").glob("*.timestamp.json")
    newest = max(made, key=lambda path: int(path.name.split(".")[0]))
    shutil.copyfile(newest, signed.repository.metadata / "timestamp.json")


def mix_and_match(signed: Signed) -> None:
    """A VO's metadata of before, under the number of that of now."""
    old = signed.repository.newest("atlas").read_bytes()
    operator = signed.repository.operator
    other = operator.file("other-1.0-py3-none-any.whl")
    operator.do("add", "plugin", other, "--vo", "atlas", keys=operator.place / "atlas")
    signed.repository.publish()
    signed.repository.newest("atlas").write_bytes(old)


def endless_data(signed: Signed) -> None:
    signed.settings["artifacts"]["mirrors"] = [f"{signed.repository.address}/endless"]


def wrong_delegation(signed: Signed) -> None:
    """One VO signs a plugin under the name of another."""
    from artifact_repository.keys import KeyRing
    from artifact_repository.publishing import _place_artifacts, _place_metadata
    from artifact_repository.store import Store

    operator = signed.repository.operator
    name = NAME.replace("atlas/", "cms/")
    signers = KeyRing((operator.place / "atlas", operator.keys)).signers()
    store = Store(operator.repository, signers)
    with store.edit_targets("atlas") as targets:
        targets.targets[name] = targets.targets[NAME]
        targets.targets[name].path = name
    (operator.repository / "targets" / name).parent.mkdir(parents=True)
    shutil.copyfile(operator.repository / "targets" / NAME, operator.repository / "targets" / name)
    # As a factory would publish that does not try it before.
    store.do_snapshot(force=True)
    store.do_timestamp(force=True)
    _place_metadata(store, operator.published)
    _place_artifacts(store, operator.published)
    made = (operator.repository / "metadata").glob("*.timestamp.json")
    newest = max(made, key=lambda path: int(path.name.split(".")[0]))
    shutil.copyfile(newest, operator.published / "metadata/timestamp.json")
    signed.settings["plugins"]["signed"] = [name]


def key_compromise_below_threshold(signed: Signed) -> None:
    """With one of the two keys of the root a thief names keys of his own."""
    from artifact_repository.keys import KeyRing, read_public_key

    operator = signed.repository.operator
    stolen, _ = sorted(operator.keys.glob("root-*.pem"))
    evil = operator.key("root", "evil")
    root: Metadata[Any] = Metadata.from_file(str(signed.repository.newest("root")))
    root.signed.version += 1
    root.signed.roles["root"].threshold = 1
    root.signed.add_key(read_public_key(evil), "targets")
    root.signatures.clear()
    for signer in KeyRing((stolen, operator.place / "evil")).signers().values():
        root.sign(signer, append=True)
    root.to_file(str(signed.repository.metadata / f"{root.signed.version}.root.json"))


def zip_slip(signed: Signed) -> None:
    sign_another(signed, {"../../escaped.py": b"x"})


def decompression_bomb(signed: Signed) -> None:
    sign_another(signed, {f"bomb{place}.py": bytes(30 << 20) for place in range(9)})


def sign_another(signed: Signed, members: dict[str, bytes]) -> None:
    """A wheel that a VO signed, with something more in it than a plugin."""
    operator = signed.repository.operator
    path = operator.place / "harm-1.0-py3-none-any.whl"
    shutil.copyfile(signed.wheel(), path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    operator.do("add", "plugin", path, "--vo", "atlas", keys=operator.place / "atlas")
    signed.repository.publish()
    signed.settings["plugins"]["signed"] = [f"plugin/atlas/{path.name}"]


ATTACKS: list[tuple[Callable[[Signed], None], str]] = [
    (arbitrary_software, "artifact.digest"),
    (rollback, "artifact.rollback"),
    (freeze, "artifact.expired"),
    (mix_and_match, "artifact.digest"),
    (endless_data, "artifact.too_large"),
    (wrong_delegation, "artifact.delegation"),
    (key_compromise_below_threshold, "artifact.unsigned"),
    (zip_slip, "artifact.content"),
    (decompression_bomb, "artifact.content"),
]


@pytest.fixture
def signed(repository: Any) -> Signed:
    """A VO's plugin that would run."""
    return Signed(repository)


@pytest.mark.parametrize(("attack", "code"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_an_attack_is_refused_as_corruption_and_leaves_nothing(
    signed: Signed, attack: Callable[[Signed], None], code: str, tmp_path: Path
) -> None:
    attack(signed)
    before = set(tmp_path.iterdir()) | {tmp_path / "settings.json"}
    done = signed.run("probe", "atlas", "--json")
    assert (done.returncode, f" {code}: " in done.stderr) == (68, True), done.stderr
    assert not signed.mark.exists()
    assert set(tmp_path.iterdir()) <= before
    assert not list(tmp_path.parent.glob("escaped*"))


def test_a_pilot_of_before_follows_keys_that_were_changed_and_a_stolen_one_signs_nothing_any_more(
    signed: Signed,
) -> None:
    """Every role's keys, the root's twice; by the bundle of the beginning."""
    repository, operator = signed.repository, signed.repository.operator
    bundle = repository.bundle.read_bytes()
    stolen = operator.place / "stolen"
    shutil.copytree(operator.keys, stolen)
    for role, _, old in [path.stem.partition("-") for path in sorted(stolen.glob("*.json"))]:
        operator.do("rotate", role, "--new", operator.key(role, "keys"), "--old", old)
        for half in operator.keys.glob(f"{role}-{old}.*"):
            if role != "root":  # those of the root before sign the next one too
                half.unlink()
    repository.publish()
    assert repository.bundle.read_bytes() == bundle
    assert signed.run("probe", "atlas", "--json").returncode == 0
    signed.mark.unlink()
    timestamp: Metadata[Any] = Metadata.from_file(str(repository.metadata / "timestamp.json"))
    timestamp.signed.version += 1
    timestamp.signatures.clear()
    from artifact_repository.keys import KeyRing

    (thief,) = KeyRing(tuple(stolen.glob("timestamp-*.pem"))).signers().values()
    timestamp.sign(thief)
    timestamp.to_file(str(repository.metadata / "timestamp.json"))
    done = signed.run("probe", "atlas", "--json")
    assert done.returncode == 68
    assert "artifact.unsigned" in done.stderr
    assert json.loads(bundle)["root"]["signed"]["version"] == 1
