"""The built-in probes: what each is called, what it gives, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterable

from pilot_agent.hookspecs import Probe, hookimpl

_PROBES: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    ("cpu", "cpu:probe_cpu", ("usable", "logical", "physical", "online", "model", "flags"), 10.0),
    ("memory", "memory:probe_memory", ("usable_mib", "total_mib", "available_mib", "swap_mib", "shm_mib"), 10.0),
    ("disk", "disk:probe_disk", ("candidates", "workspace_free_mib"), 10.0),
    (
        "os",
        "osinfo:probe_os",
        ("id", "version", "pretty_name", "kernel", "arch", "glibc", "microarch", "container"),
        10.0,
    ),
    ("userns", "userns:probe_userns", ("usable", "pid_proc", "sysctls"), 10.0),
    ("fuse", "fuse:probe_fuse", ("usable", "helper", "device", "userns_mount"), 10.0),
    ("gpu", "gpu:probe_gpu", ("devices", "count", "driver"), 30.0),
    ("batch", "batch:probe_batch", ("system", "job_id", "end_time", "scratch"), 10.0),
)


@hookimpl
def pilot_probes() -> Iterable[Probe]:
    """One probe per thing; the facts of each begin with its name."""
    for name, run, gives, seconds in _PROBES:
        yield Probe(
            name=name,
            run=f"pilot_agent.probes.{run}",
            gives=tuple(f"{name}.{fact}" for fact in gives),
            timeout_seconds=seconds,
        )
