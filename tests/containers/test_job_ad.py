"""A job's ad: what is taken from it, and that nothing else of it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.containers.job_ad import JobAd, parse_environment, parse_job_ad
from pilot_agent.model import FailureKind, PilotError
from pilot_agent.startd.classad import LiteralError, environment_string, string

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).map(lambda name: f"x{name}")


def refusal(text: str) -> PilotError:
    with pytest.raises(PilotError) as caught:
        parse_job_ad(text)
    return caught.value


def test_what_condor_q_prints_is_read_and_the_rest_is_left_alone() -> None:
    ad = parse_job_ad(
        "\n-- Schedd: ap.example.org : <10.0.0.1:9618>\n"
        'ClusterId = 12\nProcId = 0\nRequirements = (TARGET.Arch == "X86_64") && regexp("a=b", Machine)\n'
        'required_os = "el9, any"\n'
        'ContainerImage = "docker://almalinux:9"\n'
        "WantContainer = TRUE\nRequestGPUs = 2\n"
        "Environment = \"A=1 B='two words' C=\"\n"
    )
    assert ad.wishes.required_os == "el9, any"
    assert ad.wishes.container_image == "docker://almalinux:9"
    assert ad.wishes.singularity_image is None
    assert ad.gpus == 2
    assert ad.environment == {"A": "1", "B": "two words", "C": ""}


@pytest.mark.parametrize("text", ["", "\n", "ClusterId = 1\n", "REQUIRED_OS = undefined\nRequestGPUs = UNDEFINED\n"])
def test_an_ad_that_says_nothing_is_a_job_without_wishes(text: str) -> None:
    assert parse_job_ad(text) == JobAd()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REQUIRED_OS", 'strcat("el", "9")'),
        ("REQUIRED_OS", '"el9" + "x"'),
        ("REQUIRED_OS", '"el9\\"'),
        ("REQUIRED_OS", "9"),
        ("ContainerImage", "MY.Image"),
        ("SingularityImage", 'ifThenElse(true, "a", "b")'),
        ("Environment", 'strcat("A=", "b")'),
        ("WantContainer", "1 > 0"),
        ("RequestGPUs", "TARGET.GPUs"),
        ("RequestGPUs", "-1"),
        ("RequestGPUs", "1.5"),
    ],
)
def test_an_expression_is_refused_by_name_with_the_command_that_evaluates_it(name: str, value: str) -> None:
    error = refusal(f"{name} = {value}\n")
    assert error.failure.kind is FailureKind.USAGE
    assert error.failure.code == "job_ad.expression"
    assert name in error.failure.message
    assert f"condor_q -af {name}" in error.failure.hint


def test_an_expression_elsewhere_does_not_matter() -> None:
    assert parse_job_ad('Rank = strcat("a")\nOwner = foo(\nLeaveJobInQueue = a =?= b\n') == JobAd()


@pytest.mark.parametrize(
    "image",
    [
        "--bind /etc:/x",
        "-B",
        "a b",
        "x;id",
        "$(id)",
        "`id`",
        "x'y",
        "../x.sif",
        "/cvmfs/../etc",
        "a\tb",
        "",
        "x\\y",
        "~root/x",
    ],
)
@pytest.mark.parametrize("name", ["ContainerImage", "SingularityImage"])
def test_an_image_that_could_be_read_as_something_else_is_refused(name: str, image: str) -> None:
    error = refusal(f'{name} = "{image}"\n')
    assert (error.failure.kind, error.failure.code) == (FailureKind.CONFIG, "job.refused")


@pytest.mark.parametrize(
    "variable",
    ["APPTAINER_BIND", "SINGULARITY_BIND", "LD_PRELOAD", "SHELLOPTS", "BASHOPTS", "BASH_ENV", "GCONV_PATH", "LOCPATH"],
)
def test_a_variable_for_which_the_pool_holds_jobs_is_refused(variable: str) -> None:
    error = refusal(f'Environment = "A=1 {variable}=x"\n')
    assert error.failure.code == "job.refused"
    assert variable in error.failure.message


@pytest.mark.parametrize("text", ["A", "=x", "A=1 B", "A='open", "'=x'"])
def test_variables_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(PilotError) as caught:
        parse_environment(text)
    assert caught.value.failure.code == "job_ad.syntax"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("what is this\n", "line 1"),
        ('ProcId = 0\nREQUIRED_OS = "a"\n\nProcId = 1\n', "line 4 gives ProcId a second time"),
        ('[ REQUIRED_OS = "a" ]\n', "line 1"),
        ('Env = "A=1;B=2"\n', "Env"),
    ],
)
def test_a_text_that_is_no_ad_of_one_job_is_refused_with_its_place(text: str, part: str) -> None:
    error = refusal(text)
    assert error.failure.code == "job_ad.syntax"
    assert part in error.failure.message


def test_what_a_stranger_wrote_cannot_act_on_the_terminal() -> None:
    assert "\x1b" not in str(refusal('SingularityImage = "\x1b[2J"\n'))
    assert "\x1b" not in str(refusal("\x1b]0;x\x07\n"))


@given(st.dictionaries(NAMES, st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", codec="utf-8"))))
def test_variables_come_back_as_the_pilot_itself_writes_them(variables: dict[str, str]) -> None:
    try:
        text = environment_string(variables).replace("$(DOLLAR)", "$")
    except LiteralError:
        return
    # The outer quotes and the doubled inner ones belong to the configuration's form.
    assert parse_environment(text[1:-1].replace('""', '"')) == variables


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", codec="utf-8")))
def test_a_string_comes_back_as_the_pilot_itself_writes_it(text: str) -> None:
    written = string(text)
    if written.startswith("substr("):
        assert refusal(f"REQUIRED_OS = {written}").failure.code == "job_ad.expression"
    else:
        assert parse_job_ad(f"REQUIRED_OS = {written}").wishes.required_os == text


@given(st.text())
def test_any_text_is_an_ad_or_refused_with_a_sentence(text: str) -> None:
    message = ""
    try:
        parse_job_ad(text)
    except PilotError as error:
        message = error.failure.message
    assert message.isprintable() or not message
