"""The built-in probes: what each is called, what it gives, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterable

from pilot_agent.hookspecs import Probe, hookimpl

_PROBES: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    (
        "cpu",
        "resources.cpu:probe_cpu",
        (
            *("usable", "logical", "physical", "online", "affinity", "sockets", "threads_per_core", "smt"),
            *("numa_nodes", "model", "vendor", "flags", "features"),
        ),
        10.0,
    ),
    (
        "memory",
        "resources.memory:probe_memory",
        (
            *("usable_mib", "total_mib", "available_mib", "swap_mib", "swap_usable_mib", "shm_mib"),
            *("hugepages", "limit_address_space_mib", "reserve_mib"),
        ),
        10.0,
    ),
    (
        "cgroup",
        "resources.control_groups:probe_cgroup",
        ("version", "path", "controllers", "delegated", "delegated_controllers"),
        10.0,
    ),
    ("disk", "disk.disk:probe_disk", ("candidates", "workspace_free_mib", "write_mib_per_second"), 10.0),
    (
        "os",
        "system.osinfo:probe_os",
        (
            *("id", "like", "version", "pretty_name", "kernel", "arch", "glibc", "microarch"),
            *("virtualisation", "container", "selinux", "apparmor", "limits", "locale", "timezone"),
            *("hostname", "uptime_seconds", "boot_id", "pid_max", "threads_max"),
        ),
        10.0,
    ),
    (
        "software",
        "software.software:probe_software",
        ("python", "apptainer", "condor", "curl", "squashfuse", "modules", "cvmfs_client", "not_searched"),
        10.0,
    ),
    (
        "userns",
        "kernel.userns:probe_userns",
        ("usable", "pid_proc", "sysctls", "namespaces", "refusal", "maps", "subids"),
        10.0,
    ),
    (
        "fuse",
        "kernel.fuse:probe_fuse",
        ("usable", "helper", "device", "userns_mount", "helper_mount", "helpers", "mode", "refusal"),
        10.0,
    ),
    ("gpu", "gpu.gpu:probe_gpu", ("devices", "count", "hidden", "driver", "cuda_driver"), 45.0),
    (
        "batch",
        "batch.batch:probe_batch",
        (
            *("system", "job_id", "job_name", "user", "queue", "account", "nodes", "node_index", "cores"),
            *("memory_mib", "disk_mib", "gpus", "gpu_count", "scratch", "start_time", "end_time"),
            *("walltime_seconds", "restarts", "draining", "features"),
        ),
        10.0,
    ),
    (
        "network",
        "network.network:probe_network",
        (
            *("hostname", "fqdn", "addresses", "ipv4", "ipv6", "default_route", "mtu", "ports", "dns"),
            *("endpoints", "outbound", "proxies", "proxy", "address_seen", "nat"),
        ),
        10.0,
    ),
    (
        "cvmfs",
        "cvmfs.cvmfs:probe_cvmfs",
        ("configured", "domains", "autofs", "writable", "client", "mounts"),
        10.0,
    ),
    (
        "clock",
        "network.clock:probe_clock",
        ("offset_seconds", "source", "synchronised", "collector_offset_seconds"),
        10.0,
    ),
)

AGAIN_INSIDE = ("disk", "software", "userns", "fuse", "cvmfs")
"""In a user and mount namespace others are mounted, setuid programs are none, and fewer namespaces may be left."""


@hookimpl
def pilot_probes() -> Iterable[Probe]:
    """One probe per thing; the facts of each begin with its name."""
    for name, run, gives, seconds in _PROBES:
        yield Probe(
            name=name,
            run=f"pilot_agent.probes.{run}",
            gives=tuple(f"{name}.{fact}" for fact in gives),
            timeout_seconds=seconds,
            again_inside=name in AGAIN_INSIDE,
        )
