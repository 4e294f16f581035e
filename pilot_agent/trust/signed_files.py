"""Files of services that VOs and factories signed, such as models: fetched, verified, unpacked, then only read."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.tarballs.publication import signed_publication
from pilot_agent.tarballs.stepping import step
from pilot_agent.trust.names import directory_name

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp
    from pilot_agent.trust.bundle import Trust

SIGNED_FILES = signed_publication(
    name="signed files of services",
    what="files",
    code="files",
    stage="service",
    seconds_key="services.NAME.ready_seconds",
)
MOST_ARCHIVE_BYTES = 8 << 30
MOST_BYTES = 16 << 30
MOST_MEMBERS = 20_000


def fetch_files(
    name: str,
    trust: Trust,
    *,
    directory: str,
    scratch: str,
    environment: Mapping[str, str],
    seconds: float,
    wake: WakeUp | None = None,
) -> str:
    """The directory below ``directory`` in which the archive ``name`` is unpacked; one that is there from before is
    kept. ``scratch`` is a directory of the pilot's own.

    Raises ``PilotError``: what is wrong with the configuration, the network, or with what was published (corruption);
    ``Interrupted``.
    """
    place = os.path.join(directory, _stem(name))

    def fetch() -> None:
        # Late: few pilots fetch anything.
        from pilot_agent.trust.zips import Archive, unpack_zip

        os.makedirs(scratch, mode=0o700, exist_ok=True)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = os.path.join(scratch, f"{os.urandom(6).hex()}-{os.path.basename(name)}")
        try:
            trust.repository(scratch, environment, time.monotonic() + seconds).fetch(
                name, path, most_bytes=MOST_ARCHIVE_BYTES
            )
            hint = "whoever signs the files packs them anew as a ZIP archive of files and directories"
            unpack_zip(path, place, Archive("a service", hint, MOST_MEMBERS, MOST_BYTES, lambda names: None))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)

    if not os.path.isdir(place):
        step(SIGNED_FILES, f"fetching {name}", fetch, seconds=seconds, wake=wake)
    return place


def _stem(name: str) -> str:
    stem = directory_name(name, ".zip")
    if stem is None:
        message = f"{name!r} is no archive of files of a service; files/VO/NAME.zip is needed"
        hint = "whoever declares the service corrects the name"
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    return stem
