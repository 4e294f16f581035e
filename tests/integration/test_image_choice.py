"""The expression with which HTCondor picks a job's image decides as the pilot's own code does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from pilot_agent.containers.selection import Offer, Wishes, choose
from pilot_agent.startd.classad import literal
from pilot_agent.startd.containers import image_expression
from tests.startd.plans import CONTAINER
from tests.testbed.grid import Grid

IMAGES = {"el9": "/images/el9", "el8": "docker://example.org/el8:1", "el.7+x_-": "/images/strange el7.sif"}
WORDS = (*IMAGES, "EL9", "el", "el99", "9", "any", "Default", "elx7+x_-", "nosuch", "", "el9)|(.*", "(((", "$(EL9)")


def _wishes() -> list[Wishes]:
    """Written ones, then drawn ones, the same in each run."""
    written = ["el8,el9", "nosuch, EL9 , el8", "any", "nosuch", " el8", ",,el8", "el9el8", "el8;el9", "", " ", "\tel9"]
    draw = random.Random(4)
    drawn = [draw.choice([",", ", ", " "]).join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(40)]
    platforms = [Wishes(required_os=text) for text in (*written, *drawn)]
    own = [Wishes(container_image="/x", singularity_image="/y"), Wishes(singularity_image="/y", required_os="el8")]
    return [Wishes(), *own, *platforms, Wishes(required_os=" " * 5000 + "el8"), Wishes(required_os="," * 20000)]


def _ask_htcondor(grid: Grid, wishes: Wishes, expression: str) -> str:
    job = {
        "ContainerImage": wishes.container_image,
        "SingularityImage": wishes.singularity_image,
        "REQUIRED_OS": wishes.required_os,
    }
    ad = literal({name: value for name, value in job.items() if value is not None})
    my, target = grid.pool.path("/tmp/choice.my"), grid.pool.path("/tmp/choice.target")
    my.write_text(f"PilotImage = {expression}\n")
    target.write_text(f"{ad}\n")
    command = ["classad_eval", "-my-file", "/tmp/choice.my", "-target-file", "/tmp/choice.target", "MY.PilotImage"]
    return grid.pool.run(command).stdout.splitlines()[-1]


@pytest.mark.parametrize("default", ["el8", None])
def test_htcondor_takes_the_image_that_the_pilot_would_take(grid: Grid, default: str | None) -> None:
    container = replace(CONTAINER, images=IMAGES, default_platform=default)
    expression = image_expression(container)
    for wishes in _wishes():
        taken = choose(wishes, Offer(IMAGES, default)).image
        assert _ask_htcondor(grid, wishes, expression) == literal(taken), wishes
