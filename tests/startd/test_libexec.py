"""HTCondor's LIBEXEC of the pilot is the node's, but for the scripts of logins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pilot_agent.containers.tiny_image import sif
from pilot_agent.startd.libexec import SIF_TEST, make_libexec, plugin_programs, sif_test
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


ANSWER = r"""#!/bin/sh
case $1 in
    -classad)
        echo 'MultipleFileSupport = true'
        echo 'SupportedMethods = "http,https,ftp,file,dav,davs"'
        echo 'PluginType = "FileTransfer"' ;;
    *) printf '<%s>' "$@"; cat; exit 5 ;;
esac
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The program in the place of a plugin that says what it was told."""
    node = tmp_path / "a node's" / "curl_plugin"
    node.parent.mkdir()
    node.write_text(ANSWER)
    node.chmod(0o755)
    ((name, text),) = plugin_programs([str(node)]).items()
    own = tmp_path / name
    own.write_text(text)
    own.chmod(0o755)
    return own


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_transfer_plugin_offers_everything_but_the_nodes_files(plugin: Path, shell: str) -> None:
    done = subprocess.run([shell, plugin, "-classad"], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "MultipleFileSupport = true",
        'SupportedMethods = "http,https,ftp,dav,davs"',
        'PluginType = "FileTransfer"',
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_transfer_plugin_gets_its_own_words(plugin: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "in put"
    wanted.write_text('[ LocalFileName = "x"; Url = "https://host/file:/a" ]')
    done = subprocess.run(
        [plugin, "-infile", wanted, "-outfile", "*"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.stdout == f"<-infile><{wanted}><-outfile><*>"
    assert done.returncode == 5


@pytest.mark.parametrize("url", ["file:///etc/passwd", "FiLe:/etc/passwd"])
def test_a_transfer_plugin_takes_no_file_of_the_node(plugin: Path, tmp_path: Path, url: str) -> None:
    wanted = tmp_path / "input"
    wanted.write_text(f'[ LocalFileName = "x"; Url = "https://host/a" ]\n[ Url = "{url}"; LocalFileName = "y" ]')
    done = subprocess.run([plugin, "-outfile", "o", "-infile", wanted], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "files of the node" in done.stderr


def test_the_sif_that_htcondor_tests_with_is_made_where_the_node_has_none(tmp_path: Path) -> None:
    assert sif_test(str(tmp_path)) == ({SIF_TEST: sif()} if os.uname().machine == "x86_64" else {})
    (tmp_path / SIF_TEST).write_bytes(b"the node's")
    assert sif_test(str(tmp_path)) == {}
