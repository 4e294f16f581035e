"""In what `exec` runs a command: as a job with this ad on this node would run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.commands.choose import Place, must_fetch, place_for
from pilot_agent.containers.job_ad import JobAd
from pilot_agent.containers.selection import Wishes
from pilot_agent.model import ContainerDecision, FailureKind, ImageVerdict, PilotError, Runtime

EL9, EL8, REMOTE = "/images/el9", "/images/el8.sif", "docker://registry.example.org/gpu:1"
RUNTIME = Runtime("/usr/bin/apptainer", "1.4.5", "userns", True, True)
VERDICTS = (
    ImageVerdict("el9", EL9, True, True, "a program ran in it"),
    ImageVerdict("el8", EL8, True, False, "not tried"),
    ImageVerdict("gpu", REMOTE, True, False, "image.unproven", source="docker"),
    ImageVerdict("el7", "/images/el7", False, False, "image.missing: no such directory"),
)
PREFERRED = ContainerDecision("PREFERRED", "PREFERRED x OPTIONAL", "why", RUNTIME, "el9", VERDICTS)
REQUIRED = ContainerDecision("REQUIRED", "PREFERRED x REQUIRED", "why", RUNTIME, None, VERDICTS)
NOTHING = ContainerDecision("PREFERRED", "PREFERRED x OPTIONAL", "no runtime")
NEVER = ContainerDecision("NEVER", "NEVER x OPTIONAL", "no job runs in a container")


def job(*, want_container: bool = True, **wishes: str) -> JobAd:
    return JobAd(Wishes(**wishes), want_container)


def refusal(decision: ContainerDecision, wanted: str | None, ad: JobAd | None) -> PilotError:
    with pytest.raises(PilotError) as caught:
        place_for(decision, wanted, ad)
    return caught.value


def test_without_wishes_it_is_the_default_image_as_the_pilot_proved_it() -> None:
    place = place_for(PREFERRED, None, None)
    assert (place.image, place.platform, place.proven) == (EL9, "el9", True)


def test_platforms_are_taken_in_the_jobs_own_order_and_in_any_case() -> None:
    assert place_for(PREFERRED, None, job(required_os="el6, EL8 el9")).image == EL8
    assert place_for(PREFERRED, None, job(required_os="any")).image == EL9


def test_the_jobs_own_image_comes_first_and_is_not_proven() -> None:
    ad = job(required_os="el8", container_image="/cvmfs/a/b", singularity_image="docker://almalinux:9")
    place = place_for(PREFERRED, None, ad)
    assert (place.image, place.proven) == ("docker://almalinux:9", False)
    assert must_fetch(place)
    assert place_for(PREFERRED, None, job(container_image="/cvmfs/a/b")).image == "/cvmfs/a/b"
    assert place_for(PREFERRED, None, job(container_image=EL9)).proven


@pytest.mark.parametrize("image", ["/etc", "/images", "/cvmfs", "/cvmfsx/y", "/images/el9/"])
def test_a_path_of_the_node_that_is_not_on_offer_is_refused_as_the_guard_does(image: str) -> None:
    assert refusal(PREFERRED, None, job(container_image=image)).failure.code == "job.refused"


def test_the_site_may_allow_directories_of_its_own() -> None:
    ad = job(container_image="/shared/images/x.sif")
    assert place_for(PREFERRED, None, ad, ["/shared/images/"]).image == "/shared/images/x.sif"
    assert refusal(PREFERRED, None, job(container_image="/shared/images-other/x")).failure.code == "job.refused"


@pytest.mark.parametrize("image", ["library://a/b", "http://a/b", "osdf:///a", "instance:x", "docker:x"])
def test_what_no_pilot_fetches_is_refused(image: str) -> None:
    assert refusal(PREFERRED, None, job(singularity_image=image)).failure.code == "image.source"


def test_a_transferred_file_is_taken_from_where_the_caller_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(PREFERRED, None, job(container_image="x.sif"))
    assert error.failure.kind is FailureKind.USAGE
    (tmp_path / "x.sif").touch()
    assert place_for(PREFERRED, None, job(container_image="x.sif")).image == str(tmp_path / "x.sif")


def test_a_platform_that_is_not_on_offer_does_not_start_here() -> None:
    for decision in (PREFERRED, REQUIRED, NOTHING, NEVER):
        error = refusal(decision, None, job(required_os="el7"))
        assert (error.failure.kind, error.failure.code) == (FailureKind.CONFIG, "image.not_in_dictionary")


def test_without_a_runtime_a_job_runs_on_the_node_and_one_with_an_image_nowhere() -> None:
    for decision in (NOTHING, NEVER):
        assert place_for(decision, None, None).image is None
        assert place_for(decision, None, job(required_os="el7, any")).image is None
        assert refusal(decision, None, job(container_image=EL9)).failure.code == "container.none"
        assert refusal(decision, "el9", None).failure.code == "container.none"


def test_a_job_that_wants_no_container_gets_none_unless_containers_are_required() -> None:
    ad = job(want_container=False, required_os="el9")
    assert place_for(PREFERRED, None, ad) == Place(None, "the job says WantContainer = false")
    assert place_for(REQUIRED, None, ad).image == EL9


def test_where_containers_are_required_a_job_without_an_image_does_not_start() -> None:
    assert refusal(REQUIRED, None, None).failure.code == "image.not_in_dictionary"


def test_an_image_may_be_a_platform_a_path_or_a_reference(tmp_path: Path) -> None:
    assert place_for(PREFERRED, "EL8", None).platform == "el8"
    assert must_fetch(place_for(PREFERRED, "gpu", None))
    (tmp_path / "current").symlink_to(tmp_path)
    assert place_for(PREFERRED, str(tmp_path / "current"), None).image == str(tmp_path)
    assert place_for(PREFERRED, "docker://x", None).image == "docker://x"


@pytest.mark.parametrize("image", ["--bind=/etc:/x", "-B", "el10", "/missing", "$(id)", "a;b"])
def test_an_image_that_is_not_there_is_told_with_what_is(image: str) -> None:
    error = refusal(PREFERRED, image, None)
    assert error.failure.code == "image.not_in_dictionary"
    assert "el9, el8, gpu" in error.failure.message


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("dear")
    assert refusal(PREFERRED, str(tmp_path / "notes"), None).failure.code == "image.format"


def test_a_platform_without_an_image_here_says_why() -> None:
    assert "image.missing: no such directory" in refusal(PREFERRED, "el7", None).failure.message
    assert "did you mean el9" in refusal(PREFERRED, "el99", None).failure.message
