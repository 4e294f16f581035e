"""Tests are shared between workers so that long files begin first and what belongs together stays together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests import distribution

ROOT = Path(__file__).parents[1]


def test_what_is_known_to_take_long_is_there() -> None:
    assert [name for name in distribution.LONGEST if not (ROOT / name).exists()] == []


def test_the_longest_begin_and_all_others_stay_in_their_order() -> None:
    others = ["tests/b.py::test_2", "tests/b.py::test_1", "tests/a.py::test_1"]
    longest, second = (f"{name}::test_x[a::b]" for name in distribution.LONGEST[:2])
    items = [SimpleNamespace(nodeid=name) for name in (*others, second, longest)]
    found = [item.nodeid for item in distribution.in_order(items)]  # type: ignore[arg-type]
    assert found == [longest, second, *others]


def test_a_directory_is_shared_out_as_one_and_other_tests_by_their_file() -> None:
    ids = ["tests/packaging/test_a.py::test", "tests/packaging/test_b.py::test", "tests/test_c.py::test[x::y]"]
    shares = [distribution.share(name) for name in ids]
    assert shares == ["tests/packaging/", "tests/packaging/", "tests/test_c.py"]
