"""A check tells whether pilots can be given to the batch systems that entries name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.process import Result
from server_stub.entries import Factory
from server_stub.factory import checking_sites
from server_stub.factory.checking_sites import check_sites
from server_stub.findings import Finding, Verdict

Programs = Callable[..., Path]
LOGIN = "pilots@login.example.org"
SSH = '#!/bin/sh\nfor each in %s; do echo "pilot-login-node $each"; done\n'
ANSWERS = "'system slurm /usr/bin' 'installed yes' 'blahpd $GahpVersion' 'transfer $GahpVersion'"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Makes these the only programs in the PATH, by name with their text; gives the root of an HTCondor."""

    def make(**texts: str) -> Path:
        directory = tmp_path / "programs"
        directory.mkdir()
        for name, text in texts.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(directory))
        blahp = tmp_path / "root" / "usr/libexec/blahp"
        blahp.mkdir(parents=True)
        (blahp / "blah.py").write_text("self.readfp(vfile)\n")
        return tmp_path / "root"

    return make


def found(factory: Factory, root: Path, type: str, contact: str = "") -> dict[str, Finding]:  # noqa: A002 - the key
    entries = tuple(replace(entry, type=type, contact=contact) for entry in factory.entries)
    return {one.name: one for one in check_sites(replace(factory, entries=entries), str(root))}


def with_python(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let this machine's Python know the old call (0), or not (1)."""
    monkeypatch.setattr(checking_sites, "run", lambda words, **_: Result(tuple(words), code))


def test_entries_of_other_types_need_none_of_it(factory: Factory, tmp_path: Path) -> None:
    assert found(factory, tmp_path, type="local") == {}


def test_a_machine_of_the_cluster_has_the_blahp_and_the_batch_systems_program(
    factory: Factory, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_python(monkeypatch, 0)
    told = found(factory, programs(blahpd="", sbatch=""), type="batch slurm")
    assert {name: one.verdict for name, one in told.items()} == {"blahp": Verdict.OK, "batch slurm": Verdict.OK}


def test_what_a_machine_lacks_is_named(factory: Factory, programs: Programs) -> None:
    told = found(factory, programs(), type="batch slurm")
    assert {one.verdict for one in told.values()} == {Verdict.FAIL}
    assert "blahpd is not in the PATH" in told["blahp"].message
    assert "sbatch is not in the PATH" in told["batch slurm"].message


def test_a_blahp_that_is_older_than_the_python_is_to_be_mended(
    factory: Factory, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_python(monkeypatch, 1)
    root = programs(blahpd="", sbatch="")
    told = found(factory, root, type="batch slurm")["blahp"]
    assert told.verdict is Verdict.FAIL
    assert told.hint.startswith(f"sed -i 's/\\.readfp(/.read_file(/' {root}/usr/libexec/blahp/blah.py")
    (root / "usr/libexec/blahp/blah.py").write_text("self.read_file(vfile)\n")
    assert found(factory, root, type="batch slurm")["blahp"].verdict is Verdict.OK


def test_a_login_node_that_has_all_takes_jobs(factory: Factory, programs: Programs) -> None:
    told = found(factory, programs(ssh=SSH % ANSWERS), type="batch slurm", contact=LOGIN)
    assert {name: one.verdict for name, one in told.items()} == {f"login node {LOGIN}": Verdict.OK}


@pytest.mark.parametrize(
    ("ssh", "kind", "verdict", "words"),
    [
        (SSH % ANSWERS, "batch pbs", Verdict.FAIL, "it has slurm, and not pbs"),
        ("#!/bin/sh\n", "batch slurm", Verdict.FAIL, "HTCondor's part is not on"),
        ("#!/bin/sh\necho 'Permission denied (publickey).' >&2; exit 255", "batch slurm", Verdict.WARN, "denied"),
        ("#!/bin/sh\necho 'Connection refused' >&2; exit 255", "batch slurm", Verdict.FAIL, "refused"),
    ],
)
def test_what_is_wrong_with_a_login_node_is_told(
    factory: Factory, programs: Programs, ssh: str, kind: str, verdict: Verdict, words: str
) -> None:
    told = found(factory, programs(ssh=ssh), type=kind, contact=LOGIN)[f"login node {LOGIN}"]
    assert (told.verdict, words in told.message) == (verdict, True), told
