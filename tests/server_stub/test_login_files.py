"""What goes to a login node, collected from a directory that stands for this machine."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from server_stub.login_files import File, collect_files, packed

BLAH_PY = "class Parser:\n    def __init__(self, vfile):\n        self.readfp(vfile)\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """An HTCondor with its blahp; the programs are any that are linked with libraries."""
    for place in ("usr/bin/blahpd", "usr/sbin/blahpd_daemon", "usr/sbin/condor_ft-gahp"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile("/usr/bin/ssh", tmp_path / place)
    for place, text in (
        ("usr/libexec/blahp/blah.py", BLAH_PY),
        ("usr/libexec/blahp/slurm_submit.sh", "#!/bin/bash\n"),
        ("etc/blah.config", "slurm_binpath=/usr/bin\n"),
        ("etc/blahp/slurm_local_submit_attributes.sh", "#!/bin/sh\n"),
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    return tmp_path


def test_the_programs_go_along_with_their_libraries_but_not_the_c_library(machine: Path) -> None:
    files = collect_files({}, str(machine))
    assert files["programs/condor_ft-gahp"].content == Path("/usr/bin/ssh").read_bytes()
    assert 'programs/condor_ft-gahp" "$@"' in files["bin/condor_ft-gahp"].content.decode()
    libraries = {name.removeprefix("lib/") for name in files if name.startswith("lib/")}
    assert any(name.startswith("libcrypto.so") for name in libraries)
    assert not any(name.startswith(("libc.so", "ld-linux")) for name in libraries)


def test_the_sites_own_place_of_its_programs_counts_last(machine: Path) -> None:
    text = collect_files({"slurm": "/opt/slurm/bin"}, str(machine))["etc/blah.config"].content.decode()
    assert text.index("slurm_binpath=/usr/bin") < text.index("slurm_binpath=/opt/slurm/bin")
    assert "\nLD_LIBRARY_PATH=\n" in text


def test_the_scripts_read_their_configuration_with_every_python(machine: Path) -> None:
    text = collect_files({}, str(machine))["libexec/blah.py"].content.decode()
    scope: dict[str, type] = {}
    exec(text, scope)
    parser = type("New", (scope["Parser"],), {"read_file": lambda self, file: setattr(self, "seen", file)})("x")
    assert parser.seen == "x"
    parser = type("Old", (scope["Parser"],), {"readfp": lambda self, file: setattr(self, "seen", file)})("y")
    assert parser.seen == "y"


@pytest.mark.parametrize("missing", ["usr/sbin/condor_ft-gahp", "usr/libexec/blahp", "etc/blah.config"])
def test_what_this_machine_lacks_is_named(machine: Path, missing: str) -> None:
    path = machine / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(PilotError) as error:
        collect_files({}, str(machine))
    assert error.value.failure.code == "htcondor.incomplete"
    assert missing in error.value.failure.message


def test_the_archive_is_the_same_each_time_and_its_owners_alone() -> None:
    files = {"b/program": File(b"two", program=True), "a": File(b"one")}
    assert packed(files) == packed(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(packed(files))) as archive:
        assert [(one.name, oct(one.mode)) for one in archive] == [("a", "0o600"), ("b/program", "0o700")]
