"""What runtimes say when they fail; the texts marked as seen came from Apptainer 1.4.5, the others from its sources."""

from __future__ import annotations

import pytest

from pilot_agent.containers.messages import diagnose
from pilot_agent.model import FailureKind

NODE, CONFIG = FailureKind.NODE_RESOURCE, FailureKind.CONFIG

SEEN = [
    (
        ("INFO   : A system administrator may need to enable user namespaces, install\n"
        "INFO   :   apptainer-suid, or compile with ./mconfig --with-suid\n"
        "\x1b[91mERROR  : Failed to create user namespace: maximum number of user namespaces exceeded, check "
        "/proc/sys/user/max_user_namespaces\n\x1b[0m"),
        "userns.disabled", NODE, "node",
    ),
    ("ERROR  : Failed to create user namespace: not allowed to create user namespace\n", "userns.disabled", NODE,
     "node"),
    ("\x1b[91mERROR  : Failed to create container process: No space left on device\n\x1b[0m",
     "node.pid_namespaces_used_up", NODE, "pid_namespace"),
    (
        ("ERROR  : Failed to create mount namespace: maximum number of mount namespaces exceeded, check "
        "/proc/sys/user/max_mnt_namespaces\n"),
        "node.namespaces_used_up", NODE, "node",
    ),
    (
        ("FATAL:   While checking container encryption: could not open image /images/missing: failed to retrieve path "
        "for /images/missing: lstat /images/missing: no such file or directory\n"),
        "image.missing", CONFIG, "image",
    ),
    (
        "FATAL:   While checking container encryption: could not open image /etc/passwd: image format not recognized\n",
        "image.format", CONFIG, "image",
    ),
    (
        ("INFO:    gocryptfs not found, will not be able to use gocryptfs\n"
        "FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll instance exited "
        "with error: squashfuse_ll exited: Something went wrong trying to read the squashfs image.\n"),
        "image.damaged", CONFIG, "image",
    ),
    (
        ("FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll instance exited "
        "with error: squashfuse_ll exited: fuse: mount failed: Invalid argument\n"),
        "fuse.missing", NODE, "sif",
    ),
    (
        ("WARNING: passwd file doesn't exist in container, not updating\n"
        "FATAL:   container creation failed: mount hook function failure: mount /var/lib/apptainer/mnt/session/dev->"
        "/dev error: while mounting /var/lib/apptainer/mnt/session/dev: destination /dev doesn't exist in container\n"),
        "image.incomplete", CONFIG, "image",
    ),
    (
        ("WARNING: Skipping mount /var/lib/apptainer/mnt/session/var/tmp [tmp]: /var/tmp doesn't exist in container\n"
        "FATAL:   stat /bin/sh: no such file or directory\n"),
        "image.no_shell", CONFIG, "image",
    ),
    (
        ("FATAL:   container creation failed: mount hook function failure: mount /nonexist->/srv error: while mounting "
        "/nonexist: mount source /nonexist doesn't exist\n"),
        "container.bind_missing", CONFIG, "node",
    ),
    ('Error for command "exec": unknown flag: --badopt\n', "container.option_unknown", CONFIG, "node"),
    (
        ("WARNING: open /proc/sys/fs/binfmt_misc/status: no such file or directory\n"
        "FATAL:   While checking container encryption: could not open image /images/arm.sif: the image's architecture "
        "(arm64) could not run on the host's (amd64)\n"),
        "image.wrong_architecture", CONFIG, "image",
    ),
    ("FATAL:   exec /bin/sh failed: fork/exec /bin/sh: exec format error\n", "image.wrong_architecture", CONFIG,
     "image"),
    (
        ("FATAL:   While checking container encryption: could not open image /images/cut.sif: while checking system "
        "partition header: failed to read SIF partition at offset 4096: EOF\n"),
        "image.damaged", CONFIG, "image",
    ),
    (
        ("FATAL:   While checking container encryption: could not open image /images/x: /images/x is not readable by "
        "the current user, check permissions\n"),
        "image.not_readable", CONFIG, "image",
    ),
    ('FATAL:   "nosuch": executable file not found in $PATH\n', "image.no_program", CONFIG, "image"),
    ("FATAL:   stat /no/such: no such file or directory\n", "image.no_program", CONFIG, "image"),
    ("FATAL:   configuration disallows users from running sandbox containers\n", "apptainer.image_forbidden", NODE,
     "image"),
    ("FATAL:   configuration disallows users from running unencrypted SIF containers\n", "apptainer.image_forbidden",
     NODE, "image"),
    ("FATAL:   failed to resolve path /nowhere: lstat /nowhere: no such file or directory\n",
     "apptainer.configuration", NODE, "node"),
    (
        "FATAL:   Unprivileged installation found, user namepace needed but not allowed by configuration.\n",
        "apptainer.userns_forbidden", NODE, "node",
    ),
    (
        ("INFO:    Cleanup error: while unmounting /var/lib/apptainer/mnt/session/final directory: no such file or "
        "directory, while unmounting /var/lib/apptainer/mnt/session/rootfs directory: no such file or directory\n"
        "FATAL:   container creation failed: not mounting user requested home: user bind control is disallowed\n"),
        "apptainer.binds_forbidden", NODE, "node",
    ),
    (
        ("WARNING: Skipping mount /etc/hosts [binds]: /etc/hosts doesn't exist in container\n"
        "WARNING: No layer in use (overlay or underlay), check your configuration, Apptainer can't create "
        "/pilot/missing destination automatically without overlay or underlay\n"
        "FATAL:   container creation failed: mount hook function failure: mount /var/tmp/s->/pilot/missing error: "
        "while mounting /var/tmp/s: destination /pilot/missing doesn't exist in container\n"),
        "apptainer.no_overlay", NODE, "node",
    ),
    (
        ("FATAL:   container creation failed: mount hook function failure: mount /data->/srv/data error: while "
        "mounting /data: destination /srv/data doesn't exist in container\n"),
        "container.bind_target", CONFIG, "image",
    ),
    (
        ("FATAL:   container creation failed: mount hook function failure: mount /data->/dev/data error: while "
        "mounting /data: destination /dev/data doesn't exist in container\n"),
        "container.bind_target", CONFIG, "image",
    ),
    (
        ("FATAL:   container creation failed: mount hook function failure: mount proc->/proc error: while mounting "
        "proc: can't mount proc filesystem to /proc: operation not permitted\n"),
        "apptainer.pid_namespace", NODE, "pid_namespace",
    ),
    (
        ("FATAL:   container creation failed: while applying cgroups config: cannot use cgroups - cannot use systemd "
        "cgroups manager, systemd not running as init on this host\n"),
        "apptainer.no_cgroups", NODE, "node",
    ),
    (
        ("FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll instance exited "
        "with error: squashfuse_ll exited: fuse: device not found, try 'modprobe fuse' first\n"),
        "fuse.missing", NODE, "sif",
    ),
    ("FATAL:   container creation failed: multiple devpts instances unsupported and /dev/pts configured\n",
     "node.no_devpts", NODE, "node"),
    ("\x1b[31mFATAL:  \x1b[0m Couldn't determine user account information: user: unknown userid 4242\n",
     "account.not_in_passwd", NODE, "node"),
]  # fmt: skip

