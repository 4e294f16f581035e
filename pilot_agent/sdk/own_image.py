"""An image without a download: empty places, into which this machine's own programs are bound, read-only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pilot_agent.model import Json

EMPTY = ("dev", "etc", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var/tmp")
PROGRAMS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Links into /usr on most systems, directories on old ones."""


def make_own_image(directory: Path, root: Path = Path("/")) -> Mapping[str, Json]:
    """Make the image in ``directory``; the configuration of a pilot whose jobs run in it."""
    image = directory / "image"
    for name in EMPTY:
        (image / name).mkdir(parents=True)
    binds = ["/usr:/usr:ro"]
    for name in PROGRAMS:
        place = root / name
        if place.is_symlink():
            os.symlink(os.readlink(place), image / name)
        elif place.is_dir():
            (image / name).mkdir()
            binds.append(f"/{name}:/{name}:ro")
    for name in ("os-release", "passwd", "group"):
        if (root / "etc" / name).is_file():
            shutil.copyfile(root / "etc" / name, image / "etc" / name)
    return {"images": {"default": [{"path": str(image)}]}, "containers": {"binds": binds}}
