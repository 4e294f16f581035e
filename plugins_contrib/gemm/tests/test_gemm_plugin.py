"""What the plugin declares follows from its options."""

from __future__ import annotations

from typing import Any

import pytest
from pilot_gemm.plugin import pilot_benchmarks, pilot_options

from pilot_agent.hookspecs import Benchmark


def declared(**options: Any) -> Benchmark:
    """What the plugin declares with these options, the others as they are by default."""
    defaults = {option.name: option.default for option in pilot_options()}
    (record,) = pilot_benchmarks({"plugins": {"options": {"gemm": defaults | options}}})
    return record


def test_it_runs_in_the_image_that_jobs_get_as_a_program_of_its_own() -> None:
    record = declared()
    assert (record.where, record.platform, record.run) == ("image", None, "")
    assert record.command == ("python3", "{script}", "4096", "3.0")
    assert record.script is not None
    assert record.script.startswith("#!")


def test_platform_library_and_interpreter_are_for_the_vo_to_choose() -> None:
    record = declared(platform="torch", library="torch", python="/opt/python", size=1024)
    assert record.platform == "torch"
    assert record.command == ("/opt/python", "{script}", "1024", "3.0", "torch")


def test_on_the_host_there_is_no_platform() -> None:
    assert (declared(where="host", platform="el9").platform, declared(where="host").where) == (None, "host")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"where": "moon"}, r"gemm\.where is 'moon'"),
        ({"library": "numpy"}, r"gemm\.library is 'numpy'; known: torch, cupy, cublas"),
        ({"size": 1}, r"gemm\.size is 1; 128 to 32768"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declared(**options)
