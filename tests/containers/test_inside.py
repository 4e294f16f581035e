"""Programs of plugins inside an image get the command line, binds and environment of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilot_agent.containers.command import Bind
from pilot_agent.containers.inside import Interior, JobContainer, image_facts, never_ran
from pilot_agent.model import (
    BindVerdict,
    ContainerDecision,
    Fact,
    ImageVerdict,
    JobSurroundings,
    OptionVerdict,
    PilotError,
    Runtime,
    VariableVerdict,
)
from pilot_agent.process import Result

RUNTIME = Runtime("/usr/bin/apptainer", "1.4.5", "userns", True, True)
FACTS = {"os.glibc": "2.34"}


def decision(path: str = "/images/el9", *, proven: bool = True, runtime: Runtime | None = RUNTIME) -> ContainerDecision:
    verdicts = (
        ImageVerdict("el9", path, taken=True, proven=proven, reason="", facts=FACTS),
        ImageVerdict("el8", "/images/el8", taken=True, proven=True, reason="", facts={"os.glibc": "2.28"}),
    )
    return ContainerDecision("REQUIRED", "a x b", "they agree", runtime, "el9", verdicts)


def interior(tmp_path: Path, made: ContainerDecision | None, platform: str | None = None, **jobs: Any) -> Interior:
    return Interior.of(made, platform, JobContainer(**jobs), {"PATH": "/bin", "APPTAINER_BIND": "/x"}, str(tmp_path))


def test_a_program_gets_what_jobs_get(tmp_path: Path) -> None:
    inside = interior(
        tmp_path,
        decision(),
        binds=(Bind("/etc", "/e", read_only=True), Bind("/no/such", "/x")),
        options=("--uts", "--nv"),
        gpu_options=("--nv",),
        environment={"A": "b"},
    )
    argv, environment = inside.command(("/bin/true", "a b"), str(tmp_path), variables={"OWN": "$(x)"})
    assert argv[-4:] == ["--", "/images/el9", "/bin/true", "a b"]
    assert "-C" in argv
    assert {"--uts", "--no-eval", "/etc:/e:ro"} <= set(argv)
    assert argv.count("--nv") == 1
    assert not any("/no/such" in word for word in argv)
    assert environment["APPTAINERENV_A"] == "b"
    assert environment["APPTAINERENV_OWN"] == "$(x)"
    assert environment["APPTAINERENV__CONDOR_SCRATCH_DIR"] == "/srv"
    assert "APPTAINER_BIND" not in environment


def test_a_script_is_bound_read_only_at_its_place_which_exists(tmp_path: Path) -> None:
    script = tmp_path / "s.sh"
    argv, _ = interior(tmp_path, decision()).command(("x",), str(tmp_path / "own"), script=str(script))
    assert f"{script}:/srv/.pilot/plugin/s.sh:ro" in argv
    assert (tmp_path / "own" / ".pilot" / "plugin" / "s.sh").is_file()


def test_another_platform_can_be_named(tmp_path: Path) -> None:
    assert interior(tmp_path, decision(), "el8").image == "/images/el8"


@pytest.mark.parametrize(
    ("made", "platform", "code"),
    [
        (None, None, "container.none"),
        (decision(runtime=None), None, "container.none"),
        (ContainerDecision("NEVER", "x", "nobody wants any"), None, "container.none"),
        (decision(), "el7", "image.not_in_dictionary"),
        (decision("docker://example/el9"), None, "image.unproven"),
    ],
)
def test_without_an_image_of_jobs_there_is_no_inside(
    made: ContainerDecision | None, platform: str | None, code: str, tmp_path: Path
) -> None:
    with pytest.raises(PilotError) as caught:
        interior(tmp_path, made, platform)
    assert caught.value.failure.code == code
    assert caught.value.failure.hint


def test_facts_are_those_of_the_image_that_jobs_get() -> None:
    assert image_facts(decision(), None) == {"os.glibc": Fact("os.glibc", "2.34", source="inside /images/el9")}
    assert image_facts(decision(), "el8")["os.glibc"].value == "2.28"
    with pytest.raises(PilotError, match="not proven"):
        image_facts(decision(proven=False), None)


def test_jobs_get_what_is_given_and_nothing_else() -> None:
    surroundings = JobSurroundings(
        binds=(BindVerdict("/a", "/b", True, "x", given=True), BindVerdict("/c", "/c", False, "x", given=False)),
        options=(
            OptionVerdict("--nv", "the pilot", given=True, with_gpus=True),
            OptionVerdict("--uts", "x", given=True),
            OptionVerdict("--writable", "x", given=False),
        ),
        environment=(VariableVerdict("A", "1", "x", given=False), VariableVerdict("A", "2", "y", given=True)),
    )
    made = JobContainer.of(surroundings)
    assert made == JobContainer((Bind("/a", "/b", read_only=True),), ("--uts",), {"A": "2"}, ("--nv",))


def test_only_what_has_gpus_gets_the_drivers_libraries(tmp_path: Path) -> None:
    jobs = JobContainer(gpu_options=("--nv",))
    without = Interior.in_image("/i", RUNTIME, jobs, {}, str(tmp_path))
    assert "--nv" not in without.options
    assert "--nv" in Interior.in_image("/i", RUNTIME, jobs, {}, str(tmp_path), gpus=True).options


def test_the_runtimes_own_failure_is_not_taken_for_the_programs() -> None:
    fatal = b"FATAL:   while extracting image: image format not recognized"
    failed = never_ran(Result(("apptainer",), 255, stderr=fatal))
    assert failed is not None
    assert failed.code == "image.format"
    assert never_ran(Result(("apptainer",), 255, stderr=b"my own words")) is None
    assert never_ran(Result(("apptainer",), 1, stderr=fatal)) is None
