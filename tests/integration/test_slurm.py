"""Under a real Slurm: what the pilot finds out in a job is what Slurm allocated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.integration.conftest import BUILT
from tests.testbed.pilots import INSTALLED, install_payload
from tests.testbed.runs import run_directory
from tests.testbed.slurm import ADDRESS, CONFIGURATION, HOME, NAME, PARTITION, USER, SlurmCluster

PILOT = f"python3 {INSTALLED}/pilot.pyz"
ONE_OF_TWO = ("--ntasks=1", "--cpus-per-task=1", "--mem=300", "--time=7", "--job-name=pilot-1")
SILENT_CONTROLLER = f"{HOME}/silent.conf"


@pytest.fixture(scope="module")
def slurm(testbed_machine: None) -> Iterator[SlurmCluster]:
    """A running cluster with the payload on its node."""
    with run_directory() as directory, SlurmCluster(directory) as cluster:
        install_payload(cluster.host, BUILT)
        text = cluster.host.path(CONFIGURATION).read_text(encoding="utf-8").replace(ADDRESS, "10.77.0.99")
        cluster.host.path(SILENT_CONTROLLER).write_text(text, encoding="utf-8")
        yield cluster


def facts_of(
    cluster: SlurmCluster, script: str, *options: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The node's facts in the report that a job's script printed."""
    job = cluster.run(script, *options, environment=environment)
    assert job.stdout, job.stderr
    node: dict[str, Any] = json.loads(job.stdout)["node"]
    return node


def sources(fact: Mapping[str, Any]) -> dict[str, float]:
    return {limit["source"]: limit["number"] for limit in fact["limits"]}


@pytest.fixture(scope="module")
def checked(slurm: SlurmCluster) -> dict[str, Any]:
    """The facts of a `check` in a job that has one of two cores and 300 MiB; the job's own words beside them."""
    words = "scontrol --oneliner show job $SLURM_JOB_ID | tr ' ' '\\n' > allocated"
    script = f"cd {HOME}; TZ=UTC {words}\n{PILOT} check --json --set site.containers=never"
    node = facts_of(slurm, script, *ONE_OF_TWO)
    lines = slurm.host.path(f"{HOME}/allocated").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines)
    return node | {"allocated": {name: value for name, _, value in pairs}}


def test_a_job_is_known_by_what_slurm_calls_it(checked: dict[str, Any]) -> None:
    batch, allocated = checked["batch"], checked["allocated"]
    assert batch["system"]["value"] == "slurm"
    assert batch["job_id"]["value"] == allocated["JobId"]
    assert batch["job_name"]["value"] == allocated["JobName"] == "pilot-1"
    assert batch["queue"]["value"] == allocated["Partition"] == PARTITION
    assert batch["user"]["value"] == USER
    assert (batch["nodes"]["value"], batch["node_index"]["value"]) == ([NAME], 0)
    assert batch["restarts"]["value"] == 0


def test_cores_and_memory_are_those_that_slurm_allocated(checked: dict[str, Any]) -> None:
    assert checked["allocated"]["NumCPUs"] == "1"
    cores = sources(checked["cpu"]["usable"])
    assert {cores["SLURM_CPUS_ON_NODE"], cores["SLURM_JOB_CPUS_PER_NODE"], cores["affinity"]} == {1}
    assert checked["cpu"]["usable"]["value"] == checked["batch"]["cores"]["value"] == 1
    assert sources(checked["memory"]["usable_mib"])["SLURM_MEM_PER_NODE"] == 300
    assert checked["memory"]["usable_mib"]["limits"]
    assert checked["batch"]["memory_mib"]["value"] == 300


def test_the_end_is_the_start_with_the_limit_of_the_job(checked: dict[str, Any]) -> None:
    batch = checked["batch"]
    assert batch["walltime_seconds"]["value"] == 7 * 60
    assert batch["end_time"]["value"] == batch["start_time"]["value"] + 7 * 60
    assert batch["end_time"]["source"] == "SLURM_JOB_END_TIME"


def test_an_old_slurm_without_an_end_in_the_environment_is_asked(slurm: SlurmCluster) -> None:
    script = f"end=$SLURM_JOB_END_TIME; unset SLURM_JOB_END_TIME SLURM_JOB_START_TIME\necho $end > {HOME}/end\n"
    batch = facts_of(slurm, script + f"TZ=Pacific/Auckland {PILOT} probe batch --json", *ONE_OF_TWO)["batch"]
    assert batch["end_time"]["source"] == "scontrol EndTime"
    assert batch["end_time"]["value"] == int(slurm.host.path(f"{HOME}/end").read_text(encoding="ascii"))
    assert batch["walltime_seconds"]["value"] == 7 * 60


