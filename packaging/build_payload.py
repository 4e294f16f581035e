"""Builds pilot.pyz, pilot.sh and, if asked, pilot-aarch64.sh: `python packaging/build_payload.py --output build`."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from payload.console import BuildError, step
from payload.contents import AGENT, collect
from payload.debs import AARCH64, DEBIAN_12, DEBIAN_13, DEBIAN_13_TEXTS, debian_tree
from payload.pyz import Stamp, build_pyz
from payload.revision import revision_of
from payload.runtime import runtime_files
from payload.selfextract import build_selfextracting, cached_base
from payload.wheels import fetch, read_pins

PROJECT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Build both files into the output directory; 0, or 1 with a message when that was not possible."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PROJECT / "build", help="directory for the files")
    parser.add_argument("--cache", type=Path, help="downloads (default: OUTPUT/cache)")
    parser.add_argument("--project", type=Path, default=PROJECT, help="checkout that holds pilot_agent")
    parser.add_argument("--refresh", action="store_true", help="take the newest Debian packages, not the cached ones")
    parser.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a plugin to carry, a directory with pyproject.toml or a wheel; may be repeated",
    )
    parser.add_argument("--aarch64", action="store_true", help="also write pilot-aarch64.sh")
    options = parser.parse_args(arguments)
    try:
        cache = options.cache or options.output / "cache"
        build(options.project, options.output, cache, options.refresh, options.plugin, aarch64=options.aarch64)
    except BuildError as error:
        print(f"payload: {error}", file=sys.stderr)
        return 1
    return 0


def build(
    project: Path,
    output: Path,
    cache: Path,
    refresh: bool = False,
    plugins: Sequence[Path] = (),
    aarch64: bool = False,
) -> None:
    """Write OUTPUT/pilot.pyz and OUTPUT/pilot.sh, with these plugins in them, and print their sizes and digests; with
    `aarch64` also OUTPUT/pilot-aarch64.sh. BuildError when it cannot."""
    version = agent_version(project)
    wheels = fetch(read_pins(PROJECT / "packaging/requirements-payload.txt"), cache / "wheels")
    tree313 = debian_tree("trixie", DEBIAN_13, cache / "debs", refresh, DEBIAN_13_TEXTS)
    tree311 = debian_tree("bookworm", DEBIAN_12, cache / "debs", refresh)
    with step("compile and pack pilot.pyz"):
        stamp = Stamp(version, revision_of(project, AGENT, "packaging"))
        pyz = build_pyz(collect(project, wheels, plugins), stamp, tree313, tree311)
    write(output / "pilot.pyz", pyz)
    own = {"pilot.sh": (tree313, cache / "runtime")}
    if aarch64:
        arm = debian_tree("trixie", DEBIAN_13, cache / "debs", refresh, DEBIAN_13_TEXTS, AARCH64)
        own["pilot-aarch64.sh"] = (arm, cache / "runtime-aarch64")
    for name, (tree, kept) in own.items():
        with step(f"compress {name}"):
            base = cached_base(kept, tree, version, partial(runtime_files, tree, version, tree313), tree313)
            script = build_selfextracting(base, pyz, version, tree313, tree.machine)
        write(output / name, script)


def agent_version(project: Path) -> str:
    """The version that pilot_agent states, read without importing it."""
    text = (project / "pilot_agent/__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if not found:
        raise BuildError(f"{project}/pilot_agent/__init__.py has no line __version__ = ...")
    return found[1]


def write(path: Path, data: bytes) -> None:
    """Put the file in place at once, executable, and say its size and digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.chmod(0o755)
    temporary.replace(path)
    print(f"{path}  {len(data) / 1e6:.2f} MB  sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    sys.exit(main())
