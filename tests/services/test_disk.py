"""What a service may have in its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.services import disk
from tests.services.bench import Bench, Keep

WRITES = ": > ready; head -c 3000000 /dev/zero > some; sleep 0.2; exec sleep 600"


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SHORTEST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(disk, "LONGEST_LOOK_SECONDS", 0.1)


def test_a_service_that_fills_its_directory_is_ended_and_has_failed_at_last(bench: Bench, keep: Keep) -> None:
    plan = bench.plan(WRITES, disk_mib=1, restart_limit=1)
    kept = keep(plan)
    kept.until_status("failed")
    standing = kept.supervisor.units["s"].standing
    assert "MiB are in its directory, its limit is 1 MiB (disk_mib)" in standing.message
    assert standing.cause == "disk"
    assert standing.restarts <= 1


def test_one_that_clears_what_it_wrote_goes_on(bench: Bench, keep: Keep) -> None:
    # It may be ended as soon as it writes: what the second start goes by is there before.
    script = ": > ready; test -e again && rm -f some || { sleep 0.2; : > again; head -c 3000000 /dev/zero > some; }; "
    kept = keep(bench.plan(script + "exec sleep 600", disk_mib=1))
    kept.until_start(2)
    assert "disk_mib" in kept.supervisor.states()[0]["ends"][0]
    kept.until(lambda: not bench.file("some").exists(), "the end of what it wrote")
    kept.until_status("ready")


def test_all_files_are_counted_in_small_steps(bench: Bench, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FILES_AT_ONCE", 3)
    script = (
        "mkdir -p a/b; for n in 1 2 3 4 5 6 7 8; do head -c 200000 /dev/zero > a/b/$n; done; : > ready; exec sleep 600"
    )
    kept = keep(bench.plan(script, disk_mib=1, restart="never"))
    kept.until_status("failed")
    assert "1 MiB are in its directory" in kept.supervisor.states()[0]["message"]


def test_neither_links_nor_what_is_gone_is_counted(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 3_000_000)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "link").symlink_to(tmp_path / "large")
    (tmp_path / "own" / "around").symlink_to(tmp_path, target_is_directory=True)
    assert sum(disk.file_sizes(str(tmp_path / "own"))) < 1_000_000
    assert list(disk.file_sizes(str(tmp_path / "gone"))) == []


def test_without_a_division_memory_is_measured_and_the_report_says_so(bench: Bench, keep: Keep) -> None:
    kept = keep(
        bench.plan(": > ready; exec sleep 600", memory_mib=500), bench.plan(": > ready; exec sleep 600", name="free")
    )
    kept.until_start(1)
    limits = {one["name"]: one["memory_limit"] for one in kept.supervisor.states()}
    assert limits == {"s": "measured", "free": ""}
