"""What the submit descriptions of every entry type say, and that no value can say more than it should."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.files import write_atomically
from server_stub.factory.description import description, makes_logs
from server_stub.factory.descriptions import user_data
from server_stub.factory.descriptions.arc import resources
from server_stub.frontend.bindings import classad2
from tests.server_stub.factory.descriptions.entries import CREDENTIALS, ENTRIES, entry, parcel


def lines_of(name: str, **changes: Any) -> dict[str, str]:
    lines = description(parcel(name, **changes)).splitlines()
    assert lines[-1] == "queue 1"
    return dict(line.split(" = ", 1) for line in lines[:-1])


@pytest.mark.parametrize("name", ENTRIES)
def test_the_bindings_read_every_description_as_it_was_written(name: str) -> None:
    classad2()  # loads the bindings, without a trace in the environment
    import htcondor2

    read = htcondor2.Submit(description(parcel(name, credentials=CREDENTIALS)))
    told = {key.lower().replace("+", "my.", 1): value for key, value in read.items()}
    written = {key.lower().replace("+", "my."): value for key, value in lines_of(name, credentials=CREDENTIALS).items()}
    assert told == written
    assert read.getQArgs() == "1"


@pytest.mark.parametrize("name", ENTRIES)
def test_whose_a_job_is_stands_in_its_ad(name: str) -> None:
    lines = lines_of(name)
    assert lines["My.PilotFactory"] == '"example"'
    assert lines["My.PilotEntry"] == f'"{name}"'
    assert lines["My.PilotId"] == '"a1"'
    assert lines["universe"] == ("vanilla" if name.startswith("local") else "grid")
    assert lines["getenv"] == "False"


def test_the_launcher_is_told_where_a_python_may_be() -> None:
    arguments = lines_of("local-full")["arguments"]
    assert "--python /cvmfs/soft.example.org/*/bin/python3.? --image /cvmfs/images.example.org/el9 -- run" in arguments


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("slurm", "batch slurm"),
        ("slurm-ssh", "batch slurm --rgahp-glite ~/bosco/glite pilot@login.example.org:2222"),
        ("ce", "condor ce.example.org ce.example.org:9619"),
        ("ce-full", "condor schedd@ce.example.org ce.example.org:9620"),
        ("arc", "arc https://arc.example.org/arex"),
        ("gce", "gce https://www.googleapis.com/compute/v1 project-1 zone-1"),
        ("azure", "azure 4e2f-1a"),
    ],
)
def test_the_resource_names_the_site(name: str, resource: str) -> None:
    assert lines_of(name)["grid_resource"] == resource


def test_a_batch_system_is_asked_in_the_blahps_own_words() -> None:
    lines = lines_of("slurm-full")
    asked = {
        "request_cpus": "8",
        "request_memory": "16000M",
        "batch_queue": "long",
        "batch_runtime": "86400",
        "batch_project": "p1",
        "batch_extra_submit_args": "--qos=high -x node[1-3]",
        "+GPUNumber": "2",
    }
    assert {name: lines[name] for name in asked} == asked
    assert "request_gpus" not in lines
    node = lines_of("slurm-node")
    assert (node["+WholeNodes"], "request_cpus" in node, "request_memory" in node) == ("True", False, False)


def test_a_computing_element_is_asked_in_its_job_routers_words() -> None:
    lines = lines_of("ce-full")
    asked = {"+xcount": "8", "+maxMemory": "16000", "+maxWallTime": "1440", "+remote_queue": '"long"'}
    assert {name: lines[name] for name in asked} == asked
    assert lines["+remote_Requirements"] == '(TARGET.Arch == "X86_64") && (MY.NumJobStarts ?: 0) == 0'


def test_arc_is_asked_in_elements_of_its_job_description() -> None:
    assert resources(entry("arc-full")) == (
        "<QueueName>long</QueueName><IndividualPhysicalMemory>2097152000</IndividualPhysicalMemory>"
        "<IndividualWallTime>86400</IndividualWallTime><TotalWallTime>86400</TotalWallTime>"
    )
    assert lines_of("arc-full")["arc_rte"] == "ENV/PROXY, APPS/HEP/CVMFS"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("local", "https://factory.example.org/payload/pilot.sh"),
        ("ce", "https://factory.example.org/payload/pilot.sh"),
        ("ce-full", "/state/pilots/a1/payload/pilot.sh"),
        ("slurm", "/state/pilots/a1/payload/pilot.sh"),
        ("slurm-ssh", "/state/pilots/a1/payload/pilot.sh"),
        ("arc", "/state/pilots/a1/payload/pilot.sh"),
    ],
)
def test_the_payload_comes_by_the_way_that_the_site_knows(name: str, source: str) -> None:
    assert lines_of(name)["transfer_input_files"].split(", ")[-1] == source


@pytest.mark.parametrize("name", [name for name in ENTRIES if not name.startswith(("ec2", "gce", "azure"))])
def test_files_go_along_and_come_home(name: str) -> None:
    lines = lines_of(name)
    inputs, outputs = (lines[f"transfer_{way}put_files"].split(", ") for way in ("in", "out"))
    assert {"factory.json", "entry.json", "pilot.token", "upload.token", "report.json", "events.jsonl"} <= set(inputs)
    assert {"report.json", "events.jsonl"} <= set(outputs)
    # What is missing holds the job where files make a journey: a directory that may not come to be must go along.
    assert ("logs" in outputs) <= ("logs" in inputs or makes_logs(entry(name)))


def test_what_lets_the_factory_in_is_named_where_the_site_asks_for_it() -> None:
    assert "scitokens_file" not in lines_of("ce")
    lines = lines_of("ce", credentials=CREDENTIALS)
    assert (lines["use_scitokens"], lines["scitokens_file"]) == ("True", "/c/site.token")
    assert (lines["use_x509userproxy"], lines["x509userproxy"]) == ("True", "/c/proxy.pem")
    ssh = lines_of("pbs-ssh", credentials=CREDENTIALS)
    assert ssh["grid_resource"].startswith("batch pbs --rgahp-key /c/key --rgahp-nopass --rgahp-glite")
    assert "x509userproxy" not in ssh


def test_curated_lines_come_last() -> None:
    lines = description(parcel("local-full")).splitlines()
    assert lines[-3:] == ["rank = Mips", '+Group = "pilots"', "queue 1"]


def test_a_value_of_more_than_one_line_is_never_written() -> None:
    with pytest.raises(ValueError, match=r"My\.PilotId of the entry local is more than one line"):
        description(parcel("local", pilot='a"\nexecutable = /bin/sh'))


@pytest.fixture
def machine(tmp_path: Path) -> str:
    """A pilot's directory with all that goes along."""
    for name in ("factory.json", "entry.json", "pilot.token", "upload.token"):
        write_atomically(str(tmp_path / name), f"{name}: secret\n".encode())
    (tmp_path / "launcher.sh").write_text("#!/bin/sh\necho launched\n")
    return str(tmp_path)


