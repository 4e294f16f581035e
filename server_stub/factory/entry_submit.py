"""How an entry's pilots are handed to its batch system: what no other key of the entry says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from server_stub.factory.reader import NAME, WORD, Reader

PayloadBy = Literal["url", "file"]
PAYLOAD_BY: tuple[PayloadBy, ...] = ("url", "file")
CLOUDS = ("ec2", "gce", "azure")
# Patterns of the shell and names of images: words of the launcher's argument list, and of a submit description.
PATTERN = re.compile(r"/[A-Za-z0-9_.*?/+-]{1,254}")
IMAGE = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_.:/@+-]{0,254}")
DIRECTORY = re.compile(r"[~/][A-Za-z0-9_.+/-]{0,254}")
OPTIONS = re.compile(r"[A-Za-z0-9_.:/@+=,\[\] -]{1,500}")
COMMAND = re.compile(r"(\+|[Mm][Yy]\.)?[A-Za-z_][A-Za-z0-9_.]{0,62}")
OURS = frozenset(
    {
        *("universe", "executable", "arguments", "initialdir", "grid_resource", "queue", "output", "error", "log"),
        *("transfer_input_files", "transfer_output_files", "transfer_executable", "getenv", "encrypt_input_files"),
        *("my.pilotfactory", "my.pilotentry", "my.pilotid", "+pilotfactory", "+pilotentry", "+pilotid"),
    }
)
"""Commands of a submit description that the factory itself must decide."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """What a machine of a cloud is made of: the names are those of the cloud. ``keys`` are files with what the account
    is known by: of EC2 its access key and the secret one, of the others the file of their tools."""

    image: str = ""
    machine: str = ""
    zone: str = ""
    project: str = ""
    network: str = ""
    spot_price: str = ""
    administrator: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """``python`` and ``image`` are for the launcher, where the node has no Python that is new enough. ``payload`` is
    how the payload comes to the node: fetched by the site from the factory's address, or sent along as a file.
    ``schedd`` is the name of a remote access point. ``arguments`` go to the site's own submit command. ``glite`` is
    where the blahp lies on a login node. ``lines`` are further commands of the submit description."""

    python: tuple[str, ...] = ()
    image: str = ""
    payload: PayloadBy = "url"
    project: str = ""
    schedd: str = ""
    whole_node: bool = False
    arguments: str = ""
    glite: str = ""
    runtime_environments: tuple[str, ...] = ()
    lines: Mapping[str, str] = field(default_factory=dict)
    cloud: Cloud = field(default_factory=Cloud)


def read_submit(reader: Reader, kind: str) -> SubmitOptions:
    """The options of an entry of this type; what is wrong is noted by the reader."""
    python, image = reader.words("python", PATTERN), reader.text("image", IMAGE, default="")
    nested = reader.below("submit")
    usual: PayloadBy = "url" if kind in ("local", "condor") else "file"
    options = SubmitOptions(
        python=python,
        image=image,
        payload=cast("PayloadBy", nested.choice("payload", PAYLOAD_BY, default=usual)),
        project=nested.text("project", WORD, default=""),
        schedd=nested.text("schedd", WORD, default=""),
        whole_node=nested.boolean("whole_node", default=False),
        arguments=nested.text("arguments", OPTIONS, default=""),
        glite=nested.text("glite", DIRECTORY, default=""),
        runtime_environments=nested.words("runtime_environments", WORD),
        lines=_lines(nested),
        cloud=_cloud(reader, kind),
    )
    _judge(nested, options, kind)
    nested.refuse_others()
    return options


def _lines(reader: Reader) -> dict[str, str]:
    """Commands of a submit description, none of which is the factory's own."""
    below = reader.below("lines")
    found = {}
    for name in below.names():
        value = below.expression(name, default="")
        if not COMMAND.fullmatch(name):
            below.note(name, f"is no name of a submit command; it must fit {COMMAND.pattern}")
        elif name.lower() in OURS:
            below.note(name, "is decided by the factory; leave it out")
        elif value:
            found[name] = value
    return found


def _cloud(reader: Reader, kind: str) -> Cloud:
    below = reader.below("cloud")
    cloud = Cloud(
        image=below.text("image", WORD, default=""),
        machine=below.text("machine", WORD, default=""),
        zone=below.text("zone", NAME, default=""),
        project=below.text("project", WORD, default=""),
        network=below.text("network", WORD, default=""),
        spot_price=below.text("spot_price", NAME, default=""),
        administrator=below.text("administrator", NAME, default=""),
        keys=tuple(below.path(key, default="") for key in ("access_key", "secret_key") if below.has(key)),
    )
    if kind in CLOUDS:
        needed = {"image": cloud.image, "machine": cloud.machine}
        if kind != "ec2":
            needed["zone"] = cloud.zone
        if kind == "gce":
            needed["project"] = cloud.project
        if kind == "ec2" and len(cloud.keys) != 2:
            below.note("access_key", "missing; EC2 needs the paths access_key and secret_key")
        for key, value in needed.items():
            if not value:
                below.note(key, f"missing; a machine of {kind} needs it")
    elif reader.has("cloud"):
        reader.note("cloud", f"is only for entries of the types {', '.join(CLOUDS)}")
    below.refuse_others()
    return cloud


def _judge(reader: Reader, options: SubmitOptions, kind: str) -> None:
    """Note what an entry of this type has no use for: it would be silently ignored otherwise."""
    batch = kind.startswith("batch ")
    only = {
        "arguments": (batch, bool(options.arguments), "batch"),
        "project": (batch, bool(options.project), "batch"),
        "glite": (batch, bool(options.glite), "batch"),
        "whole_node": (batch, options.whole_node, "batch"),
        "schedd": (kind == "condor", bool(options.schedd), "condor"),
        "runtime_environments": (kind == "arc", bool(options.runtime_environments), "arc"),
    }
    for key, (fits, given, types) in only.items():
        if given and not fits:
            reader.note(key, f"is only for entries of the type {types}")
    if batch and options.payload == "url":
        reader.note("payload", "must be file: the blahp fetches nothing from an address")
