"""The disk by fio (https://fio.readthedocs.io): what it is told, and what its JSON output says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BLOCK_KIB = 1024
SMALL_BLOCK_KIB = 4
SECTIONS = ("write", "read", "randread")
NO_DIRECT = ("does not support direct", "Invalid argument")
"""What fio says where the file system refuses O_DIRECT."""


class FioError(ValueError):
    """fio's output is not what it should be; the message says where."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round: MB/s of writing (until all of it is on the disk) and reading in sequence, and small reads a second at
    random places; None for what was not measured. ``percentile_99_us`` is how long all but 1 % of the latter took."""

    write: float
    read: float | None
    random_reads: float | None
    percentile_99_us: float | None = None


def command(program: str, path: str, *, size_mib: int, direct: bool, seconds: float) -> list[str]:
    """One round on the file ``path``, which has ``size_mib`` then; each part of it takes ``seconds`` at most."""
    common = [
        program,
        "--output-format=json",
        "--thread",
        "--ioengine=psync",
        f"--direct={int(direct)}",
        f"--filename={path}",
        f"--size={size_mib}m",
        f"--runtime={math.ceil(seconds * 1000)}ms",
        "--randrepeat=0",
        "--norandommap",
        "--refill_buffers",
        "--stonewall",
    ]
    write = ["--name=write", "--rw=write", f"--bs={BLOCK_KIB}k", "--end_fsync=1"]
    read = ["--name=read", "--rw=read", f"--bs={BLOCK_KIB}k"]
    randread = ["--name=randread", "--rw=randread", f"--bs={SMALL_BLOCK_KIB}k"]
    return [*common, *write, *read, *randread]


def read_round(output: bytes) -> Round:
    """What fio's JSON output says of one round. Raises ``FioError``."""
    text = output.decode("utf-8", "replace")
    # Warnings come before the document, on the same stream.
    begin = text.find("{")
    try:
        document = json.loads(text[begin:] if begin >= 0 else "")
    except (ValueError, RecursionError) as error:
        raise FioError(f"its output is no JSON: {error}") from error
    write, read, random = (_section(document, name) for name in SECTIONS)
    return Round(
        write=_rate(write, "write"),
        read=_rate(read, "read"),
        random_reads=_number(random, ("read", "iops")),
        percentile_99_us=_number(random, ("read", "clat_ns", "percentile", "99.000000")) / 1e3,
    )


def _section(document: Any, name: str) -> Any:
    jobs = document.get("jobs") if isinstance(document, dict) else None
    listed = jobs if isinstance(jobs, list) else []
    found = [job for job in listed if isinstance(job, dict) and job.get("jobname") == name]
    if not found:
        raise FioError(f"it tells of no job {name!r}")
    if found[0].get("error") not in (0, None):
        raise FioError(f"its job {name!r} ended with the error {found[0]['error']!r}")
    return found[0]


def _rate(section: Any, direction: str) -> float:
    return _number(section, (direction, "bw_bytes")) / 1e6


def _number(section: Any, path: Sequence[str]) -> float:
    found = section
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found) or found <= 0:
        raise FioError(
            f"{'.'.join(path)} of its job {section.get('jobname')!r} is {found!r}, a number above 0 is needed"
        )
    return float(found)
