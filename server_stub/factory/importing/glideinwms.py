"""Entries from the configuration of a GlideinWMS factory: attributes, limits, allowed frontends; each thing without a
counterpart is listed. Nothing in it is evaluated, and a document that declares a type or entities is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from pilot_agent.model import Json
from server_stub.factory.entry_submit import COMMAND, DIRECTORY, OURS
from server_stub.factory.importing.common import Imported, name_of, whole
from server_stub.factory.importing.xml import read_xml

BATCH = re.compile(r"batch (slurm|pbs|lsf|sge|condor)")
QUEUE = re.compile(r"\(queue=\"?([A-Za-z0-9_.-]+)\"?\)")
GPUS = re.compile(r"\bGPUs?,(\d+)")
KNOWN_ENTRY = frozenset(
    (
        *("name", "gatekeeper", "gridtype", "enabled", "work_dir", "proxy_url", "rsl", "comment", "verbosity"),
        *("schedd_name", "bosco_dir"),
    )
)
KNOWN_PARTS = frozenset(("config", "attrs", "files", "allow_frontends", "infosys_refs", "monitorgroups"))


def entries_from_glideinwms(content: bytes) -> Imported:
    """Entries from ``glideinWMS.xml``. Raises ``PilotError`` (config.syntax)."""
    root = read_xml(content)
    imported = Imported()
    for entry in root.iterfind("./entries/entry"):
        _add_entry(imported, entry)
    if not imported.entries:
        imported.note(root.tag, "holds no entry below entries")
    for part in root:
        if part.tag != "entries":
            imported.note(part.tag, "belongs to the whole factory and has no counterpart in an entry")
    return imported


def _add_entry(imported: Imported, entry: Element) -> None:
    name = entry.get("name") or "unnamed"
    attributes = {one.get("name", ""): one for one in entry.iterfind("./attrs/attr")}
    used = set()

    def value(attribute: str) -> str:
        used.add(attribute)
        return attributes[attribute].get("value", "") if attribute in attributes else ""

    cores, memory = value("GLIDEIN_CPUS"), value("GLIDEIN_MaxMemMBs")
    gpus = GPUS.search(value("GLIDEIN_Resource_Slots"))
    required = value("GLIDEIN_SINGULARITY_REQUIRE").upper()
    kind, places = _type(imported, name, entry.get("gridtype") or ""), (entry.get("gatekeeper") or "").split()
    queue = QUEUE.search(entry.get("rsl") or "")
    imported.add(
        {
            "name": name_of(name),
            "site": name_of(value("GLIDEIN_Site") or name),
            "payload": "sh",
            "enabled": False if entry.get("enabled") == "False" else None,
            "type": kind,
            "contact": places[-1] if places else None,
            "queue": queue[1] if queue else None,
            "cores": "auto" if cores in {"auto", "slot", "node", "0", "-1"} else whole(cores),
            "memory_mib": whole(memory),
            "gpus": whole(gpus[1]) if gpus else None,
            "walltime_seconds": whole(value("GLIDEIN_Max_Walltime")),
            "vos": [vo for vo in re.split(r"[,\s]+", value("GLIDEIN_Supported_VOs")) if vo],
            "limits": _limits(entry),
            "proxies": [entry.get("proxy_url")] if (entry.get("proxy_url") or "").startswith("http") else None,
            "start_directory": entry.get("work_dir") if (entry.get("work_dir") or "").startswith("/") else None,
            "pilot": {"site": {"containers": CONTAINERS[required]}} if required in CONTAINERS else None,
            "submit": _submit(entry, kind or "", places),
        }
    )
    for place, what in _left(entry, used):
        imported.note(f"{name}.{place}", what)


CONTAINERS = {"REQUIRED": "required", "PREFERRED": "preferred", "NEVER": "never", "OPTIONAL": "optional"}
TYPES = {"condor": "condor", "arc": "arc"}
CLOUDS = ("ec2", "gce")


def _type(imported: Imported, name: str, gridtype: str) -> str | None:
    batch = BATCH.fullmatch(gridtype)
    if batch:
        return f"batch {batch[1]}"
    if gridtype not in TYPES:
        what = "needs a cloud by hand" if gridtype in CLOUDS else "is not submitted to; the entry needs a type"
        imported.note(f"{name}.gridtype", f"{gridtype or 'nothing'} {what}")
    return TYPES.get(gridtype)


def _submit(entry: Element, kind: str, places: list[str]) -> dict[str, Json]:
    """How the job is handed over: a schedd of another name than its host, where the blahp lies, further commands."""
    found: dict[str, Json] = {}
    if kind == "condor" and len(places) == 2 and places[0] != places[1].partition(":")[0]:
        found["schedd"] = places[0]
    glite = f"~/{entry.get('bosco_dir')}/glite"
    if kind.startswith("batch ") and entry.get("bosco_dir") and DIRECTORY.fullmatch(glite):
        found["glite"] = glite
    if lines := {name: value for name, value in _lines(entry) if _is_ours_to_take(name, value)}:
        found["lines"] = lines
    return found


def _lines(entry: Element) -> list[tuple[str, str]]:
    lines = entry.iterfind("./config/submit/submit_attrs/submit_attr")
    return [(one.get("name") or "", one.get("value") or "") for one in lines]


def _is_ours_to_take(name: str, value: str) -> bool:
    """What the environment of the other factory filled in means nothing here."""
    plain = "$" not in value and value.isprintable() and bool(value)
    return plain and bool(COMMAND.fullmatch(name)) and name.lower() not in OURS


def _limits(entry: Element) -> dict[str, Json]:
    found = {}
    for key, place in (("total", "glideins"), ("idle", "idle"), ("held", "held")):
        limit = entry.find("./config/max_jobs/per_entry")
        number = whole(limit.get(place)) if limit is not None else None
        if number:
            found[key] = number
    return found


def _left(entry: Element, used: set[str]) -> Iterator[tuple[str, str]]:
    """Everything of an entry that nothing was made of."""
    for key, value in entry.attrib.items():
        if key not in KNOWN_ENTRY:
            yield key, f"has no counterpart: {value}"
    yield from _left_of_attributes(entry)
    for one in entry.iterfind("./attrs/attr"):
        if one.get("name") not in used:
            yield f"attrs.{one.get('name')}", f"has no counterpart: {one.get('value')}"
    yield from _left_below(entry)


def _left_of_attributes(entry: Element) -> Iterator[tuple[str, str]]:
    rest = QUEUE.sub("", entry.get("rsl") or "")
    if rest:
        yield "rsl", f"has no counterpart: {rest}"
    if entry.get("work_dir") and not (entry.get("work_dir") or "").startswith("/"):
        yield "work_dir", f"{entry.get('work_dir')}: the pilot finds the batch system's own directory itself"


def _left_below(entry: Element) -> Iterator[tuple[str, str]]:
    for one in entry.iterfind("./files/file"):
        yield f"files.{one.get('absfname') or one.get('relfname')}", "becomes a plugin of the VO, or a setup"
    for one in entry.iterfind("./allow_frontends/allow_frontend"):
        yield f"allow_frontends.{one.get('name')}", "becomes a VO in vos"
    for one in entry.iterfind("./config/max_jobs/*"):
        if one.tag != "per_entry":
            yield f"config.max_jobs.{one.tag}", f"has no counterpart: {dict(one.attrib)}"
    for name, value in _lines(entry):
        if not _is_ours_to_take(name, value):
            yield f"config.submit.{name}", f"has no counterpart: {value}"
    for part in entry:
        if part.tag not in KNOWN_PARTS:
            yield part.tag, "has no counterpart"