def test_a_controller_that_does_not_answer_costs_only_what_it_alone_knows(slurm: SlurmCluster) -> None:
    script = f"export SLURM_CONF={SILENT_CONTROLLER}; unset SLURM_JOB_END_TIME; {PILOT} probe batch --json"
    batch = facts_of(slurm, script, *ONE_OF_TWO)["batch"]
    assert batch["system"]["value"] == "slurm"
    assert batch["cores"]["value"] == 1
    assert {batch["end_time"]["status"], batch["draining"]["status"]} == {"unknown"}
    assert "scontrol" in batch["draining"]["detail"]


def test_a_node_that_drains_says_so(slurm: SlurmCluster) -> None:
    before = facts_of(slurm, f"{PILOT} probe batch --json", *ONE_OF_TWO)["batch"]
    assert before["draining"]["value"] is False
    # The job goes on where it is; its node takes no other one.
    drain = f"while ! scontrol show node {NAME} | grep -q DRAIN; do touch {HOME}/runs; sleep 0.1; done"
    slurm.host.path(f"{HOME}/runs").unlink(missing_ok=True)
    watcher = f"while [ ! -e {HOME}/runs ]; do sleep 0.1; done; scontrol update NodeName={NAME} State=drain Reason=x"
    door = slurm.host.popen(["sh", "-c", watcher])
    try:
        after = facts_of(slurm, f"{drain}\n{PILOT} probe batch --json", *ONE_OF_TWO)["batch"]
    finally:
        door.wait()
        slurm.set_node("resume")
    assert after["draining"]["value"] is True


def test_a_step_has_the_smaller_part_of_its_job(slurm: SlurmCluster) -> None:
    step = f"srun --ntasks=1 --cpus-per-task=1 --mem=200 --exact {PILOT} probe batch cpu memory --json"
    node = facts_of(slurm, step, "--ntasks=2", "--cpus-per-task=1", "--mem=400", "--time=5")
    found = sources(node["batch"]["cores"])
    assert (found["SLURM_CPUS_ON_NODE"], found["SLURM_JOB_CPUS_PER_NODE"]) == (1, 2)
    assert node["cpu"]["usable"]["value"] == 1
    # A step's own share of memory is in no variable: without control groups the job's is all that can be known.
    assert node["batch"]["memory_mib"]["value"] == 400


def test_an_element_of_an_array_names_its_array(slurm: SlurmCluster) -> None:
    batch = facts_of(slurm, f"{PILOT} probe batch --json", *ONE_OF_TWO, "--array=3")["batch"]
    assert "task 3 of array" in batch["job_id"]["detail"]


def test_a_submitter_inside_of_another_batch_system_is_not_taken_for_it(slurm: SlurmCluster) -> None:
    other = {"PBS_JOBID": "7.head", "PBS_NODEFILE": "/var/spool/pbs/aux/7.head", "PBS_NUM_PPN": "64"}
    other |= {"_CONDOR_MACHINE_AD": "/gone/.machine.ad", "LSB_JOBID": "9", "LSB_MCPU_HOSTS": "other 12"}
    node = facts_of(slurm, f"{PILOT} probe batch cpu --json", *ONE_OF_TWO, environment=other)
    assert node["batch"]["system"]["value"] == "slurm"
    assert "inside" not in node["batch"]["system"]["detail"]
    assert "PBS_NODEFILE /var/spool/pbs/aux/7.head is not on this node" in node["batch"]["system"]["detail"]
    assert not {"PBS_NUM_PPN", "LSB_MCPU_HOSTS"} & set(sources(node["cpu"]["usable"]))


def test_variables_of_a_job_that_were_carried_to_another_machine_are_not_believed(slurm: SlurmCluster) -> None:
    """The first job's environment, as a login shell or another batch system could pass it on."""
    carried = {"SLURM_JOB_ID": "1", "SLURMD_NODENAME": "other7", "SLURM_JOB_NODELIST": "other[7-8]"}
    carried |= {"SLURM_CPUS_ON_NODE": "64"}
    words = ["python3", f"{INSTALLED}/pilot.pyz", "probe", "batch", "--json"]
    ran = slurm.host.run(words, user=USER, env=carried)
    system = json.loads(ran.stdout)["node"]["batch"]["system"]
    assert system["value"] == "none"
    assert "SLURMD_NODENAME is other7, and this node is slurm1" in system["detail"]


def test_a_recording_that_a_job_made_gives_the_same_facts_elsewhere(slurm: SlurmCluster) -> None:
    """Without the times in the environment, so that the controller's answers are in it too."""
    script = f"unset SLURM_JOB_END_TIME SLURM_JOB_START_TIME; {PILOT} probe batch --record {HOME}/recording --json"
    there = facts_of(slurm, script, *ONE_OF_TWO)["batch"]
    words = ["python3", f"{INSTALLED}/pilot.pyz", "probe", "batch", "--root", f"{HOME}/recording", "--json"]
    here = json.loads(slurm.host.run(words, user=USER).stdout)["node"]["batch"]
    assert there["end_time"]["source"] == "scontrol EndTime"
    assert here == there
