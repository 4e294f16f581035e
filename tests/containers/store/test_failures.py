"""What the store remembers of images that could not be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.containers.store import entries, failures
from pilot_agent.containers.store.directory import Directory
from pilot_agent.containers.store.errors import NETWORK, StoreError
from tests.containers.store.setting import SIF, Server, make_store

KEY = "a" * 64
ERROR = StoreError("image.unreachable", NETWORK, "nobody answers", "the site looks", temporary=True)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.open(str(tmp_path / "store")) as directory:
        yield directory


def test_the_pause_doubles_up_to_its_limit_and_begins_anew_after_a_success(directory: Directory) -> None:
    assert [failures.note(directory, KEY, ERROR) for _ in range(6)] == [60, 120, 240, 480, 960, 960]
    failures.forget(directory, KEY)
    assert failures.recent(directory, KEY) is None
    assert failures.note(directory, KEY, ERROR) == 60


def test_a_recent_failure_says_what_was_found_and_when_the_next_trial_is(directory: Directory) -> None:
    failures.note(directory, KEY, StoreError("image.digest", "corruption", "another digest", "hint", temporary=False))
    found = failures.recent(directory, KEY)
    assert found is not None
    assert (found.code, found.kind_name, found.hint, found.temporary) == ("image.digest", "corruption", "hint", True)
    assert 50 < found.seconds_left <= 60
    assert found.message.startswith("another digest (found 0 s ago; this node tries again in ")


def test_a_pause_that_is_over_holds_nobody_and_old_failures_are_forgotten(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("pilot_agent.containers.store.failures.time.time", lambda: now)
    failures.note(directory, KEY, ERROR)
    now += 61
    assert failures.recent(directory, KEY) is None
    assert failures.note(directory, KEY, ERROR) == 120
    now -= 30  # the clock was set back
    assert failures.recent(directory, KEY) is None
    now += 10_000
    assert failures.note(directory, KEY, ERROR) == 60


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"time": "x"}', b"\xff" * 100, b"1" * 100_000])
def test_a_damaged_note_counts_for_nothing(directory: Directory, content: bytes) -> None:
    Path(directory.path, "failures", KEY).write_bytes(content)
    assert failures.recent(directory, KEY) is None
    assert failures.note(directory, KEY, ERROR) == 60


def test_a_link_in_place_of_a_note_leads_nowhere(directory: Directory, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    os.symlink(victim, Path(directory.path, "failures", KEY))
    os.symlink(victim, Path(directory.path, "failures", f".{KEY}.{os.getpid()}"))
    assert failures.recent(directory, KEY) is None
    failures.note(directory, KEY, ERROR)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        '{"time": 1, "times": Infinity, "pause": 1e999, "error": {}}',
        f'{{"time": {10**400}, "times": 1, "pause": 60, "error": {{}}}}',
        f'{{"reference": "a", "form": "file", "digest": "", "times": 1, "proven": [], "fetched": {10**400}}}',
        "[" * 10_000,
    ],
)
def test_a_note_that_nobody_here_wrote_is_none(directory: Directory, text: str) -> None:
    Path(directory.path, "failures", KEY).write_text(text)
    assert failures.recent(directory, KEY) is None
    Path(directory.path, "images", KEY).mkdir()
    Path(directory.path, "images", KEY, "about.json").write_text(text.replace("times", "size"))
    assert entries.read(directory, KEY) is None


def test_old_notes_are_swept_and_new_ones_stay(directory: Directory) -> None:
    failures.note(directory, KEY, ERROR)
    failures.note(directory, "b" * 64, ERROR)
    os.utime(Path(directory.path, "failures", "b" * 64), (1000, 1000))
    failures.sweep(directory)
    assert os.listdir(directory.failures) == [KEY]


def test_only_who_heeds_failures_is_held_back(server: Server, tmp_path: Path) -> None:
    store, url = make_store(tmp_path), server.url("good.sif")
    assert store.note_failure(url, "", ERROR) == 60
    with pytest.raises(StoreError, match="nobody answers"):
        store.fetch(url, heed_failures=True)
    assert server.requests == []
    image = store.fetch(url)
    assert Path(image.path).read_bytes() == SIF
    assert store.fetch(url, heed_failures=True).shared, "what is there is used"
    assert store.recent_failure(image) is not None
    store.mark_proven(image, "apptainer 1")
    assert store.recent_failure(image) is None
