"""Published distributions with programs of this machine, and their index."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from dataclasses import asdict
from pathlib import Path

from pilot_agent.cvmfs.loading import CLIENT
from pilot_agent.cvmfs.offer import DISTRIBUTIONS, Offer
from tests.cvmfs.distributions import CONFIGURATION, MOUNTS, UNMOUNTS
from tests.startd.published import pack

NEEDED, MISSING = b"libpcre2-8.so.0", b"libpcre2-8.so.9"
"""Names of a library that every Debian has, and of one that none has."""


def library(needs: bytes = NEEDED) -> bytes:
    """A library of this machine, which needs ``libpcre2-8`` by this name."""
    told = subprocess.run(["ldd", "/bin/ls"], capture_output=True, text=True, check=True).stdout
    (path,) = re.findall(r"libselinux\S+ => (\S+)", told)
    return Path(path).read_bytes().replace(NEEDED, needs)


def distribution_files(needs: bytes = NEEDED) -> dict[str, bytes]:
    """A distribution whose client loads where ``needs`` is there."""
    return {
        "mountrepo": MOUNTS.encode(),
        "umountrepo": UNMOUNTS.encode(),
        CLIENT: b"#!/bin/sh\n",
        "dist/usr/lib64/libcvmfs_fuse3.so": library(needs),
        "dist/etc/cvmfs/default.d/60-example.conf": f"CVMFS_CONFIG_REPOSITORY={CONFIGURATION}\n".encode(),
    }


def offer(directory: Path, machine_type: str = "rhel9-x86_64", *, needs: bytes = NEEDED, **changes: str) -> Offer:
    """Write a distribution into the directory; its entry, with changes."""
    files = distribution_files(needs)
    content, digest, members = pack(files)
    name = re.fullmatch(r"([a-z]+)(\d+)-(\w+)", machine_type)
    assert name is not None
    values: dict[str, str | int] = {
        "version": "2.12.0",
        "os": name[1],
        "os_version": name[2],
        "architecture": name[3],
        "glibc": {"7": "2.17", "8": "2.28"}.get(name[2], "2.34"),
        "file": f"cvmfs-{changes.get('source', 'osg')}-{machine_type}.tar.gz",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "unpacked_bytes": sum(map(len, files.values())),
        "members": members,
        "tree_sha256": digest,
        "source": "osg",
        "machine_type": machine_type,
    }
    entry = Offer(**values | changes)  # type: ignore[arg-type]
    directory.mkdir(exist_ok=True)
    (directory / entry.file).write_bytes(content)
    return entry


def index(directory: Path, *entries: Offer) -> str:
    """Write the directory's index; its digest."""
    content = json.dumps({"schema": DISTRIBUTIONS.schema, "tarballs": [asdict(entry) for entry in entries]}).encode()
    (directory / "index.json").write_bytes(content)
    return hashlib.sha256(content).hexdigest()
