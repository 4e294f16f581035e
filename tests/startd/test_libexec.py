"""HTCondor's LIBEXEC of the pilot is the node's, but for the scripts of logins."""

from __future__ import annotations

import os
from pathlib import Path

from pilot_agent.startd.libexec import make_libexec
from pilot_agent.startd.logins import SHELL_SETUP, SSHD_SETUP


def test_everything_is_linked_and_the_scripts_replaced(tmp_path: Path) -> None:
    node, own = tmp_path / "node", tmp_path / "private" / "condor" / "libexec"
    node.mkdir()
    own.parent.mkdir(parents=True)
    for name in (SHELL_SETUP, "curl_plugin"):
        (node / name).write_text("the node's")
    make_libexec(str(node), str(own), {"own_program": "#!/bin/sh\n"})
    assert os.readlink(own / "curl_plugin") == str(node / "curl_plugin")
    assert not (own / SHELL_SETUP).is_symlink()
    assert os.access(own / SHELL_SETUP, os.X_OK)
    assert (node / SHELL_SETUP).read_text() == "the node's"
    assert (own / "own_program").stat().st_mode & 0o777 == 0o500
    assert f"mktemp -d {tmp_path}/private/login.XXXXXX" in (own / SSHD_SETUP).read_text()