def test_a_clouds_machine_is_told_to_fetch_check_and_run(machine: str) -> None:
    script = user_data.user_data(parcel("ec2", machine))
    subprocess.run(["sh", "-n"], input=script.encode(), check=True)
    packed = next(line.split()[1] for line in script.splitlines() if line.startswith("echo "))
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as archive:
        modes = {member.name: member.mode for member in archive}
    assert modes == {
        **dict.fromkeys(("factory.json", "entry.json", "pilot.token", "upload.token"), 0o600),
        "launcher.sh": 0o700,
    }
    assert f"--sha256 {'0' * 64}" in script
    assert "https://factory.example.org/payload/pilot.sh" in script
    assert "$(" not in script


def test_user_data_of_gce_is_one_line_of_the_same_script(machine: str) -> None:
    files = user_data.files(parcel("gce", machine))
    (line,) = files["metadata"].splitlines()
    words = line.removeprefix("startup-script=").split()
    assert base64.b64decode(words[1]).decode() == files["user-data"]
    assert "," not in line


def test_user_data_that_no_cloud_takes_is_refused(machine: str) -> None:
    Path(machine, "entry.json").write_bytes(os.urandom(20_000))
    with pytest.raises(ValueError, match="a cloud takes 16384"):
        user_data.user_data(parcel("ec2", machine))
