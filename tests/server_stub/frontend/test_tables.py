"""Tables survive the way through a file, and those of several access points become one."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pytest

from server_stub.frontend.jobs import job_table
from server_stub.frontend.slots import read_slots, slot_table
from server_stub.frontend.tables import load_jobs, load_slots, save_jobs, save_slots
from tests.server_stub.frontend.builders import record, slot


def test_jobs_of_several_access_points_become_one_table(tmp_path: Path) -> None:
    of_a = [record(1, cores=2, attributes=("x", None, 1.5, True)), record(2), record(3, cores=2)]
    of_b = [record(4), record(5, requirements='TARGET.Arch == "X86_64" && "ü" != ""')]
    for name, records in (("a", of_a), ("b", of_b), ("empty", [])):
        save_jobs(str(tmp_path / name), job_table({name: records}))
    names = ("a", "empty", "b")
    loaded = load_jobs([(name, str(tmp_path / name)) for name in names])
    expected = job_table({"a": of_a, "empty": [], "b": of_b})
    assert loaded.demands == expected.demands
    assert loaded.access_points == expected.access_points
    for column in ("since", "demand", "access_point"):
        np.testing.assert_array_equal(getattr(loaded, column), getattr(expected, column))
    assert len(load_jobs([])) == 0


def test_slots_come_back_as_they_were(tmp_path: Path) -> None:
    table = slot_table([slot("e@f", "p", busy=True), slot("e@f", "q"), slot("other", "r", open=False)])
    save_slots(str(tmp_path / "slots"), table)
    loaded = load_slots(str(tmp_path / "slots"))
    assert (loaded.entries, loaded.pilots) == (table.entries, table.pilots)
    np.testing.assert_array_equal(loaded.idle, table.idle)
    np.testing.assert_array_equal(loaded.sizes, table.sizes)
    save_slots(str(tmp_path / "none"), read_slots([]))
    assert len(load_slots(str(tmp_path / "none"))) == 0


def test_a_file_that_is_no_table_is_an_error_and_nothing_is_run(tmp_path: Path) -> None:
    hostile = np.array([print], dtype=object)
    np.savez(tmp_path / "pickled.npz", since=hostile, demand=hostile, texts=hostile)
    (tmp_path / "half").write_bytes(b"PK\x03\x04half")
    for name in ("pickled.npz", "half"):
        with pytest.raises((ValueError, OSError, BadZipFile)):
            load_jobs([("a", str(tmp_path / name))])
