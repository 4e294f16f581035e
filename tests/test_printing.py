"""Results reach standard output whatever is in them."""

from __future__ import annotations

import io
import sys

import pytest

from pilot_agent.printing import print_page, print_text


class Output(io.TextIOWrapper):
    """A standard output of an encoding, and what was written to it."""

    def __init__(self, encoding: str) -> None:
        self.kept = io.BytesIO()
        super().__init__(self.kept, encoding=encoding)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-8", b"\\ud800 caf\xc3\xa9"), ("ascii", b"\\ud800 caf\\xe9"), ("latin-1", b"\\ud800 caf\xe9")],
)
def test_what_the_encoding_cannot_carry_is_written_as_its_number(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: bytes
) -> None:
    output = Output(encoding)
    monkeypatch.setattr(sys, "stdout", output)
    print_text("\ud800 café")
    assert output.kept.getvalue() == written


def test_a_page_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output("utf-8")
    monkeypatch.setattr(sys, "stdout", output)
    print_page("a\x1b[2J\x07\x9b\u202e\ud800\nb\tc")
    assert output.kept.getvalue().decode() == "a�[2J����\nb\tc"
