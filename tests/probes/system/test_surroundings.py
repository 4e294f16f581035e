from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.probes.node import Node
from pilot_agent.probes.recording import SCHEMA
from pilot_agent.probes.system.surroundings import container_around, container_marks
from tests.probes.trees import write_tree

HEX = "4c01db0b339c0e3a5f41c1bd1ab8a4b5c3e2d1f0a9b8c7d6e5f4a3b2c1d0e9f8"
STORE = f"/var/lib/docker/overlay2/{HEX}"
OVERLAY = f"1 0 0:50 / / rw - overlay overlay rw,lowerdir={STORE}/a,upperdir={STORE}/diff,workdir=/w\n"
POD_HOSTS = "2 1 8:1 /var/lib/kubelet/pods/7f1c/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
PODMAN_HOSTS = f"2 1 0:9 /containers/overlay-containers/{HEX}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n"
CONTAINERD = (
    "1 0 0:5 / / rw - overlay overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/1\n"
)


@pytest.mark.parametrize(
    ("files", "environment", "kind"),
    [
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": ""}, {}, "podman"),
        ({"/run/systemd/container": "lxc\n"}, {}, "lxc"),
        ({"/run/host/container-manager": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({"/.dockerenv": ""}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
        ({"/.singularity.d/env/01-base.sh": ""}, {}, "apptainer"),
        ({}, {"SINGULARITY_CONTAINER": "/x.sif"}, "singularity"),
        ({}, {"CH_RUNNING": "Weird Al Yankovic"}, "charliecloud"),
        ({}, {"SHIFTER_RUNTIME": "1"}, "shifter"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({}, {"container": "podman"}, "podman"),
        (
            {"/proc/self/cgroup": f"0::/kubepods.slice/kubepods-pod7f1c.slice/cri-containerd-{HEX}.scope\n"},
            {},
            "kubernetes",
        ),
        ({"/proc/self/cgroup": f"4:memory:/kubepods/burstable/pod7f1c/{HEX}\n"}, {}, "kubernetes"),
        ({"/proc/self/cgroup": f"4:memory:/docker/{HEX}\n"}, {}, "docker"),
        ({"/proc/self/cgroup": f"0::/system.slice/docker-{HEX}.scope\n"}, {}, "docker"),
        ({"/proc/self/cgroup": f"0::/machine.slice/libpod-{HEX}.scope\n"}, {}, "podman"),
        ({"/proc/self/cgroup": "0::/lxc.payload.worker7/system.slice\n"}, {}, "lxc"),
        ({"/proc/self/cgroup": "0::/machine.slice/systemd-nspawn@el9.service/payload\n"}, {}, "systemd-nspawn"),
        ({"/proc/self/mountinfo": OVERLAY}, {}, "docker"),
        ({"/proc/self/mountinfo": OVERLAY + POD_HOSTS, "/.dockerenv": ""}, {}, "kubernetes"),
        ({"/proc/self/mountinfo": PODMAN_HOSTS}, {}, "podman"),
        ({"/proc/self/mountinfo": CONTAINERD}, {}, "containerd"),
    ],
)
def test_what_surrounds_the_pilot_is_seen(
    tmp_path: Path, files: dict[str, str], environment: dict[str, str], kind: str
) -> None:
    found = container_around(Node(write_tree(tmp_path, files).root), environment)
    assert found is not None
    assert found[0] == kind


@pytest.mark.parametrize(
    "files",
    [
        {"/proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_4242/step_0/user/task_0\n"},
        {"/proc/self/cgroup": "0::/system.slice/docker.service\n"},
        {"/proc/self/cgroup": "0::/user.slice/user-5001.slice/session-3.scope\n"},
        # A machine that runs containers lists their mounts too.
        {"/proc/self/mountinfo": f"9 1 0:50 / {STORE}/merged rw - overlay overlay rw,lowerdir={STORE}/a\n"},
        {"/run/systemd/container": "\n"},
    ],
)
def test_a_machine_that_runs_containers_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    assert container_around(Node(write_tree(tmp_path, files).root), {}) is None


def test_each_kind_is_told_once_with_its_surest_mark(tmp_path: Path) -> None:
    files = {"/.dockerenv": "", "/proc/self/cgroup": f"4:memory:/docker/{HEX}\n", "/proc/self/mountinfo": OVERLAY}
    marks = list(container_marks(Node(write_tree(tmp_path, files).root), {}))
    assert [kind for kind, _ in marks] == ["docker"]
    assert marks[0][1].startswith("/proc/self/cgroup (/docker/4c01db0b")


def test_the_variable_of_the_first_process_is_looked_at_and_nothing_else_of_it_kept(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "answers").mkdir()
    (tmp_path / "recording.json").write_text(json.dumps({"schema": SCHEMA, "origin": "composed"}))
    answer = {"key": ["test", "variable container of process 1"], "answer": {"value": "lxc"}}
    (tmp_path / "answers" / "container.json").write_text(json.dumps(answer))
    assert container_around(Node.of(Context(root=str(tmp_path))), {}) == ("lxc", "/proc/1/environ")


def test_a_recording_holds_no_environment_of_another_process(tmp_path: Path) -> None:
    list(container_marks(Node.of(Context(record=str(tmp_path))), {}))
    assert not os.path.exists(tmp_path / "root" / "proc" / "1")
