"""Reports as the output formats meet them: one written by hand in which everything occurs, and reports of nodes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pilot_agent import __version__
from pilot_agent.startd.history import no_jobs
from tests.probes.trees import NODES

REPOSITORY = Path(__file__).resolve().parents[2]
Report = dict[str, Any]


def fact(value: object, unit: str | None = None, source: str = "", **more: object) -> Report:
    """A known fact as the report holds it; ``limits`` as pairs of source and number."""
    entry = {"value": value, "unit": unit, "status": "known", "source": source, "detail": "", "where": "node"}
    limits = more.pop("limits", ())
    assert isinstance(limits, tuple)
    if limits:
        entry["limits"] = [{"source": name, "number": number} for name, number in limits]
    return entry | more


def missing(status: str, detail: str, source: str = "") -> Report:
    """A fact that is unknown or absent."""
    return fact(None, source=source, status=status, detail=detail)


def check(name: str, status: str = "pass", message: str = "", hint: str = "", **more: str) -> Report:
    """A check as the report holds it."""
    entry = {"name": name, "status": status, "message": message, "hint": hint, "where": "host"}
    return entry | {"kind": "node_resource", "code": "", "vo": "", "metrics": {}} | more


def failure(code: str, message: str, hint: str = "", **more: object) -> Report:
    """A failure as the report holds it."""
    entry = {"kind": "node_resource", "code": code, "message": message, "hint": hint, "stage": "validate"}
    return entry | {"plugin": "", "retry": False, "signal": None} | more


def span(stage: str, what: str, start: float, seconds: float, status: str = "ok", **more: str) -> Report:
    """An entry of the timeline; a ``what`` of stage is the whole stage."""
    plugin = "agent" if what == "stage" else "builtin.probes"
    entry = {"stage": stage, "plugin": plugin, "what": what, "start": start, "seconds": seconds, "status": status}
    return entry | {"detail": ""} | more


USERNS = "unprivileged user namespaces do not work: kernel.apparmor_restrict_unprivileged_userns is 1"
USERNS_HINT = (
    "the site allows them: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (and the same line in "
    "/etc/sysctl.d/90-pilots.conf), or installs Apptainer's AppArmor profile"
)
SLURM = "/system.slice/slurmstepd.scope/job_4242/step_batch/user/task_0"
FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx"
)
GPU = "GPU-6c1f9f64-2b1e-7f0a-9d3c-0f8a5e1b2c3"

NODE: Report = {
    "batch": {
        "system": fact("slurm", source="SLURM_JOB_ID"),
        "job_id": fact("4242", source="SLURM_JOB_ID"),
        "end_time": fact(1790000000, "seconds", "SLURM_JOB_END_TIME"),
    },
    "clock": {"offset_seconds": fact(0.184, "seconds", "Date of https://factory.example.org/")},
    "cpu": {
        "flags": fact((FLAGS + " avx2 bmi1 bmi2 rdtscp lm constant_tsc nopl cpuid aperfmperf pni").split() * 3),
        "logical": fact(128, "cores", "/sys/devices/system/cpu/present"),
        "model": fact("AMD EPYC 7713 64-Core Processor", source="/proc/cpuinfo"),
        "online": fact(128, "cores", "/sys/devices/system/cpu/online"),
        "usable": fact(
            4,
            "cores",
            "SLURM_CPUS_ON_NODE",
            limits=(("online", 128.0), ("affinity", 8.0), ("SLURM_CPUS_ON_NODE", 4.0), (f"cpuset {SLURM}", 8.0)),
        ),
    },
    "cvmfs": {"repositories": fact(["cvmfs-config.cern.ch", "atlas.cern.ch", "unpacked.cern.ch"], source="stat")},
    "disk": {
        "workspace_free_mib": fact(411_234, "MiB", "statvfs /scratch/slurm.4242"),
        "candidates": fact(
            [
                {"path": "/scratch/slurm.4242", "free_mib": 411234, "type": "xfs", "usable": True, "reason": ""},
                {"path": "/tmp", "free_mib": 1820, "type": "tmpfs", "usable": False, "reason": "noexec"},
            ],
            source="statvfs",
        ),
    },
    "fuse": {"usable": fact(True, source="mount as user")},
    "gpu": {
        "count": fact(2, source="NVML"),
        "devices": fact(
            [
                {"uuid": GPU + "7", "name": "NVIDIA H100", "memory_mib": 81559, "capability": "9.0", "state": "usable"},
                {
                    "uuid": GPU + "8",
                    "name": "NVIDIA H100",
                    "memory_mib": 81559,
                    "capability": "9.0",
                    "state": "unusable",
                    "reason": "uncorrectable ECC errors: 3",
                },
            ],
            source="NVML",
        ),
        "driver": fact("570.86.15", source="NVML"),
    },
    "memory": {
        "total_mib": fact(515898, "MiB", "/proc/meminfo MemTotal"),
        "usable_mib": fact(
            15872,
            "MiB",
            f"cgroup2 memory.max {SLURM}",
            limits=(("MemTotal", 515898.0), (f"cgroup2 memory.max {SLURM}", 15872.0)),
        ),
    },
    "network": {"proxies": missing("absent", "no proxy is configured", "site.proxies")},
    "os": {
        "arch": fact("x86_64", source="/proc/sys/kernel/arch"),
        "glibc": fact("2.39", source="/usr/lib/x86_64-linux-gnu/libc.so.6"),
        "kernel": fact("6.8.0-60-generic", source="/proc/sys/kernel/osrelease"),
        "microarch": fact("x86-64-v3", source="/proc/cpuinfo flags"),
        "pretty_name": fact("Ubuntu 24.04.2 LTS", source="/etc/os-release"),
    },
    "software": {"squashfuse": missing("unknown", "squashfuse --version did not end within 5 s")},
    "userns": {
        "sysctls": fact({"user.max_user_namespaces": 62914, "kernel.apparmor_restrict_unprivileged_userns": 1}),
        "usable": fact(False, source="unshare", detail="kernel.apparmor_restrict_unprivileged_userns is 1"),
    },
}

TIMELINE = [
    span("probe", "cpu", 0.048, 0.052),
    span("probe", "memory", 0.049, 0.041),
    span("probe", "disk", 0.050, 0.318),
    span("probe", "os", 0.052, 0.028),
    span("probe", "gpu", 0.061, 0.842),
    span("probe", "fuse", 0.064, 0.120),
    span("probe", "userns", 0.066, 0.077),
    span("probe", "network", 0.071, 0.655),
    span("probe", "batch", 0.088, 0.033),
    span("probe", "software", 0.090, 5.0, "timeout", detail="software: no answer after 5 s"),
    span("probe", "stage", 0.046, 5.05),
    span("mount", "cvmfs", 5.1, 0.41),
    span("mount", "stage", 5.098, 0.414),
    span("setup_early", "stage", 5.513, 0.001),
    span("container", "prove images", 5.52, 1.93),
    span("container", "stage", 5.515, 1.94),
    span("validate", "resources", 7.46, 0.02),
    span("validate", "userns", 7.461, 0.021, plugin="builtin.checks"),
    span("validate", "example_cuda", 7.463, 0.31, "failed", plugin="example", detail="no CUDA image"),
    span("validate", "stage", 7.457, 0.34),
]

CVMFS = {
    "decision": "PREFERRED",
    "cell": "PREFERRED x OPTIONAL",
    "reason": "the VO says PREFERRED, the site OPTIONAL: jobs get CVMFS where the node can",
    "repositories": ["atlas.cern.ch"],
    "rungs": [
        {
            "name": "native",
            "mode": None,
            "state": "taken",
            "tried": True,
            "reason": "all of atlas.cern.ch answer at /cvmfs",
        }
    ],
}

CONTAINER = {
    "decision": "PREFERRED",
    "cell": "PREFERRED x OPTIONAL",
    "reason": "the VO says PREFERRED, the site OPTIONAL: jobs run in containers where the node can",
    "runtime": {"path": "/usr/bin/apptainer", "version": "1.4.1", "mode": "setuid", "pid_namespace": True, "sif": True},
    "image": {"default": "el9", "platforms": {"el9": "/cvmfs/images.example.org/el9"}},
    "why": [
        {
            "candidate": "/cvmfs/images.example.org/el9",
            "platform": "el9",
            "taken": True,
            "proven": True,
            "reason": "a program ran in it",
            "seconds": 1.2,
            "facts": {},
        },
        {
            "candidate": "docker://registry.example.org/cuda:12",
            "platform": "cuda",
            "taken": False,
            "proven": False,
            "reason": "registry.example.org does not answer: no route to host",
            "seconds": 0.7,
            "facts": {},
        },
        {
            "candidate": "/images/el9.sif",
            "platform": "el9",
            "taken": False,
            "proven": False,
            "reason": "image.digest: /images/el9.sif has another digest than the one that is wanted",
            "seconds": 0.0,
            "facts": {"leads_to": "/data/el9-2026.sif", "size_bytes": 73400320, "os.arch": "x86_64"},
        },
    ],
    "binds": [
        {
            "source": "/cvmfs",
            "destination": "/cvmfs",
            "read_only": True,
            "asked_by": "the pilot",
            "given": True,
            "reason": "",
        },
        {
            "source": "/data",
            "destination": "/store",
            "read_only": False,
            "asked_by": "VO example",
            "given": False,
            "reason": "the site's containers.binds_allowed has no /data",
        },
    ],
    "options": [
        {"option": "--rocm", "asked_by": "site", "given": True, "reason": "", "with_gpus": True},
    ],
    "environment": [
        {"name": "LD_PRELOAD", "asked_by": "plugin example", "given": False, "reason": "it acts outside the container"},
    ],
}

UNFIT = failure("userns.unusable", USERNS, USERNS_HINT)

FULL: Report = {
    "schema": "pilot-agent/report/1",
    "pilot": {
        "id": "141bae714a9b",
        "version": __version__,
        "started": "2026-09-21T05:49:05.662Z",
        "finished": "2026-09-21T05:49:13.459Z",
        "host": "gpu017.example.org",
        "user": "pilot",
        "config": ["site /etc/pilot-agent/site.yaml", "vo example", "vo lattice", "command line"],
    },
    "outcome": {"status": "failed", "failure": UNFIT},
    "failures": [UNFIT],
    "timeline": TIMELINE,
    "node": NODE,
    "cvmfs": CVMFS,
    "container": CONTAINER,
    "checks": [
        check("resources", message="cores, memory and disk are known"),
        check("cpu.usable >= 4", message="cpu.usable is 4 cores", vo="example"),
        check("userns", "fail", USERNS, USERNS_HINT, code="userns.unusable", vo="lattice"),
        check(
            "memory.usable_mib >= 64000",
            "fail",
            "memory.usable_mib is 15872 MiB, 64000 MiB are needed",
            "the site grants the job more memory (Slurm: --mem=64G), or the VO asks for less",
            code="requirement.failed",
            vo="lattice",
        ),
        check("gpu", "warn", "1 of 2 GPUs is unusable: uncorrectable ECC errors: 3", "the site replaces the GPU"),
        check("python", message="Python 3.9.18", where="image", vo="example"),
        check("squashfuse", "skip", "it is not known which version is installed"),
    ],
    "verdicts": [
        {"vo": "example", "fit": True, "failure": None},
        {"vo": "lattice", "fit": False, "failure": UNFIT},
    ],
    "services": [
        {
            "name": "triton",
            "status": "ready",
            "pid": 4711,
            "ready_after_seconds": 3.2,
            "message": "",
            "attributes": {"HasTriton": True},
        },
        {
            "name": "proxy",
            "status": "failed",
            "pid": None,
            "ready_after_seconds": None,
            "message": "port 3128 is taken",
            "attributes": {},
        },
    ],
    "benchmarks": [
        {"name": "db12", "score": 21.7, "unit": "DB12", "seconds": 40.1, "cached": False, "attributes": {"DB12": 21.7}}
    ],
    "plugins": [
        {
            "name": "builtin.probes",
            "source": "payload",
            "hooks": ["pilot_probes"],
            "declared": 13,
            "seconds": 0.0,
            "error": "",
        },
        {
            "name": "example",
            "source": "/opt/vo/example.py",
            "hooks": ["pilot_checks"],
            "declared": 1,
            "seconds": 0.1,
            "error": "",
        },
    ],
    "jobs": no_jobs(0.0),
    "ad": {"HasTriton": True, "DB12": 21.7, "GLIDEIN_Site": "Example_T2"},
    "leftovers": [{"what": "probe software (process 4801)", "cause": "uninterruptible sleep in nfs_wait_bit_killable"}],
}


def full() -> Report:
    """A copy of the report in which everything occurs: fit for VO example, not fit for VO lattice."""
    return copy.deepcopy(FULL)


def fit() -> Report:
    """The report of a node on which every check passes, as a version without verdicts wrote it."""
    report = full()
    report["outcome"] = {"status": "ok", "failure": None}
    report |= {"failures": [], "checks": [check("resources", message="cores, memory and disk are known")]}
    del report["verdicts"]
    return report


def unfit() -> Report:
    """The same node, not fit for whoever asks: user namespaces are refused."""
    report = full()
    report["checks"] = [check("userns", "fail", USERNS, USERNS_HINT, code="userns.unusable")]
    report["verdicts"] = [{"vo": "", "fit": False, "failure": UNFIT}]
    return report


def small() -> Report:
    """The report that the reference page of the formats shows: what `check --json` said on a node of the testbed whose
    user namespaces were used up, with four of its facts and four of its checks."""
    report: Report = json.loads((Path(__file__).parent / "no_user_namespaces.json").read_text(encoding="utf-8"))
    return report


def of_node(name: str) -> Report:
    """What ``check --json`` says of one of the nodes in ``tests/probes/nodes``; of this machine for an empty name."""
    command = [sys.executable, str(REPOSITORY / "pilot_agent" / "__main__.py"), "check", "--json"]
    where = ["--root", str(NODES / name)] if name else []
    done = subprocess.run([*command, *where], capture_output=True, text=True, timeout=300)
    report: Report = json.loads(done.stdout)
    return report
