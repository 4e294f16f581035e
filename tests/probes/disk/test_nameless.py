"""Files for trials have no name from the beginning: a kill at any moment leaves nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pilot_agent.probes.disk.nameless import make_nameless


def test_the_file_can_be_written_and_is_in_no_directory(tmp_path: Path) -> None:
    descriptor = make_nameless(str(tmp_path))
    assert os.write(descriptor, b"x") == 1
    assert list(tmp_path.iterdir()) == []
    os.close(descriptor)


def test_a_file_system_that_makes_only_named_files_is_left_empty_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no O_TMPFILE on NFS")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    descriptor = make_nameless(str(tmp_path))
    assert os.write(descriptor, b"x") == 1
    assert list(tmp_path.iterdir()) == []
    os.close(descriptor)


def test_a_directory_that_refuses_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_nameless(str(tmp_path / "missing"))
