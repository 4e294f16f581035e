"""`exec` and `images` from the command line, with a runtime that runs programs on this machine.

What a real Apptainer does is tested in the testbed.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.environment import clean_environment
from pilot_agent.interpreter import interpreter_command
from pilot_agent.process import Result, run
from tests.containers.runtimes import NO_USER_NAMESPACE, calls, make_runtime

Json = Any


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return make_runtime(tmp_path / "bin")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def pilot(tmp_path: Path, *arguments: str, runtime: Path, images: Json = None, **keys: Json) -> Result:
    """Run the real command; `keys` are parts of the configuration."""
    document = {
        "images": images or {},
        "site": {"scratch": [str(tmp_path / "scratch")]},
        "containers": {"runtime": str(runtime), "search": []},
        **keys,
    }
    (tmp_path / "site.json").write_text(json.dumps(document))
    name, *words = arguments
    parts = [name, "--config", str(tmp_path / "site.json"), *words]
    if name == "images" and words[:1] == ["inspect"]:
        parts = [name, words[0], "--config", str(tmp_path / "site.json"), *words[1:]]
    environment = clean_environment({}, home=str(tmp_path), temporary=str(tmp_path)) | {"COLUMNS": "80"}
    command = [*interpreter_command(), *parts]
    return run(command, deadline_seconds=120, environment=environment, directory=str(tmp_path))


def said(result: Result) -> str:
    return result.stderr.decode()


def image(tmp_path: Path, name: str) -> str:
    (tmp_path / name).mkdir(exist_ok=True)
    return str(tmp_path / name)


def last_call(runtime: Path) -> list[str]:
    return calls(runtime)[-1].split()


def test_a_command_runs_as_a_job_would_with_the_default_image(tmp_path: Path, runtime: Path, scratch: Path) -> None:
    default = image(tmp_path, "el9")
    words = ["exec", "--", "/bin/sh", "-c", "echo out; exit 7"]
    result = pilot(tmp_path, *words, runtime=runtime, images={"el9": [default]})
    assert (result.code, result.text) == (7, "out"), said(result)
    assert f"pilot-agent: {default}: the job names no platform, and the default is el9" in said(result)
    assert os.listdir(scratch) == []


def test_the_runtime_gets_what_it_gets_for_a_job(tmp_path: Path, runtime: Path, scratch: Path) -> None:
    default = image(tmp_path, "el9")
    bound = image(tmp_path, "data")
    containers = {"runtime": str(runtime), "search": [], "binds": [f"{bound}:/data:ro"]}
    result = pilot(
        tmp_path, "exec", "--quiet", "--", "/bin/sh", "-c", "echo $APPTAINERENV_A; pwd",
        runtime=runtime, images={"el9": [default]}, containers=containers,
        startd={"job_environment": {"A": "x"}},
    )  # fmt: skip
    value, directory = result.text.splitlines()
    assert value == "x"
    assert directory.startswith(str(scratch))
    log = (runtime.parent / "apptainer.log").read_text()
    own = next(line for line in log.splitlines() if line.startswith("-s exec"))
    for part in ("--pwd /srv", f"-W {directory}", f"-B {directory}:/srv", f"-B {bound}:/data:ro", "--no-eval"):
        assert part in own
    # The program saw no PID namespace of its own, so none is asked for.
    assert "--contain --ipc --cleanenv" in own
    assert own.endswith(f"-- {default} /bin/sh -c echo $APPTAINERENV_A; pwd")
    assert "the default is" not in said(result)


def test_the_jobs_ad_decides_and_its_hostile_values_arrive_as_they_are(
    tmp_path: Path, runtime: Path, scratch: Path
) -> None:
    images = {"el9": [image(tmp_path, "el9")], "el8": [image(tmp_path, "el8")]}
    ad = tmp_path / "job.ad"
    ad.write_text(
        'REQUIRED_OS = "el6 --bind=/etc:/x ; $(touch evil) el8 el9"\n'
        "Environment = \"A='$(touch evil)' B='`id`;\\\"x\\\"' C=--bind\"\n"
        'Args = "$(touch evil)"\nCmd = "--bind"\n'
    )
    shown = 'printf "%s\\n" "$APPTAINERENV_A" "$APPTAINERENV_B" "$APPTAINERENV_C"'
    result = pilot(tmp_path, "exec", "--as-job", str(ad), "--", "/bin/sh", "-c", shown, runtime=runtime, images=images)
    assert result.text.splitlines() == ["$(touch evil)", '`id`;"x"', "--bind"], said(result)
    assert "the first platform of REQUIRED_OS on offer is el8" in said(result)
    assert not (tmp_path / "evil").exists()
    log = (runtime.parent / "apptainer.log").read_text()
    assert "--bind" not in log.replace("printf", "")
    assert "evil" not in log


def test_inputs_lie_in_the_scratch_directory(tmp_path: Path, runtime: Path, scratch: Path) -> None:
    (tmp_path / "a file").write_text("content\n")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "leaf").write_text("leaf\n")
    words = ["--input", "a file", "--input", "tree", "--", "/bin/sh", "-c", "cat 'a file' tree/leaf"]
    result = pilot(tmp_path, "exec", *words, runtime=runtime, images={"el9": [image(tmp_path, "el9")]})
    assert result.text == "content\nleaf"
    result = pilot(tmp_path, "exec", "--input", "missing", "--", "true", runtime=runtime)
    assert result.code == 2
    assert "--input" in said(result)


def test_an_image_in_which_nothing_runs_is_told_before_the_command_runs(
    tmp_path: Path, runtime: Path, scratch: Path
) -> None:
    broken = image(tmp_path, "broken")
    result = pilot(tmp_path, "exec", "--image", broken, "--", "/bin/echo", "ran", runtime=runtime)
    assert result.code == 66, said(result)
    assert result.text == ""
    assert broken in said(result)
    assert os.listdir(scratch) == []


def test_a_runtime_that_works_nowhere_is_the_nodes_fault_where_containers_are_required(
    tmp_path: Path, scratch: Path
) -> None:
    runtime = make_runtime(tmp_path / "bin", NO_USER_NAMESPACE)
    keys: Json = {"images": {"el9": [image(tmp_path, "el9")]}}
    required = {"containers": "required", "scratch": [str(scratch)]}
    for command, told in ((["exec", "--", "/bin/echo", "ran"], ""), (["images"], "No job can run here.")):
        result = pilot(tmp_path, *command, runtime=runtime, site=required, **keys)
        assert result.code == 64, said(result)
        assert result.text.splitlines()[-1:] == ([told] if told else [])
        assert "namespace" in said(result)
    result = pilot(tmp_path, "exec", "--", "/bin/echo", "ran", runtime=runtime, **keys)
    assert (result.code, result.text) == (0, "ran")
    assert "pilot-agent: no container: PREFERRED (PREFERRED x OPTIONAL)" in said(result)


def test_without_a_container_a_job_sees_nothing_of_the_callers_environment(
    tmp_path: Path, runtime: Path, scratch: Path
) -> None:
    site = {"containers": "never", "scratch": [str(scratch)]}
    result = pilot(tmp_path, "exec", "--", "/bin/sh", "-c", "env; pwd", runtime=runtime, site=site)
    lines = result.text.splitlines()
    assert lines[-1].startswith(f"{scratch}/pilot-")
    assert f"_CONDOR_SCRATCH_DIR={lines[-1]}" in lines
    assert not [line for line in lines if line.startswith(("COLUMNS=", "LC_ALL=", "APPTAINER"))]
    assert calls(runtime) == []


def test_a_program_that_is_not_there_is_told(tmp_path: Path, runtime: Path, scratch: Path) -> None:
    site = {"containers": "never", "scratch": [str(scratch)]}
    result = pilot(tmp_path, "exec", "--", "no-such-program", runtime=runtime, site=site)
    assert result.code == 127
    assert "no-such-program could not be started" in said(result)


@pytest.mark.parametrize(
    ("text", "code"), [('REQUIRED_OS = strcat("a")\n', 2), ("nonsense\n", 2), ("RequestGPUs = 999\n", 64)]
)
def test_an_ad_that_cannot_be_followed_runs_nothing(
    tmp_path: Path, runtime: Path, scratch: Path, text: str, code: int
) -> None:
    (tmp_path / "job.ad").write_text(text)
    images = {"el9": [image(tmp_path, "el9")]}
    result = pilot(tmp_path, "exec", "--as-job", "job.ad", "--", "/bin/echo", "ran", runtime=runtime, images=images)
    assert (result.code, result.text) == (code, ""), said(result)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"A = 1\n" * 1000000])
def test_a_file_that_is_no_ad_is_a_wrong_command_line(
    tmp_path: Path, runtime: Path, scratch: Path, content: bytes
) -> None:
    (tmp_path / "job.ad").write_bytes(content)
    for name in ("job.ad", "missing", "."):
        assert pilot(tmp_path, "exec", "--as-job", name, "--", "true", runtime=runtime).code == 2


def test_images_are_listed_with_the_choice_and_every_reason(tmp_path: Path, runtime: Path, scratch: Path) -> None:
    good, broken = image(tmp_path, "el9"), image(tmp_path, "broken")
    images = {"el9": [str(tmp_path / "missing"), broken, good], "gpu": ["docker://registry.invalid/gpu:1"]}
    result = pilot(tmp_path, "images", runtime=runtime, images=images)
    assert result.code == 0, said(result)
    assert "image.missing" in result.text
    assert "image.unproven" in result.text
    assert f"taken{runtime}1.4.5" in "".join(result.text.split())
    assert "Jobs that name no platform get el9" in result.text
    assert max(map(len, result.text.splitlines())) <= 80
    answer = json.loads(pilot(tmp_path, "images", "--json", runtime=runtime, images=images).stdout)
    assert [(one["candidate"], one["taken"]) for one in answer["images"]] == [
        (str(tmp_path / "missing"), False),
        (broken, False),
        (good, True),
        ("docker://registry.invalid/gpu:1", True),
    ]
    assert (answer["decision"], answer["default"], answer["failure"]) == ("PREFERRED", "el9", None)


def test_a_decision_that_fails_is_told_as_the_pilot_tells_it(tmp_path: Path, runtime: Path, scratch: Path) -> None:
    wishes = {"site": {"containers": "required", "scratch": [str(scratch)]}, "vo": {"containers": "never"}}
    result = pilot(tmp_path, "images", "--json", runtime=runtime, **wishes)
    assert result.code == 66
    assert json.loads(result.stdout)["failure"]["code"] == "container.conflict"
    assert "container.conflict: the VO says NEVER, the site REQUIRED" in said(result)


def test_an_image_is_inspected_without_any_runtime(tmp_path: Path, scratch: Path) -> None:
    root = tmp_path / "el9"
    (root / "etc").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "etc/os-release").write_text('ID=almalinux\nVERSION_ID="9.4"\nPRETTY_NAME="\x1b[31mAlma"\n')
    (root / ".singularity.d").mkdir()
    (root / ".singularity.d/labels.json").write_text('{"Maintainer": "me\\u001b[2J"}')
    shutil.copy("/bin/sh", root / "bin/sh")
    nothing = tmp_path / "missing"
    result = pilot(tmp_path, "images", "inspect", "el9", runtime=nothing, images={"el9": ["/missing", str(root)]})
    assert result.code == 0, said(result)
    assert "Maintainer = me?[2J" in result.text
    assert "\x1b" not in result.text
    answer = json.loads(pilot(tmp_path, "images", "inspect", str(root), "--json", runtime=nothing).stdout)
    assert (answer["form"], answer["source"], answer["system"]["version"]) == ("directory", "directory", "9.4")


@pytest.mark.parametrize(
    ("name", "code"), [("missing", 66), ("./missing", 66), ("docker://x", 2), ("site.json", 66), ("el9", 66)]
)
def test_what_cannot_be_inspected_is_told(tmp_path: Path, runtime: Path, scratch: Path, name: str, code: int) -> None:
    result = pilot(tmp_path, "images", "inspect", name, runtime=runtime, images={"el9": ["/missing"]})
    assert result.code == code, said(result)
    assert "Traceback" not in said(result)
