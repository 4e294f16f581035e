"""The configuration says everything, reads nothing else, and refuses what it cannot carry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pilot_agent.config_slots import parse_resource_slots
from pilot_agent.model import FailureKind, PilotError
from pilot_agent.startd.configuration import gpu_inventory, render
from pilot_agent.startd.plan import GpuDevice, HoldPolicy, JobCgroups, NetworkPlan
from pilot_agent.startd.slots import SlotWish
from pilot_agent.startd.telling import told
from pilot_agent.startd.verify import expected
from tests.startd.plans import CONTAINER, fragment, knobs, plan


def test_resources_are_all_explicit_and_no_gpu_is_zero() -> None:
    found = knobs(render(plan()))
    assert found["NUM_CPUS"] == "4"
    assert found["MEMORY"] == "8000"
    assert found["DISK"] == str(20000 * 1024)
    assert found["SLOT_TYPE_1"] == "cpus=4, memory=8000, disk=100%, gpus=0"
    assert found["MACHINE_RESOURCE_GPUs"] == "0"
    assert found["STARTD_DETECT_GPUS"] == ""


def test_nothing_of_the_node_is_read() -> None:
    found = knobs(render(plan()))
    assert found["LOCAL_CONFIG_FILE"] == found["LOCAL_CONFIG_DIR"] == found["USER_CONFIG_FILE"] == ""
    assert found["REQUIRE_LOCAL_CONFIG_FILE"] == "False"


def test_only_tokens_authenticate_and_everything_is_protected() -> None:
    found = knobs(render(plan()))
    for level in ("DEFAULT", "CLIENT", "READ"):
        assert found[f"SEC_{level}_AUTHENTICATION_METHODS"] == "IDTOKENS"
        for feature in ("AUTHENTICATION", "ENCRYPTION", "INTEGRITY"):
            assert found[f"SEC_{level}_{feature}"] == "REQUIRED"


def test_everything_that_is_checked_before_the_start_is_in_the_text() -> None:
    found = knobs(render(plan()))
    assert {name: found[name] for name in expected(plan())} == expected(plan())


def test_the_pilots_own_start_condition_comes_after_every_fragment() -> None:
    lines = render(plan(fragments=(fragment("START = True"),))).splitlines()
    assert lines[-1] == "START = ($(START)) && ($(PILOT_START))"
    assert lines[-2] == "START = True"


CGROUPS = JobCgroups(used=True, group="/sys/fs/cgroup/site/job", controllers=("cpu", "memory"))


def test_htcondor_makes_no_control_group_that_was_not_tried() -> None:
    found = knobs(render(plan(job_cgroups=JobCgroups(reason="not delegated"))))
    assert (found["BASE_CGROUP"], found["CREATE_CGROUP_WITHOUT_ROOT"]) == ("", "False")
    assert told(plan(job_cgroups=JobCgroups(reason="no"))).get("job_cgroups") == {"used": False, "reason": "no"}


@pytest.mark.parametrize(("hold", "limit", "no_swap"), [(True, "hard", "True"), (False, "none", "False")])
def test_a_jobs_group_limits_its_memory_where_jobs_are_held_for_it(hold: bool, limit: str, no_swap: str) -> None:
    divided = plan(job_cgroups=CGROUPS, hold=HoldPolicy(memory=hold))
    found = knobs(render(divided))
    assert (found["BASE_CGROUP"], found["CREATE_CGROUP_WITHOUT_ROOT"]) == ("jobs", "True")
    assert (found["CGROUP_MEMORY_LIMIT_POLICY"], found["DISABLE_SWAP_FOR_JOB"]) == (limit, no_swap)
    assert told(divided)["job_cgroups"] == {
        "used": True,
        "reason": "",
        "group": "/sys/fs/cgroup/site/job",
        "controllers": ["cpu", "memory"],
        "memory_limit": limit,
    }


def test_gpus_are_told_and_not_looked_for() -> None:
    one = plan(gpus=(GpuDevice("GPU-1a2b", {"DeviceName": "X", "Capability": 9.0, "Missing": None}),))
    found = knobs(render(one))
    assert found["MACHINE_RESOURCE_INVENTORY_GPUs"] == "/bin/cat /scratch/pilot-x/private/condor/gpus.ad"
    assert "MACHINE_RESOURCE_GPUs" not in found
    assert gpu_inventory(one).splitlines() == [
        'DetectedGPUs="GPU-1a2b"',
        'GPU_1a2b=[ id = "GPU-1a2b"; DeviceName = "X"; Capability = 9.0 ]',
    ]


def test_times_close_start_and_end_the_daemons() -> None:
    found = knobs(render(plan(vacate_seconds=10)))
    assert "((time() < MY.GLIDEIN_ToRetire) =!= False)" in found["PILOT_START"]
    assert "(time() > MY.GLIDEIN_ToDie + 10)" in found["STARTD.DAEMON_SHUTDOWN_FAST"]


def test_moments_that_the_keeper_may_change_are_no_constants() -> None:
    found = knobs(render(plan(attributes={"glidein_todie": 9, "GLIDEIN_Expire": 10, "A": 1})))
    assert not {"glidein_todie", "GLIDEIN_Expire"} & set(found)
    assert "A" in found["STARTD_ATTRS"].split(", ")
    assert "todie" not in found["STARTD_ATTRS"].lower()


def test_the_first_attribute_in_which_a_job_tells_its_length_counts() -> None:
    found = knobs(render(plan(job_length={"MaxWallTimeMins": "minutes", "MaxRuntime": "Seconds"})))
    second = "ifThenElse((TARGET.MaxRuntime >= 0) =?= True, TARGET.MaxRuntime * 1, undefined)"
    length = f"ifThenElse((TARGET.MaxWallTimeMins >= 0) =?= True, TARGET.MaxWallTimeMins * 60, {second})"
    assert f"((time() + {length} > MY.GLIDEIN_ToDie) =!= True)" in found["PILOT_START"]


def test_a_short_patience_makes_htcondor_look_often() -> None:
    assert knobs(render(plan(idle_shutdown_seconds=20)))["UPDATE_INTERVAL"] == "5"
    assert 270 <= int(knobs(render(plan()))["UPDATE_INTERVAL"]) < 330


def test_a_site_path_with_a_dollar_opens_no_macro() -> None:
    found = knobs(render(plan(workspace="/scratch/$(ENV)x")))
    assert found["LOCAL_DIR"] == "/scratch/$(DOLLAR)(ENV)x/condor"


def test_a_jobs_own_binds_do_not_count() -> None:
    assert knobs(render(plan()))["SINGULARITY_BIND_EXPR"] == '""'


def test_without_containers_no_job_gets_one() -> None:
    found = knobs(render(plan(container=None)))
    assert found["SINGULARITY"] == ""
    assert found["SINGULARITY_JOB"] == "False"
    assert found["HAS_SINGULARITY"] == "false"
    assert found["LIBEXEC"] == "/usr/libexec/condor"


def test_the_names_of_collectors_pass_through() -> None:
    found = knobs(render(plan(collectors=("a.example:9618?sock=c", "[2001:db8::1]:9618"))))
    assert found["COLLECTOR_HOST"] == "a.example:9618?sock=c, [2001:db8::1]:9618"
    assert found["CONDOR_HOST"] == "a.example"


def test_without_ccb_no_broker_is_named() -> None:
    assert knobs(render(plan(network=NetworkPlan(no_dns=False, domain="d", ccb=False))))["CCB_ADDRESS"] == ""


def test_brokers_of_their_own_take_the_place_of_the_collectors() -> None:
    assert knobs(render(plan(ccb_brokers=("b:9618", "c:9618"))))["CCB_ADDRESS"] == "b:9618, c:9618"
    assert knobs(render(plan()))["CCB_ADDRESS"] == "$(COLLECTOR_HOST)"


def test_one_port_for_all_daemons_is_any_that_is_free() -> None:
    found = knobs(render(plan(shared_port=True)))
    assert found["DAEMON_LIST"] == "MASTER, SHARED_PORT, STARTD"
    assert (found["USE_SHARED_PORT"], found["SHARED_PORT_PORT"]) == ("true", "0")
    assert {name: found[name] for name in expected(plan(shared_port=True))} == expected(plan(shared_port=True))
    assert knobs(render(plan()))["DAEMON_LIST"] == "MASTER, STARTD"


def test_every_type_of_slot_has_starters_that_know_the_runtime() -> None:
    wish = SlotWish(resources=parse_resource_slots("ioslot,2;license"))
    found = knobs(render(plan(wish=wish)))
    assert [f"slot_type_{number}.SINGULARITY" in found for number in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"workspace": "/scratch/a\nDAEMON_LIST = X"},
        {"collectors": ("a b",)},
        {"collectors": ("",)},
        {"channel_command": ("/usr/bin/cat", "/a b")},
        {"attributes": {"NUM_CPUS": 3}},
        {"attributes": {"SEC_DEFAULT_AUTHENTICATION": "NEVER"}},
        {"attributes": {"Cpus": 3}},
        {"attributes": {"a b": 3}},
        {"attributes": {"A": "x\ny"}},
        {"job_environment": {"A": "x\ny"}},
        {"attributes": {"SERVICE_A_READY": True}, "sent_attributes": {"Service_a_Ready": "a"}},
    ],
)
def test_values_that_would_become_something_else_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PilotError) as caught:
        render(plan(**changes))
    assert caught.value.failure.kind is FailureKind.CONFIG
    assert caught.value.failure.code == "startd.value"


def test_what_jobs_get_of_services_comes_last_and_from_a_file_that_is_read_anew() -> None:
    found = knobs(render(plan(job_environment={"A": "1"}, container=None, service_environment={"A": "2"})))
    assert found["STARTER_JOB_ENVIRONMENT"] == "\"A='1' $(PILOT_SERVICE_ENVIRONMENT)\""
    assert found["LOCAL_CONFIG_FILE"] == "$(ETC)/services"


@pytest.mark.parametrize("bad", ["relative", "/a b", "/a,/b"])
def test_binds_that_would_become_others_are_refused(bad: str) -> None:
    from dataclasses import replace

    with pytest.raises(PilotError, match="bind"):
        render(plan(container=replace(CONTAINER, binds=(bad,))))


def test_jobs_say_what_they_need_by_the_names_that_are_configured() -> None:
    start = knobs(render(plan(services_attribute="NeedsServices", cvmfs_attribute="NeedsCvmfs")))["PILOT_START"]
    assert 'stringListISubsetMatch(TARGET.NeedsServices, MY.PilotReadyServices, ", ") =?= True' in start
    assert 'stringListsIntersect(TARGET.NeedsCvmfs, MY.PilotCvmfsDown, ", ") =?= False' in start


def test_an_image_in_a_lost_repository_is_looked_for_only_where_jobs_get_images() -> None:
    lost = 'split($(PILOT_IMAGE), "/")[0] =?= "cvmfs"'
    assert lost in knobs(render(plan()))["PILOT_START"]
    assert lost not in knobs(render(plan(container=None)))["PILOT_START"]


def test_where_the_pilot_mounted_cvmfs_images_get_their_place_and_jobs_outside_of_containers_none() -> None:
    elsewhere = replace(CONTAINER, cvmfs="/w/cvmfs/dist/cvmfs", required=False)
    here, there = knobs(render(plan())), knobs(render(plan(container=elsewhere)))
    assert here["SINGULARITY_IMAGE_EXPR"] == "$(PILOT_IMAGE)"
    place = 'strcat("/w/cvmfs/dist/cvmfs", substr($(PILOT_IMAGE), 6))'
    assert there["SINGULARITY_IMAGE_EXPR"] == f'ifThenElse(regexp("^/cvmfs/", $(PILOT_IMAGE)), {place}, $(PILOT_IMAGE))'
    contained = "isUndefined(TARGET.WantCvmfs) || (((TARGET.WantContainer =!= False)"
    assert contained not in here["PILOT_START"]
    assert contained in there["PILOT_START"]


def test_a_name_that_names_no_attribute_of_a_job_is_refused() -> None:
    with pytest.raises(PilotError) as caught:
        render(plan(services_attribute="a b"))
    assert caught.value.failure.kind is FailureKind.CONFIG


@pytest.mark.parametrize("name", ["PilotReadyServices", "pilotcvmfsdown", "PilotNotAccepting"])
def test_what_the_keeper_sends_cannot_be_a_constant(name: str) -> None:
    with pytest.raises(PilotError, match="HTCondor itself gives it a value"):
        render(plan(attributes={name: "x"}))


def test_an_expression_of_a_setup_is_in_the_ad_as_it_is_and_opens_no_macro() -> None:
    found = knobs(render(plan(attributes={"fits": 3}, setup_expressions={"Fits": 'MY.x > 1 ? "$(MEMORY)" : "no"'})))
    assert found["Fits"] == 'MY.x > 1 ? "$(DOLLAR)(MEMORY)" : "no"'
    assert "Fits" in found["STARTD_ATTRS"].split(", ")
    assert "fits" not in found


@pytest.mark.parametrize("name", ["START", "NUM_CPUS", "SEC_DEFAULT_ENCRYPTION", "PilotNotAccepting"])
def test_an_expression_of_a_setup_is_no_knob(name: str) -> None:
    with pytest.raises(PilotError, match="cannot be advertised"):
        render(plan(setup_expressions={name: "1 + 1"}))
