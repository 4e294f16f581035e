"""An end that the site announces while the pilot runs is read, and what cannot be one is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.plugins.features import look_again

NOW = 1_795_000_000.0


def told(directory: Path, **features: str) -> Context:
    for name, text in features.items():
        (directory / name).write_text(text)
    return Context(environment={"MACHINEFEATURES": str(directory), "JOBFEATURES": str(directory)})


def test_the_first_announced_end_counts(tmp_path: Path) -> None:
    context = told(tmp_path, shutdowntime="1795009000\n", shutdowntime_job="1795008000", total_cpu="8")
    assert look_again(context, now=NOW) == {
        "MJF_MACHINE_TOTAL_CPU": 8,
        "MJF_MACHINE_SHUTDOWNTIME": 1795009000,
        "MJF_JOB_SHUTDOWNTIME_JOB": 1795008000,
        "PilotShutdownTime": 1795008000,
    }


@pytest.mark.parametrize("text", ["0", "1794000000", "9999999999999", "soon", ""])
def test_what_cannot_be_an_end_is_none(tmp_path: Path, text: str) -> None:
    assert look_again(told(tmp_path, shutdowntime=text, total_cpu="8"), now=NOW)["PilotShutdownTime"] is None


def test_features_that_cannot_be_read_now_change_nothing(tmp_path: Path) -> None:
    assert look_again(told(tmp_path), now=NOW) == {}
    assert look_again(Context(), now=NOW) == {}
