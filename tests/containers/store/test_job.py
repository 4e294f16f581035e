"""What the hook calls: one line of JSON, an exit code, an end in time, and a quick start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilot_agent.containers.store.job import TEMPORARY, USERS
from tests.containers.store.setting import DIGEST, ENVIRONMENT, ROOT, SIF, Runtime, Server

START = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    "from pilot_agent.containers.store.job import main; sys.exit(main())"
)
HEAVY = {"argparse", "ctypes", "dataclasses", "enum", "http", "inspect", "json", "pilot_agent.model"}
HEAVY |= {"pilot_agent.process", "re", "socket", "ssl", "subprocess", "typing", "urllib"}


def run(*words: object, code: str = START) -> subprocess.CompletedProcess[str]:
    """The hook's call."""
    argv = [sys.executable, "-I", "-S", "-B", "-c", code, *map(str, words)]
    return subprocess.run(argv, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)


def words(tmp_path: Path, reference: str, *more: object) -> tuple[object, ...]:
    return ("--store", tmp_path / "images", "--reference", reference, "--runtime", tmp_path / "apptainer", *more)


def test_the_answer_is_one_line(server: Server, tmp_path: Path) -> None:
    more = ("--digest", DIGEST, "--lease-pid", os.getpid(), "--deadline", 60, "--limit-mib", 100)
    done = run(*words(tmp_path, server.url("good.sif"), *more))
    answer = json.loads(done.stdout)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert Path(answer["path"]).read_bytes() == SIF
    assert (answer["form"], answer["digest"], answer["shared"], answer["size"]) == ("file", DIGEST, False, len(SIF))
    assert len(os.listdir(tmp_path / "images/leases")) == 1


@pytest.mark.parametrize(("path", "code"), [("missing", USERS), ("truncated", TEMPORARY)])
def test_the_code_tells_whose_fault_it_is(server: Server, tmp_path: Path, path: str, code: int) -> None:
    done = run(*words(tmp_path, server.url(path)))
    answer = json.loads(done.stdout)
    assert done.returncode == code
    assert (answer["temporary"], answer["code"]) == (code == TEMPORARY, f"image.{path}")
    assert set(answer) == {"code", "kind", "message", "hint", "temporary"}


@pytest.mark.parametrize(
    "given", [[], ["--store"], ["--store", "/x"], ["--what", "x"], ["--form", "tar"], ["--deadline", "soon"]]
)
def test_wrong_options_are_named(given: list[str]) -> None:
    done = run(*given)
    assert (done.returncode, done.stdout) == (2, "")
    assert "wrong options" in done.stderr


def test_a_defect_sends_the_job_elsewhere(server: Server, tmp_path: Path) -> None:
    code = START.replace("; sys.exit", "; import pilot_agent.containers.store.entries as e; e.touch = None; sys.exit")
    run(*words(tmp_path, server.url("good.sif")))
    done = run(*words(tmp_path, server.url("good.sif")), code=code)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (TEMPORARY, "store.defect")


def test_a_hang_past_the_deadline_ends_by_signal(tmp_path: Path, server: Server) -> None:
    code = START.replace(
        "; sys.exit",
        "; import time, pilot_agent.containers.store.job as j; j.GRACE_SECONDS = 0.2; "
        "j.Store.fetch = lambda *a, **b: time.sleep(300); sys.exit",
    )
    done = run(*words(tmp_path, server.url("good.sif"), "--deadline", 0.2), code=code)
    assert done.returncode < 0


def test_a_pull_that_hangs_ends_at_the_deadline(runtime: Runtime, tmp_path: Path) -> None:
    done = run(*words(tmp_path, "docker://hanging", "--deadline", 1))
    assert (done.returncode, json.loads(done.stdout)["code"]) == (TEMPORARY, "image.deadline")


def test_progress_goes_to_the_descriptor_that_is_named(server: Server, tmp_path: Path) -> None:
    done = run(*words(tmp_path, server.url("good.sif"), "--progress", 2))
    steps = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"phase": "fetching", "done": len(SIF), "total": len(SIF), "message": ""} in steps


def test_an_image_that_is_there_loads_nothing_heavy(server: Server, tmp_path: Path) -> None:
    run(*words(tmp_path, server.url("good.sif")))
    code = START.replace("sys.exit(main())", "code = main(); print(*sys.modules, file=sys.stderr); sys.exit(code)")
    done = run(*words(tmp_path, server.url("good.sif"), "--lease-pid", os.getpid()), code=code)
    assert json.loads(done.stdout)["shared"] is True
    assert not HEAVY & set(done.stderr.split())
