"""How much the last-level caches hold: each once, of the processors that are used and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.benchmarks.caches import last_level_cache_bytes

MIB = 1 << 20


def cache(root: Path, processor: int, index: int, level: str, kind: str, size: str, shared_by: str) -> None:
    """One cache of one processor, as the kernel shows it."""
    place = root / f"sys/devices/system/cpu/cpu{processor}/cache/index{index}"
    place.mkdir(parents=True)
    for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared_by)):
        (place / name).write_text(f"{text}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sockets of two processors each."""
    for processor in range(4):
        socket = "0-1" if processor < 2 else "2-3"
        cache(tmp_path, processor, 0, "1", "Data", "48K", str(processor))
        cache(tmp_path, processor, 1, "1", "Instruction", "32K", str(processor))
        cache(tmp_path, processor, 2, "2", "Unified", "2048K", str(processor))
        cache(tmp_path, processor, 3, "3", "Unified", "36M", socket)
    return tmp_path


def test_a_cache_that_processors_share_counts_once(root: Path) -> None:
    assert last_level_cache_bytes(str(root), [0, 1]) == 36 * MIB


def test_each_socket_that_is_used_counts(root: Path) -> None:
    assert last_level_cache_bytes(str(root), [1, 2]) == 72 * MIB


def test_without_a_shared_one_the_largest_level_of_each_counts(tmp_path: Path) -> None:
    for processor in (0, 1):
        cache(tmp_path, processor, 0, "2", "Unified", "512K", str(processor))
    assert last_level_cache_bytes(str(tmp_path), [0, 1]) == MIB


@pytest.mark.parametrize("size", ["", "many", "-1K", "1T", "1" * 40])
def test_what_is_no_size_is_no_cache(tmp_path: Path, size: str) -> None:
    cache(tmp_path, 0, 0, "3", "Unified", size, "0")
    assert last_level_cache_bytes(str(tmp_path), [0]) is None


def test_a_node_that_tells_nothing_has_none_known(tmp_path: Path) -> None:
    assert last_level_cache_bytes(str(tmp_path), [0, 1]) is None
