"""What a machine of a cloud runs at its first start: fetches the payload, checks it, and becomes a pilot of an ordinary
account; then the machine ends."""

from __future__ import annotations

import base64
import io
import os
import shlex
import tarfile

from server_stub.factory.descriptions.clouds import METADATA_FILE, USER_DATA_FILE
from server_stub.factory.descriptions.parcel import Parcel, arguments

# EC2 takes no more than 16 KiB.
LIMIT_BYTES = 16 << 10
LAUNCHER = "launcher.sh"
SCRIPT = """#!/bin/sh
# A pilot of the factory {factory}, for its entry {entry}.
set -u
umask 077
trap 'shutdown -h now' EXIT
id pilot >/dev/null 2>&1 || useradd --create-home pilot
cd ~pilot || exit 1
echo {files} | base64 -d | tar -xz || exit 1
curl --fail --silent --show-error --location --retry 5 --output {payload} {address} || exit 1
chown -R pilot: .
# Only root may ask the cloud for this script again, which has the pilot's tokens in it.
iptables -A OUTPUT -d 169.254.169.254 -m owner ! --uid-owner root -j REJECT 2>/dev/null
su pilot -s /bin/sh -c {command}
"""


def user_data(parcel: Parcel) -> str:
    """The script. Raises ``OSError`` when a file of the parcel cannot be read, ``ValueError`` when it is too long."""
    words = arguments(parcel, numbers=False).strip('"')
    script = SCRIPT.format(
        factory=parcel.factory,
        entry=parcel.entry.name,
        files=base64.b64encode(_archive(parcel)).decode("ascii"),
        payload=shlex.quote(parcel.entry.payload_file),
        address=shlex.quote(parcel.address),
        command=shlex.quote(f"cd && exec ./launcher.sh {words}"),
    )
    if len(script) > LIMIT_BYTES:
        raise ValueError(f"the user data has {len(script)} bytes, and a cloud takes {LIMIT_BYTES}")
    return script


def _archive(parcel: Parcel) -> bytes:
    """What the pilot takes along, and the launcher, each only for its owner."""
    contents = {name: os.path.join(parcel.directory, name) for name in parcel.files} | {LAUNCHER: parcel.launcher}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, path in contents.items():
            with open(path, "rb") as file:
                content = file.read()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o700 if name == LAUNCHER else 0o600
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def files(parcel: Parcel) -> dict[str, str]:
    """The files with the user data that the descriptions name, by their names."""
    script = user_data(parcel)
    # A value of GCE's metadata is one line.
    packed = base64.b64encode(script.encode()).decode("ascii")
    return {USER_DATA_FILE: script, METADATA_FILE: f"startup-script=echo {packed} | base64 -d | sh\n"}
