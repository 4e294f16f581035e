"""The vault keeps what frontends gave, gives each pilot its own, and forgets what is of no use."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import jwt
import pytest
from sqlalchemy import select

from pilot_agent.model import PilotError
from server_stub.credentials.idtoken import SigningKey, issue
from server_stub.credentials.keys import ACCEPT_SECONDS, ROTATE_SECONDS, KeyRing
from server_stub.credentials.kinds import Kind, Label, Purpose
from server_stub.credentials.sealing import seal
from server_stub.entries import Factory
from server_stub.factory import vault as vault_module
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.factory.tables import CredentialRow, HandedRow
from server_stub.factory.vault import UNKNOWN_SECONDS, Renewed, Vault, VaultError, open_vault

NOW = int(time.time())
DAY = 86400
KEY = SigningKey("POOL", "pool.test", b"k" * 32)


@pytest.fixture
def vault(factory: Factory, store: Store) -> Vault:
    return open_vault(factory, store)


@pytest.fixture
def pilot(factory: Factory, store: Store) -> Callable[..., Pilot]:
    def make(
        name: str, state: PilotState = PilotState.PREPARED, *, frontend: str = "fe", entry: str = "site-a"
    ) -> Pilot:
        directory = factory.pilot_directory(name)
        Path(directory).mkdir(parents=True)
        made = Pilot(name, entry, "S", "pilot.pyz", "ab", state, float(NOW), directory, frontend=frontend)
        store.save(made)
        return made

    return make


def token(name: str, expires: int, identity: str = "S@fe") -> bytes:
    return issue(KEY, identity=identity, jti=name, issued=NOW - 1, expires=expires).encode()


def scitoken(name: str, expires: int) -> bytes:
    return jwt.encode(
        {"jti": name, "exp": expires}, "a secret of somebody else's, long enough", algorithm="HS256"
    ).encode()


def put(
    vault: Vault,
    name: str,
    secret: bytes,
    *,
    kind: Kind = Kind.IDTOKEN,
    entry: str = "site-a",
    expires: int = 0,
    frontend: str = "fe",
) -> bool:
    purpose = Purpose.PILOT if kind is Kind.IDTOKEN else Purpose.SITE
    label = Label(frontend, "example", name, kind, purpose, entry, expires or NOW + DAY)
    recipient = vault.keys.current()
    return vault.put(label, recipient.id, seal(secret, recipient, label), float(NOW))


def test_each_pilot_gets_a_token_that_is_no_other_pilots(vault: Vault, pilot: Callable[..., Pilot]) -> None:
    for name in ("a", "b"):
        assert put(vault, name, token(name, NOW + DAY))
    first = vault.take(pilot("p1"), token=True)
    second = vault.take(pilot("p2"), token=True)
    told = [jwt.decode(one.files[Kind.IDTOKEN], KEY.secret, algorithms=["HS256"])["jti"] for one in (first, second)]
    assert sorted(told) == ["a", "b"]
    assert first.names == {Kind.IDTOKEN: "pilot.token"}
    with pytest.raises(
        PilotError, match="the frontend fe gave no token for a further pilot of the entry site-a"
    ) as refused:
        vault.take(pilot("p3"), token=True)
    assert (refused.value.failure.code, refused.value.failure.retry) == ("token.missing", True)
    assert {known.pilot for known in vault.known("fe")} == {"p1", "p2"}


@pytest.mark.parametrize(
    ("entry", "left_seconds", "frontend"),
    [("site-b", DAY, "fe"), ("site-a", 60, "fe"), ("site-a", DAY, "other")],
)
def test_a_pilot_gets_no_token_of_another_entry_or_frontend_and_none_that_is_about_to_end(
    vault: Vault, pilot: Callable[..., Pilot], entry: str, left_seconds: int, frontend: str
) -> None:
    expires = NOW + left_seconds
    put(vault, "a", token("a", expires), entry=entry, expires=expires, frontend=frontend)
    with pytest.raises(PilotError, match="gave no token"):
        vault.take(pilot("p1"), token=True, now=float(NOW + 40))
    assert [known.pilot for known in vault.known(frontend)] == [""]


def test_what_is_for_the_entry_goes_before_what_is_for_all(vault: Vault, pilot: Callable[..., Pilot]) -> None:
    put(vault, "all", scitoken("all", NOW + 9 * DAY), kind=Kind.SCITOKEN, entry="", expires=NOW + 9 * DAY)
    put(vault, "own", scitoken("own", NOW + DAY), kind=Kind.SCITOKEN)
    both = ("all", "own")
    given = vault.take(pilot("p1"), token=False, wanted=both)
    assert given.files == {Kind.SCITOKEN: scitoken("own", NOW + DAY)}
    other = vault.take(pilot("p2", entry="site-b"), token=False, wanted=both)
    assert other.files == {Kind.SCITOKEN: scitoken("all", NOW + 9 * DAY)}
    named = vault.take(pilot("p3"), token=False, wanted=("all",))
    assert named.files == other.files
    assert vault.take(pilot("p4"), token=False).files == {}
    assert vault.take(pilot("p5", frontend=""), token=True, wanted=both).files == {}


def test_an_expired_credential_of_the_site_is_told_before_anything_is_submitted(
    vault: Vault, pilot: Callable[..., Pilot]
) -> None:
    put(vault, "a", scitoken("a", NOW + 60), kind=Kind.SCITOKEN, expires=NOW + 60)
    with pytest.raises(PilotError, match="scitoken a of the frontend fe has expired") as told:
        vault.take(pilot("p1"), token=False, wanted=("a",), now=NOW + 61)
    assert told.value.failure.code == "credential.expired"


def test_a_newer_one_is_for_the_same_pilot_and_comes_into_its_file(
    vault: Vault, pilot: Callable[..., Pilot], factory: Factory, store: Store, tmp_path: Path
) -> None:
    put(vault, "a", token("a.1", NOW + DAY))
    put(vault, "s", b"-----BEGIN OPENSSH PRIVATE KEY-----\nold", kind=Kind.SSH_KEY)
    mine = pilot("p1", PilotState.RUNNING)
    given = vault.take(mine, token=True, wanted=("s",))
    for kind, name in given.names.items():
        Path(mine.directory, name).write_bytes(given.files[kind])
    key = Path(mine.directory, "site.key").rename(tmp_path / "key")
    Path(mine.directory, "site.key").symlink_to(key)
    directory = str(Path(factory.state, "pilots"))
    assert vault.renew(directory) == []
    assert not put(vault, "a", newer := token("a.2", NOW + 2 * DAY), expires=NOW + 2 * DAY)
    assert not put(vault, "s", b"-----BEGIN OPENSSH PRIVATE KEY-----\nnew", kind=Kind.SSH_KEY)
    assert {(one.pilot, one.file, one.problem) for one in vault.renew(directory)} == {
        ("p1", "pilot.token", ""),
        ("p1", "site.key", ""),
    }
    file = Path(mine.directory, "pilot.token")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (newer, 0o600)
    assert Path(mine.directory, "site.key").read_bytes().endswith(b"new")
    assert key.read_bytes().endswith(b"new"), "the file that HTCondor was told of"
    assert vault.renew(directory) == []
    assert vault.own_token("p1") == newer
    assert vault.own_token("p2") is None


def test_a_token_given_again_under_a_name_goes_to_no_pilot_that_had_the_one_before(
    vault: Vault, pilot: Callable[..., Pilot], factory: Factory
) -> None:
    put(vault, "a", token("a.1", NOW + DAY))
    first, second = pilot("p1", PilotState.RUNNING), pilot("p2", PilotState.RUNNING)
    file = Path(first.directory, "pilot.token")
    file.write_bytes(vault.take(first, token=True).files[Kind.IDTOKEN])
    assert vault.delete("fe", "a")
    for number in (2, 3):
        put(vault, "a", token(f"a.{number}", NOW + DAY))
    vault.take(second, token=True)
    put(vault, "a", token("a.4", NOW + DAY))
    assert [one.pilot for one in vault.renew(str(Path(factory.state, "pilots")))] == ["p2"]
    assert file.read_bytes() == token("a.1", NOW + DAY)


def test_a_link_in_the_place_of_a_token_is_replaced_and_not_followed(
    vault: Vault, pilot: Callable[..., Pilot], factory: Factory, tmp_path: Path
) -> None:
    put(vault, "a", token("a.1", NOW + DAY))
    mine = pilot("p1", PilotState.RUNNING)
    vault.take(mine, token=True)
    (elsewhere := tmp_path / "elsewhere").write_text("as it was")
    Path(mine.directory, "pilot.token").symlink_to(elsewhere)
    put(vault, "a", token("a.2", NOW + DAY))
    assert [one.problem for one in vault.renew(str(Path(factory.state, "pilots")))] == [""]
    assert elsewhere.read_text() == "as it was"
    assert not Path(mine.directory, "pilot.token").is_symlink()


def test_of_a_pilot_that_ended_nothing_is_kept_or_written(
    vault: Vault, pilot: Callable[..., Pilot], factory: Factory, store: Store
) -> None:
    put(vault, "a", token("a.1", NOW + DAY))
    put(vault, "s", b"-----BEGIN OPENSSH PRIVATE KEY-----\nold", kind=Kind.SSH_KEY)
    mine = pilot("p1", PilotState.RUNNING)
    vault.take(mine, token=True, wanted=("s",))
    put(vault, "a", token("a.2", NOW + DAY))
    vault.renew(str(Path(factory.state, "pilots")))
    assert list(Path(mine.directory).iterdir()) == []
    assert vault.tidy() == 0
    store.save(replace(mine, state=PilotState.ENDED, ended=float(NOW)), known=mine)
    assert vault.tidy() == 1
    assert [known.id for known in vault.known("fe")] == ["s"]
    assert vault.own_token("p1") is None


def test_what_expired_is_shown_for_a_day(vault: Vault) -> None:
    put(vault, "a", token("a", NOW + 60), expires=NOW + 60)
    assert vault.tidy(NOW + DAY) == 0
    assert vault.tidy(NOW + 62 + DAY) == 1


def test_an_old_key_opens_what_was_sealed_with_it_and_what_no_key_opens_is_asked_for_again(
    vault: Vault, pilot: Callable[..., Pilot]
) -> None:
    put(vault, "a", token("a", NOW + 90 * DAY), expires=NOW + 90 * DAY)
    rotated = NOW + ROTATE_SECONDS + 3600
    later = rotated + ACCEPT_SECONDS + 1
    old = vault.keys.current()
    assert vault.keys.current(rotated) != old
    assert vault.tidy(later) == 0
    label = Label("fe", "example", "b", Kind.IDTOKEN, Purpose.PILOT, "", int(later) + DAY)
    with pytest.raises(VaultError, match="not told any more") as told:
        vault.put(label, old.id, seal(token("b", label.expires), old, label), later)
    assert told.value.status == 409
    assert Kind.IDTOKEN in vault.take(pilot("p1"), token=True, now=later).files
    put(vault, "c", token("c", NOW + 90 * DAY), expires=NOW + 90 * DAY)
    for file in Path(vault.keys.directory).glob(old.id):
        file.unlink()
    with pytest.raises(PilotError, match="cannot be opened: the key with which it was sealed is no longer here"):
        vault.own_token("p1")
    assert vault.tidy(later) == 1
    assert [known.id for known in vault.known("fe")] == ["c"]


def test_a_credential_that_cannot_be_used_is_refused_with_the_reason_and_nothing_of_it(vault: Vault) -> None:
    recipient = vault.keys.current()
    label = Label("fe", "example", "a", Kind.IDTOKEN, Purpose.PILOT, "", NOW + DAY)
    good = seal(token("a", NOW + DAY), recipient, label)
    cases = [
        (replace(label, id="b"), good, "cannot be opened"),
        (label, seal(b"marked-secret", recipient, label), "not one JSON web token"),
        (label, seal(token("a", NOW + 60), recipient, label), "expires before"),
        (replace(label, expires=NOW - 1), good, "has expired"),
        (label, b"\x01" * 200, "cannot be opened"),
    ]
    for bound, sealed, said in cases:
        with pytest.raises(VaultError, match=said) as told:
            vault.put(bound, recipient.id, sealed)
        assert "marked" not in str(told.value)
    assert vault.known("fe") == []


def test_a_name_keeps_its_kind_and_entry_until_it_is_deleted(vault: Vault) -> None:
    put(vault, "a", token("a", NOW + DAY))
    with pytest.raises(VaultError, match="delete it first") as told:
        put(vault, "a", token("a", NOW + DAY), entry="")
    assert told.value.status == 409
    assert not vault.delete("other", "a")
    assert vault.delete("fe", "a")
    assert not vault.delete("fe", "a")
    assert put(vault, "a", token("a", NOW + DAY), entry="")


def test_a_frontend_cannot_fill_the_store(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "MOST_CREDENTIALS", 2)
    for name in ("a", "b", "a"):
        put(vault, name, token(name, NOW + DAY))
    with pytest.raises(VaultError, match="up to 2 credentials") as told:
        put(vault, "c", token("c", NOW + DAY))
    assert told.value.status == 413
    assert put(vault, "c", token("c", NOW + DAY), frontend="other")


def test_a_frontend_cannot_fill_the_store_by_making_what_is_there_larger(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = scitoken("a", NOW + DAY)
    put(vault, "a", secret, kind=Kind.SCITOKEN)
    monkeypatch.setattr(vault_module, "MOST_BYTES", len(secret) + 500)
    put(vault, "a", scitoken("a" * 100, NOW + DAY), kind=Kind.SCITOKEN)
    with pytest.raises(VaultError) as told:
        put(vault, "a", scitoken("a" * 1000, NOW + DAY), kind=Kind.SCITOKEN)
    assert told.value.status == 413
    put(vault, "a", secret, kind=Kind.SCITOKEN)


def test_neither_the_store_nor_what_is_printed_has_a_secret_in_it(
    vault: Vault, pilot: Callable[..., Pilot], store: Store
) -> None:
    secret = scitoken("marked", NOW + DAY)
    put(vault, "a", secret, kind=Kind.SCITOKEN)
    given = vault.take(pilot("p1"), token=False, wanted=("a",))
    with store.read() as session:
        row = session.scalars(select(CredentialRow)).one()
        assert secret not in row.sealed
    for shown in (repr(given), repr(vault.known("fe")), repr(row)):
        assert secret.decode() not in shown
        assert secret.decode()[-20:] not in shown


def test_a_credential_goes_its_whole_way_in_any_store(store: Store) -> None:
    with TemporaryDirectory() as place:
        kept = Vault("example", KeyRing(str(Path(place, "keys"))), store)
        mine = Pilot("p1", "site-a", "S", "p", "s", PilotState.RUNNING, float(NOW), f"{place}/p1", frontend="fe")
        store.save(mine)
        for name in ("a", "b"):
            put(kept, name, token(f"{name}.1", NOW + DAY))
        put(kept, "s", scitoken("old", NOW + DAY), kind=Kind.SCITOKEN, entry="")
        given = kept.take(mine, token=True, wanted=("s",))
        Path(place, "p1").mkdir()
        for kind, name in given.names.items():
            Path(place, "p1", name).write_bytes(given.files[kind])
        (own,) = (known.id for known in kept.known("fe") if known.pilot)
        put(kept, own, newer := token(f"{own}.2", NOW + 2 * DAY), expires=NOW + 2 * DAY)
        assert kept.renew(place) == [Renewed("p1", "pilot.token")]
        assert Path(place, "p1", "pilot.token").read_bytes() == newer == kept.own_token("p1")
        store.save(replace(mine, state=PilotState.ENDED, ended=float(NOW)), known=mine)
        assert kept.tidy() == 1
        assert kept.delete("fe", "s")
        assert [known.pilot for known in kept.known("fe")] == [""]
        with store.read() as session:
            assert session.scalars(select(HandedRow)).all() == []


def test_what_a_pilot_took_that_was_never_stored_does_not_stay_for_ever(vault: Vault, factory: Factory) -> None:
    put(vault, "a", token("a", NOW + DAY))
    vault.take(replace(NEVER, directory=factory.state), token=True)
    assert vault.tidy(NOW + 60) == 0
    assert vault.tidy(time.time() + UNKNOWN_SECONDS + 1) == 1


NEVER = Pilot("never", "site-a", "S", "p", "s", PilotState.PREPARED, float(NOW), "", frontend="fe")
