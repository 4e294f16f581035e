"""The factory's keys: told, followed by newer ones, kept as long as they are of use."""

from __future__ import annotations

from pathlib import Path

import pytest

from server_stub.credentials.keys import ACCEPT_SECONDS, ROTATE_SECONDS, KeyRing
from server_stub.credentials.kinds import Kind, Label, Purpose
from server_stub.credentials.sealing import SealError, seal

NOW = 1_800_000_000.0
LABEL = Label("f", "factory", "a", Kind.X509, Purpose.SITE, "", int(NOW) + 1)


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = KeyRing(str(tmp_path / "keys")).current(NOW)
    assert KeyRing(str(tmp_path / "keys")).current(NOW + 1) == first
    (file,) = (tmp_path / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_after_a_rotation_the_old_key_is_taken_for_a_time_and_opens_what_there_is(tmp_path: Path) -> None:
    ring = KeyRing(str(tmp_path))
    old = ring.current(NOW)
    sealed = seal(b"secret", old, LABEL)
    later = NOW + ROTATE_SECONDS
    new = ring.current(later)
    assert new != old
    assert ring.accepts(old.id, later + ACCEPT_SECONDS - 1)
    assert not ring.accepts(old.id, later + ACCEPT_SECONDS)
    assert ring.accepts(new.id, later + ACCEPT_SECONDS)
    assert ring.tidy({old.id}, later + ACCEPT_SECONDS) == []
    assert ring.open(sealed, old.id, LABEL) == b"secret"
    assert ring.tidy((), later + ACCEPT_SECONDS) == [old.id]
    with pytest.raises(SealError, match="no longer here"):
        ring.open(sealed, old.id, LABEL)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "1800000000-0000000000000000"])
def test_a_key_that_is_none_is_neither_accepted_nor_opened(tmp_path: Path, name: str) -> None:
    ring = KeyRing(str(tmp_path))
    ring.current(NOW)
    assert not ring.accepts(name, NOW)
    with pytest.raises(SealError):
        ring.open(b"x", name, LABEL)
