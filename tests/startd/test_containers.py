"""The image expression, as HTCondor will evaluate it, in the order that users expect."""

from __future__ import annotations

from dataclasses import replace

from pilot_agent.startd.container_ad import container_attributes
from pilot_agent.startd.containers import container_knobs, image_expression, runtime_environment
from tests.startd.plans import CONFINEMENT, CONTAINER


def test_a_jobs_own_image_comes_before_its_platform_and_that_before_the_default() -> None:
    text = image_expression(CONTAINER)
    words = ("SingularityImage", "ContainerImage", "*+el9", "*+el8", "*+any", "*+default")
    places = [text.index(word) for word in words]
    assert places == sorted(places)
    assert text.endswith('"/images/el9")))')


def test_an_unknown_platform_has_no_image() -> None:
    assert '"/images/el9", undefined)' in image_expression(CONTAINER)


def test_a_platforms_name_is_no_pattern() -> None:
    text = image_expression(replace(CONTAINER, images={"el.9+x": "/images/el9"}))
    assert "(?:el[.]9[+]x|any|default)" in text
    assert "\\" not in text


def test_without_a_default_image_the_job_must_name_one() -> None:
    text = image_expression(replace(CONTAINER, default_platform=None))
    assert text.endswith("undefined)))")


def test_required_containers_leave_no_way_out() -> None:
    found = container_knobs(CONTAINER)
    assert found["SINGULARITY_JOB"] == "True"
    failing = 'stringListMember($(PILOT_IMAGE), MY.PilotFailingImages, " ") =!= True'
    assert found["PILOT_CONTAINER_START"] == f"isString($(PILOT_IMAGE)) && ({failing})"


def test_preferred_containers_can_be_declined() -> None:
    found = container_knobs(replace(CONTAINER, required=False))
    assert found["SINGULARITY_JOB"] == "(TARGET.WantContainer =!= False) && isString($(PILOT_IMAGE))"
    assert "TARGET.REQUIRED_OS is undefined" in found["PILOT_CONTAINER_START"]


def test_the_runtime_writes_into_the_workspace() -> None:
    assert runtime_environment(CONTAINER, "/w") == {
        "APPTAINER_CONFIGDIR": "/w/tmp/runtime",
        "APPTAINERENV_APPTAINER_CONFIGDIR": "/srv/.apptainer",
    }
    assert runtime_environment(None, "/w") == {}


def test_isolation_is_strong_only_where_no_job_reaches_the_token() -> None:
    confined = replace(CONTAINER, confinement=CONFINEMENT)
    assert container_attributes(confined)["PilotJobIsolation"] == "strong"
    assert container_attributes(confined)["PilotStarterIsolation"] == "job"
    seen = container_attributes(replace(confined, confinement=replace(CONFINEMENT, processes=False)))
    assert (seen["PilotJobIsolation"], seen["PilotStarterIsolation"]) == ("strong", "secrets")
    assert container_attributes(replace(confined, pid_namespace=False))["PilotJobIsolation"] == "weak"
    assert container_attributes(replace(confined, required=False))["PilotJobIsolation"] == "weak"
    assert container_attributes(CONTAINER)["PilotJobIsolation"] == "weak"
    assert container_attributes(CONTAINER)["PilotStarterIsolation"] == "none"
    assert container_attributes(None)["PilotJobIsolation"] == "none"


def test_a_runtime_that_the_pilot_did_not_prove_is_left_to_htcondor() -> None:
    found = container_knobs(replace(CONTAINER, proven=False))
    assert found["SINGULARITY"] == "$(LIBEXEC)/pilot_runtime"
    assert "HasSingularity" not in container_attributes(replace(CONTAINER, proven=False))


def test_no_image_can_be_an_option() -> None:
    found = container_knobs(replace(CONTAINER, extra_arguments=("--no-eval", "--nv")))
    assert found["SINGULARITY_EXTRA_ARGUMENTS"] == '"--no-eval --nv --"'


def test_every_job_is_looked_at_before_its_files_come_and_before_they_go() -> None:
    found = container_knobs(CONTAINER)
    assert found["STARTER_JOB_HOOK_KEYWORD"] == "PILOT"
    assert found["PILOT_HOOK_PREPARE_JOB_BEFORE_TRANSFER"] == "$(LIBEXEC)/pilot_guard"
    assert found["PILOT_HOOK_JOB_EXIT"] == "$(LIBEXEC)/pilot_links"


def test_the_starter_is_replaced_only_where_the_node_allows_it() -> None:
    assert "STARTER" not in container_knobs(CONTAINER)
    assert container_knobs(replace(CONTAINER, confinement=CONFINEMENT))["STARTER"] == "$(LIBEXEC)/pilot_starter"
    assert container_knobs(replace(CONTAINER, confinement=CONFINEMENT))["STARTER.PROCD_ADDRESS"] == "$(TMP_DIR)/procd"
    shared = container_knobs(replace(CONTAINER, confinement=replace(CONFINEMENT, processes=False)))
    assert not {"STARTER.PROCD_ADDRESS", "STARTD.NEVER_USE_KILL_FOR_DC_SIGNALS"} & set(shared)
