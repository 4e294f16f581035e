"""What the pilot of the figure `teardown` runs beside its jobs: a service with a mount, and a plain one."""

from __future__ import annotations

from collections.abc import Iterator

from pilot_agent.hookspecs import Readiness, Service, hookimpl

MOUNT = (
    "mkdir low mnt; touch low/inside; fuse-overlayfs -f -o lowerdir=low mnt & "
    "until test -e mnt/inside; do sleep 0.05; done; touch ready; wait"
)


@hookimpl
def pilot_services() -> Iterator[Service]:
    """Both end at once when they are told to."""
    ready = Readiness(file="ready", timeout_seconds=30)
    yield Service(name="files", command=("/bin/sh", "-c", MOUNT), readiness=ready)
    yield Service(name="plain", command=("/bin/sleep", "86400"))
