"""Images of the node that jobs name are tried again when their proof is old or another runtime's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.containers.store.errors import NODE, RecentFailureError, StoreError
from pilot_agent.containers.store.named import NAMED, SECONDS
from pilot_agent.containers.store.store import Store

IMAGE = "/cvmfs/images.example.org/el9"
RUNTIME = "/usr/bin/apptainer 1.4.5"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), runtime="/bin/false", environment={}, form=NAMED)


def test_a_proof_counts_for_this_image_and_runtime_and_a_while(store: Store) -> None:
    assert not store.ran_lately(IMAGE, RUNTIME)
    store.note_ran(IMAGE, RUNTIME)
    assert store.ran_lately(IMAGE, RUNTIME)
    assert not store.ran_lately(f"{IMAGE}x", RUNTIME)
    assert not store.ran_lately(IMAGE, RUNTIME + "1")
    assert not store.ran_lately(IMAGE, RUNTIME[:-1])
    (note,) = Path(store.directory, "failures").glob("ran.*")
    for age in (SECONDS + 5, -60):
        written = note.stat().st_mtime - age
        os.utime(note, (written, written))
        assert not store.ran_lately(IMAGE, RUNTIME)
        os.utime(note)


def test_a_link_in_the_place_of_a_proof_is_none(store: Store, tmp_path: Path) -> None:
    store.note_ran(IMAGE, RUNTIME)
    (note,) = Path(store.directory, "failures").glob("ran.*")
    (tmp_path / "other").write_text(RUNTIME)
    note.unlink()
    note.symlink_to(tmp_path / "other")
    assert not store.ran_lately(IMAGE, RUNTIME)
    store.note_ran(IMAGE, "x")
    assert (tmp_path / "other").read_text() == RUNTIME


def test_a_failure_counts_until_its_pause_ends_or_a_program_ran(store: Store) -> None:
    error = StoreError("image.missing", NODE, "it is not there", "the site provides it", temporary=True)
    first = store.note_failure(IMAGE, "", error)
    with pytest.raises(RecentFailureError, match="it is not there"):
        store.ran_lately(IMAGE, RUNTIME)
    assert store.note_failure(IMAGE, "", error) == 2 * first
    store.note_ran(IMAGE, RUNTIME)
    assert store.ran_lately(IMAGE, RUNTIME)
    assert store.note_failure(IMAGE, "", error) == first
