from __future__ import annotations

import pytest

from pilot_agent.probes.answers import FileStatus
from pilot_agent.probes.kernel import fuse_trial
from pilot_agent.probes.kernel.fuse_helpers import Helper
from pilot_agent.probes.kernel.fuse_refusals import (
    FuseSetting,
    explain_device,
    explain_helper,
    explain_inside,
    open_to_all,
)
from pilot_agent.probes.kernel.fuse_trial import FUSE_MOUNT, HELPER, POINT, READ, FuseTrial
from pilot_agent.probes.kernel.namespace_trial import USER
from pilot_agent.probes.kernel.refusals import MAXIMUM, Setting

ABLE = Helper("/usr/bin/fusermount3", 0o4755, 0, setuid=True)
CLOSED = FileStatus("device", 0o600, 0, 0, 0, "10:229")
REFUSED = FuseTrial({POINT: "", HELPER: "EPERM"}, said="fusermount3: mount failed: Operation not permitted")


@pytest.mark.parametrize(
    ("error", "around", "code", "change"),
    [
        ("ENOENT", FuseSetting(), "device.missing", "--device /dev/fuse"),
        ("ENOENT", FuseSetting(filesystems={"ext4"}), "device.module", "modprobe fuse"),
        ("ENODEV", FuseSetting(), "device.module", "/etc/modules-load.d/fuse.conf"),
        ("EACCES", FuseSetting(device=CLOSED), "device.mode", "chmod 0666 /dev/fuse"),
        ("EACCES", FuseSetting(device=CLOSED), "device.mode", "cannot be opened by an ordinary account"),
        ("EACCES", FuseSetting(device=CLOSED), "device.mode", "mode 0600, owner 0:0"),
        ("EACCES", FuseSetting(nodev=True), "device.nodev", "--device /dev/fuse"),
        ("EPERM", FuseSetting(), "device.cgroup", "c 10:229"),
        ("EIO", FuseSetting(), "device.refused", "EIO"),
    ],
)
def test_a_device_that_does_not_open_says_who_must_change_what(
    error: str, around: FuseSetting, code: str, change: str
) -> None:
    refusal = explain_device(error, around)
    assert refusal.code == code
    assert change in refusal.text


@pytest.mark.parametrize(
    ("helper", "trial", "around", "code", "change"),
    [
        (None, FuseTrial(), FuseSetting(), "helper.missing", "dnf install fuse3"),
        (Helper("/x", 0o755, 0), REFUSED, FuseSetting(), "helper.setuid", "chmod u+s /x"),
        (
            Helper("/usr/x", 0o4755, 0, setuid=True, nosuid=True, mount_point="/usr"),
            REFUSED,
            FuseSetting(),
            "helper.nosuid",
            "mount -o remount,suid /usr",
        ),
        (
            Helper("/x", 0o4755, 0, setuid=True, unmapped=True),
            REFUSED,
            FuseSetting(),
            "helper.user_namespace",
            "without one",
        ),
        (ABLE, REFUSED, FuseSetting(Setting(no_new_privileges=True)), "helper.no_new_privs", "NoNewPrivileges=no"),
        (ABLE, FuseTrial({POINT: "", HELPER: "EACCES"}), FuseSetting(), "helper.mode", "usermod -aG fuse"),
        (ABLE, FuseTrial({POINT: "EROFS"}), FuseSetting(), "workspace", "EROFS"),
        (ABLE, FuseTrial({POINT: "", HELPER: "", READ: "ETIMEDOUT"}), FuseSetting(), "read", "ETIMEDOUT"),
        (
            ABLE,
            FuseTrial({HELPER: "EPERM"}, said="fusermount3: mount failed: Permission denied"),
            FuseSetting(helper_profile=True, workspace="/scratch/w"),
            "apparmor.fusermount3",
            "-> /scratch/w/**/,",
        ),
        (
            ABLE,
            FuseTrial({HELPER: "EPERM"}, said="fusermount3: mounting over filesystem type 0x1 is forbidden"),
            FuseSetting(),
            "helper.filesystem",
            "local disk",
        ),
        (
            ABLE,
            FuseTrial({HELPER: "EPERM"}, said="too many FUSE filesystems mounted; mount_max=N can be set"),
            FuseSetting(),
            "helper.limit",
            "/etc/fuse.conf",
        ),
        (
            ABLE,
            FuseTrial({HELPER: "EPERM"}, said="fusermount3: failed to open /dev/fuse: Permission denied"),
            FuseSetting(device=CLOSED),
            "device.mode",
            "chmod 0666",
        ),
        (ABLE, REFUSED, FuseSetting(Setting(initial=False)), "helper.user_namespace", "container"),
        (ABLE, REFUSED, FuseSetting(Setting(seccomp=2)), "seccomp", "allow mount"),
        (ABLE, REFUSED, FuseSetting(), "helper.refused", "Operation not permitted"),
        (ABLE, FuseTrial({HELPER: "ETIMEDOUT"}), FuseSetting(), "helper.refused", "ETIMEDOUT"),
    ],
)
def test_a_helper_that_does_not_mount_says_who_must_change_what(
    helper: Helper | None, trial: FuseTrial, around: FuseSetting, code: str, change: str
) -> None:
    refusal = explain_helper(helper, trial, around)
    assert refusal is not None
    assert refusal.code == code
    assert change in refusal.text


@pytest.mark.parametrize(
    ("trial", "around", "code"),
    [
        (FuseTrial({fuse_trial.OPEN: "EACCES"}), FuseSetting(), "device.mode"),
        (FuseTrial({USER: "ENOSPC"}), FuseSetting(Setting({MAXIMUM: 0})), "userns.sysctl.max_user_namespaces"),
        (FuseTrial({USER: "EPERM"}, filtered=("unshare",)), FuseSetting(), "userns.seccomp"),
        (FuseTrial({"mount namespace": "ENOSPC"}), FuseSetting(), "sysctl.max_mnt_namespaces"),
        (FuseTrial({FUSE_MOUNT: "EPERM"}), FuseSetting(Setting(kernel="3.10.0-957.el7.x86_64")), "kernel"),
        (FuseTrial({FUSE_MOUNT: "EPERM"}), FuseSetting(Setting(kernel="5.14.0")), "unknown"),
        (FuseTrial({FUSE_MOUNT: "ENODEV"}), FuseSetting(), "device.module"),
        (FuseTrial({FUSE_MOUNT: "", READ: "EIO"}), FuseSetting(), "read"),
    ],
)
def test_a_user_namespace_without_fuse_says_why(trial: FuseTrial, around: FuseSetting, code: str) -> None:
    refusal = explain_inside(trial, around)
    assert refusal is not None
    assert refusal.code == code


def test_what_works_is_not_explained() -> None:
    assert explain_inside(FuseTrial({READ: ""}), FuseSetting()) is None
    assert explain_helper(ABLE, FuseTrial({READ: ""}), FuseSetting()) is None


def test_a_device_is_open_to_all_by_its_mode() -> None:
    assert not open_to_all(CLOSED)
    assert open_to_all(FileStatus("device", 0o666, 0, 0, 0))
