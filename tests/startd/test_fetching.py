"""The guard has only those images fetched or tried that the pilot has not proven, and picks as everybody else does."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_agent.containers.selection import Offer, Wishes, choose
from pilot_agent.startd.classad import literal
from pilot_agent.startd.guard import guard_text
from tests.startd.plans import CONTAINER
from tests.startd.test_guard import AD, asked, shell

IMAGES = {"el9": "/images/el9", "El.8": "docker://example.org/el8:1", "far-away": "https://example.org/it's.sif"}
REMOTE = replace(
    CONTAINER, images=IMAGES, default_platform="far-away", fetcher=("/bin/echo", "an argument"), fetched=("oras",)
)
PLAIN = AD.replace('ContainerImage = "my.sif"\n', "")
__all__ = ["shell"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "guard"
    path.write_text(guard_text(REMOTE))
    return path


def fetched(shell: str, program: Path, ad: str) -> list[str] | None:
    """Attribute, image and platform with which the fetcher was started, None when it was not."""
    code, output = asked(shell, program, ad)
    assert code == 0, output
    if not output:
        return None
    words = output.removeprefix("an argument ").split()
    assert words[0].isdigit()
    return words[1:]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ["SingularityImage", IMAGES["far-away"], "far-away"]),
        ('REQUIRED_OS = ""', ["SingularityImage", IMAGES["far-away"], "far-away"]),
        ('REQUIRED_OS = "nosuch, EL.8,el9"', ["SingularityImage", IMAGES["El.8"], "El.8"]),
        ('REQUIRED_OS = "elx8"', None),
        ('REQUIRED_OS = "el9,el.8"', None),
        ('REQUIRED_OS = "nosuch,Any,el9"', ["SingularityImage", IMAGES["far-away"], "far-away"]),
        ('REQUIRED_OS = "nosuch"', None),
        ('REQUIRED_OS = "*"', None),
        ('SingularityImage = "oras://example.org/own"', ["SingularityImage", "oras://example.org/own"]),
        ('ContainerImage = "oras://example.org/own"', ["ContainerImage", "oras://example.org/own"]),
        ('SingularityImage = "library://example.org/own"', None),
        ('SingularityImage = "/images/el9"', None),
        ('ContainerImage = "/images/el9"', None),
        ('SingularityImage = "/cvmfs/images.example.org/el9"', ["SingularityImage", "/cvmfs/images.example.org/el9"]),
        ('ContainerImage = "/cvmfs/own.sif"', ["ContainerImage", "/cvmfs/own.sif"]),
        ('ContainerImage = "my.sif"', None),
        ("WantContainer = false", ["SingularityImage", IMAGES["far-away"], "far-away"]),
    ],
)
def test_only_an_image_from_elsewhere_or_not_of_the_dictionary_takes_another_program(
    shell: str, program: Path, line: str, expected: list[str] | None
) -> None:
    assert fetched(shell, program, f"{PLAIN}{line}\n") == expected


def test_a_job_that_wants_no_container_waits_for_none_where_it_may_run_without(shell: str, program: Path) -> None:
    program.write_text(guard_text(replace(REMOTE, required=False)))
    assert fetched(shell, program, f"{PLAIN}WantContainer = False\n") is None
    assert fetched(shell, program, f"{PLAIN}WantContainer = true\n") == [
        "SingularityImage",
        IMAGES["far-away"],
        "far-away",
    ]


def test_a_refused_job_fetches_nothing(shell: str, program: Path) -> None:
    code, output = asked(shell, program, f'{PLAIN}SingularityImage = "oras://example.org/own"\nPreCmd = "x"\n')
    assert code != 0
    assert "PreCmd" in output


def test_without_remote_images_only_a_path_that_the_job_names_takes_another_program(shell: str, program: Path) -> None:
    program.write_text(guard_text(replace(CONTAINER, fetcher=("/bin/echo", "an argument"), fetched=())))
    assert fetched(shell, program, PLAIN) is None
    assert fetched(shell, program, f'{PLAIN}REQUIRED_OS = "el8"\n') is None
    assert fetched(shell, program, f'{PLAIN}SingularityImage = "/cvmfs/own"\n') == ["SingularityImage", "/cvmfs/own"]
    assert "fetch" not in guard_text(replace(REMOTE, fetcher=()))


def test_an_image_of_a_mount_of_the_pilots_own_gets_its_place_into_the_jobs_ad(shell: str, program: Path) -> None:
    own = "/cvmfs/images.example.org/own"
    images = {"el9": "/cvmfs/images.example.org/el9", "el8": "/images/el8"}
    container = replace(CONTAINER, images=images, fetcher=("/bin/echo", "an argument"), fetched=(), cvmfs="/w/c")
    program.write_text(guard_text(container))
    answer = '{0} = "/w/c/images.example.org/el9"\nHookStatusCode = 0\n'
    for line, attribute in (
        ("", "SingularityImage"),
        (f'SingularityImage = "{images["el9"]}"', "SingularityImage"),
        (f'ContainerImage = "{images["el9"]}"', "ContainerImage"),
    ):
        assert asked(shell, program, f"{PLAIN}{line}\n") == (0, answer.format(attribute))
    assert asked(shell, program, f'{PLAIN}REQUIRED_OS = "el8"\n') == (0, "")
    assert fetched(shell, program, f'{PLAIN}ContainerImage = "{own}"\n') == ["ContainerImage", own]


WORD = st.sampled_from(
    [*IMAGES, "EL9", "elx8", "any", "DEFAULT", "*", "?l9", "$(exit 7)", "`exit 7`", "-n", "[e]l9", ""]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORD, max_size=4), separator=st.sampled_from([",", " ", ", "]))
def test_the_guard_picks_what_the_pilot_would_pick(program: Path, words: list[str], separator: str) -> None:
    wanted = separator.join(words)
    ad = f"{PLAIN}REQUIRED_OS = {literal(wanted)}\n"
    done = subprocess.run(["sh", program], input=ad, capture_output=True, text=True, check=True)
    image = choose(Wishes(required_os=wanted), Offer(IMAGES, "far-away")).image
    platform = next((name for name, path in IMAGES.items() if path == image), "")
    assert done.stdout.split(" ", 4)[4:] == ([f"{image} {platform}\n"] if image and not image.startswith("/") else [])
