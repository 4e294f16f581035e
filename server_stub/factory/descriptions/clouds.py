"""Machines of a cloud, each of which runs one pilot and ends with it.

Templates: HTCondor accepts the descriptions; with a real cloud none was tried. EC2 and GCE hand the user data to the
machine, whose first start runs it. HTCondor gives an Azure machine none: there the image itself starts the launcher.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from server_stub.factory.descriptions.parcel import Lines, Parcel, common
from server_stub.factory.entry import Entry

USER_DATA_FILE = "user-data"
METADATA_FILE = "metadata"


def describe(parcel: Parcel) -> Lines:
    """The commands for a machine of the entry's cloud; nothing comes home by them but what the pilot uploads."""
    lines = {name: value for name, value in common(parcel).items() if name not in ("output", "error")}
    # The executable is only a name for a machine.
    machine = {**lines, "executable": f"pilot-{parcel.pilot}", "transfer_executable": "False"}
    return {"universe": "grid", **machine, **CLOUDS[parcel.entry.type](parcel)}


def _ec2(parcel: Parcel) -> Lines:
    cloud = parcel.entry.submit.cloud
    access_key, secret_key = cloud.keys
    return {
        "grid_resource": f"ec2 {parcel.entry.contact}",
        "ec2_access_key_id": access_key,
        "ec2_secret_access_key": secret_key,
        "ec2_ami_id": cloud.image,
        "ec2_instance_type": cloud.machine,
        "ec2_user_data_file": os.path.join(parcel.directory, USER_DATA_FILE),
        **_given({"ec2_availability_zone": cloud.zone, "ec2_vpc_subnet": cloud.network}),
        **_given({"ec2_spot_price": cloud.spot_price}),
        "ec2_tag_names": "PilotEntry, PilotId",
        "ec2_tag_PilotEntry": parcel.entry.name,
        "ec2_tag_PilotId": parcel.pilot,
    }


def _gce(parcel: Parcel) -> Lines:
    cloud = parcel.entry.submit.cloud
    return {
        "grid_resource": f"gce {parcel.entry.contact} {cloud.project} {cloud.zone}",
        "gce_image": cloud.image,
        "gce_machine_type": cloud.machine,
        "gce_metadata_file": os.path.join(parcel.directory, METADATA_FILE),
        **_given({"gce_auth_file": cloud.keys[0] if cloud.keys else ""}),
        **_given({"gce_preemptible": "True" if cloud.spot_price else ""}),
    }


def _azure(parcel: Parcel) -> Lines:
    cloud = parcel.entry.submit.cloud
    return {
        "grid_resource": f"azure {parcel.entry.contact}",
        "azure_image": cloud.image,
        "azure_size": cloud.machine,
        "azure_location": cloud.zone,
        "azure_admin_username": cloud.administrator or "pilot",
        "azure_admin_key": cloud.keys[1] if len(cloud.keys) > 1 else "/dev/null",
        **_given({"azure_auth_file": cloud.keys[0] if cloud.keys else ""}),
    }


def _given(lines: Lines) -> Lines:
    return {name: value for name, value in lines.items() if value}


def has_user_data(entry: Entry) -> bool:
    """Whether the entry's machines get user data."""
    return entry.type in ("ec2", "gce")


CLOUDS: dict[str, Callable[[Parcel], Lines]] = {"ec2": _ec2, "gce": _gce, "azure": _azure}
"""By the entry's type."""