KNOWN = [
    ("FATAL: can't mount proc filesystem to /proc: operation not permitted", "apptainer.pid_namespace", NODE,
     "pid_namespace"),
    ("ERROR  : Could not write info to setgroups: Permission denied", "userns.apparmor", NODE, "node"),
    ("ERROR  : Failed to create mount namespace: mount namespace requires privileges", "userns.no_mount_namespace",
     NODE, "node"),
    ("FATAL: couldn't determine user account information: user: unknown userid 12345", "account.not_in_passwd", NODE,
     "node"),
    ("FATAL: container creation failed: No layer in use (overlay or underlay)", "apptainer.no_overlay", NODE, "node"),
    ("FATAL: exec /bin/sh failed: exec format error", "image.wrong_architecture", CONFIG, "image"),
    ("ERROR: Error while waiting event for user namespace mappings: no event received", "userns.apparmor", NODE,
     "node"),
    (("ERROR: user namespace requires to set /proc/sys/kernel/unprivileged_userns_clone to 1\n"
     "Failed to create user namespace"), "userns.disabled", NODE, "node"),
    ("ERROR: user namespace not supported by your system", "userns.disabled", NODE, "node"),
    ("ERROR: user namespace disabled", "userns.disabled", NODE, "node"),
    ("ERROR: limit on the nesting depth of user namespaces was exceeded", "userns.nested_too_deep", NODE, "node"),
    ("FATAL: hidepid option set on /proc mount, require 'hidepid=0' to start an instance", "node.proc_hidepid", NODE,
     "node"),
    ("FATAL: image driver squashfuse_ll instance exited with error: fusermount: mount failed: Operation not permitted",
     "fuse.missing", NODE, "sif"),
    ("FATAL: while extracting /x.sif: unsquashfs: executable file not found in $PATH: not found", "squashfs.tools",
     NODE, "sif"),
    ("FATAL: failed to find loop device: could not attach image file", "apptainer.no_loop_device", NODE, "sif"),
    ("WARNING: could not retrieve ld cache: could not execute ldconfig", "gpu.libraries_missing", NODE, "gpu"),
    ("WARNING: Could not find any nv libraries on this host!", "gpu.libraries_missing", NODE, "gpu"),
    ("FATAL: Unprivileged installation found, user namespace needed but not allowed by configuration",
     "apptainer.userns_forbidden", NODE, "node"),
    ("FATAL: configuration disallows users from running squashFS containers", "apptainer.image_forbidden", NODE,
     "image"),
    ("FATAL: kernel too old", "image.needs_newer_kernel", CONFIG, "image"),
    ("FATAL: apptainer image is not in an allowed configured path", "apptainer.image_forbidden", NODE, "image"),
    ("FATAL: read /cvmfs/x: Transport endpoint is not connected", "image.mount_dead", NODE, "image"),
    ("FATAL: while extracting: no space left on device", "disk.full", NODE, "node"),
    ("FATAL: something new", "image.not_runnable", CONFIG, "image"),
    ("", "image.not_runnable", CONFIG, "image"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "kind", "scope"), [*SEEN, *KNOWN])
def test_each_message_has_a_code_somebody_who_acts_and_what_it_spoils(
    text: str, code: str, kind: FailureKind, scope: str
) -> None:
    diagnosis = diagnose(text)
    assert (diagnosis.code, diagnosis.kind, diagnosis.scope) == (code, kind, scope)
    assert diagnosis.message
    assert diagnosis.hint


def test_the_message_is_the_fatal_line_without_level_and_colour() -> None:
    text = "\x1b[31mWARNING: one\x1b[0m\n\x1b[91mFATAL:   it broke\x1b[0m\nINFO: bye\n"
    assert diagnose(text).message == "it broke"


def test_of_a_mistake_in_the_options_the_mistake_is_told_not_the_explanation_of_all() -> None:
    text = 'Error for command "exec": unknown flag: --x\n\nOptions for exec command:\n\nRun apptainer --help\n'
    assert diagnose(text).message == 'Error for command "exec": unknown flag: --x'


def test_a_long_message_is_cut() -> None:
    assert len(diagnose("FATAL: " + "x" * 5000).message) == 300
