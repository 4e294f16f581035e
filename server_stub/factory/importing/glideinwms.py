"""Entries from the configuration of a GlideinWMS factory: attributes, files, limits, submission. Each thing without a
counterpart is listed. Nothing in it is evaluated, and a document that declares a type or entities is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from pilot_agent.model import Json
from server_stub.factory.entry_submit import COMMAND, DIRECTORY, OURS
from server_stub.factory.importing.common import Imported, name_of, whole
from server_stub.factory.importing.scripts import pilot_of
from server_stub.factory.importing.xml import Part, read_xml

BATCH = re.compile(r"batch (slurm|pbs|lsf|sge|condor)")
QUEUE = re.compile(r"\(queue=\"?([A-Za-z0-9_.-]+)\"?\)")
GPUS = re.compile(r"\bGPUs?,(\d+)")
CONTAINERS = {"REQUIRED": "required", "PREFERRED": "preferred", "NEVER": "never", "OPTIONAL": "optional"}
TYPES = {"condor": "condor", "arc": "arc"}
CLOUDS = ("ec2", "gce")
SWITCHES = ("True", "False")
KEYS = (
    "GLIDEIN_Site", "GLIDEIN_CPUS", "GLIDEIN_MaxMemMBs", "GLIDEIN_Max_Walltime", "GLIDEIN_Supported_VOs",
    "GLIDEIN_Resource_Slots", "GLIDEIN_SINGULARITY_REQUIRE",
)  # fmt: skip
"""Attributes that become keys of an entry. All others go to the pilot as they are."""
FLAG = re.compile(r".*\.attr\[[^]]*\]\.(\w+)")
REASONS: tuple[tuple[str, str], ...] = (
    (r".*\ballow_frontend\b.*", "becomes a frontend of factory.yaml, or a VO in vos"),
    (r".*\.(auth_method|trust_domain)", "is said by the credentials that a frontend gives"),
    (r".*\.comment", "is a remark"),
)


def entries_from_glideinwms(content: bytes) -> Imported:
    """Entries from ``glideinWMS.xml``. Raises ``PilotError`` (config.syntax)."""
    root = Part(read_xml(content))
    imported = Imported()
    for entry in root.all("entries/entry"):
        _add_entry(imported, entry)
    if not imported.entries:
        imported.note(root.tag, "holds no entry below entries")
    imported.pilot = pilot_of(imported.note, [(root, "main")], root.all("attrs/attr"))
    _tell_the_rest(imported, root)
    return imported


def _tell_the_rest(imported: Imported, root: Part) -> None:
    """Everything that nothing was made of; flags of attributes are counted, as there may be thousands."""
    flags: Counter[tuple[str, str]] = Counter()
    for place, value in root.left():
        flag = FLAG.fullmatch(place)
        if flag:
            flags[flag[1], value] += 1
            continue
        reason = next((why for pattern, why in REASONS if re.fullmatch(pattern, place)), "has no counterpart")
        imported.note(_short(place), f"{reason}{f': {value}' if value else ''}")
    for (flag_name, value), number in sorted(flags.items()):
        imported.note(f"attr.{flag_name}", f"{value} of {number} attributes has no counterpart")


def _short(place: str) -> str:
    """The place without what is the same for all entries."""
    return re.sub(r"^entries\.entry(?:\[([^]]*)\])?", r"\1", place).lstrip(".") or place


def _add_entry(imported: Imported, entry: Part) -> None:
    name = entry.take("name") or "unnamed"
    attributes = entry.all("attrs/attr")
    known = {one.look("name"): one for one in attributes if one.look("name") in KEYS}

    def value(attribute: str) -> str:
        if attribute not in known:
            return ""
        known[attribute].take("name")
        return known[attribute].take("value")

    cores, memory, slots = value("GLIDEIN_CPUS"), value("GLIDEIN_MaxMemMBs"), value("GLIDEIN_Resource_Slots")
    gpus = GPUS.search(slots)
    kind, places = _type(imported, name, entry.take("gridtype")), entry.take("gatekeeper").split()
    proxy, directory = _proxy(imported, name, entry), _directory(imported, name, entry)
    imported.add(
        {
            "name": name_of(name),
            "site": name_of(value("GLIDEIN_Site") or name),
            "payload": "sh",
            "enabled": False if _switch(imported, name, entry) else None,
            "type": kind,
            "contact": places[-1] if places else None,
            "queue": _queue(imported, name, entry),
            "cores": "auto" if cores in {"auto", "slot", "node", "0", "-1"} else whole(cores),
            "memory_mib": whole(memory),
            "gpus": whole(gpus[1]) if gpus else None,
            "walltime_seconds": whole(value("GLIDEIN_Max_Walltime")),
            "vos": [vo for vo in re.split(r"[,\s]+", value("GLIDEIN_Supported_VOs")) if vo],
            "limits": _limits(entry),
            "proxies": [proxy] if proxy else None,
            "start_directory": directory,
            "pilot": _pilot(imported, entry, value("GLIDEIN_SINGULARITY_REQUIRE").upper(), slots, known.values()),
            "submit": _submit(imported, name, entry, kind or "", places),
        }
    )
    for part in known.values():
        _tell_unread(imported, name, part)


def _tell_unread(imported: Imported, name: str, one: Part) -> None:
    """A key's attribute whose value is none that the key may have."""
    key, value = one.look("name"), one.look("value")
    number = key in ("GLIDEIN_CPUS", "GLIDEIN_MaxMemMBs", "GLIDEIN_Max_Walltime")
    if (number and whole(value) is None and value not in {"auto", "slot", "node", "0", "-1"}) or (
        key == "GLIDEIN_SINGULARITY_REQUIRE" and value.upper() not in CONTAINERS
    ):
        imported.note(f"{name}.attrs.attr[{key}].value", f"has no counterpart: {value}")


def _switch(imported: Imported, name: str, entry: Part) -> bool:
    """Whether the entry is switched off."""
    given = entry.take("enabled", "True")
    if given not in SWITCHES:
        imported.note(f"{name}.enabled", f"neither True nor False, taken for False: {given}")
    return given != "True"


def _proxy(imported: Imported, name: str, entry: Part) -> str:
    given = entry.take("proxy_url")
    if given and not given.startswith("http"):
        imported.note(f"{name}.proxy_url", f"has no counterpart, the pilot asks its node: {given}")
        return ""
    return given


def _directory(imported: Imported, name: str, entry: Part) -> str | None:
    given = entry.take("work_dir")
    if given and not given.startswith("/"):
        imported.note(f"{name}.work_dir", f"{given}: the pilot finds the batch system's own directory itself")
    return given if given.startswith("/") else None


def _queue(imported: Imported, name: str, entry: Part) -> str | None:
    given = entry.take("rsl")
    found, rest = QUEUE.search(given), QUEUE.sub("", given)
    if rest:
        imported.note(f"{name}.rsl", f"has no counterpart: {rest}")
    return found[1] if found else None


def _type(imported: Imported, name: str, gridtype: str) -> str | None:
    batch = BATCH.fullmatch(gridtype)
    if batch:
        return f"batch {batch[1]}"
    if gridtype not in TYPES:
        what = "needs a cloud by hand" if gridtype in CLOUDS else "is not submitted to; the entry needs a type"
        imported.note(f"{name}.gridtype", f"{gridtype or 'nothing'} {what}")
    return TYPES.get(gridtype)


def _pilot(imported: Imported, entry: Part, required: str, slots: str, known: Iterable[Part]) -> dict[str, Json]:
    """What the entry's pilots are told: the site's word for containers, its further resources, scripts, attributes."""
    keys = list(known)
    others = [one for one in entry.all("attrs/attr") if one not in keys]
    made = pilot_of(imported.note, [(entry, "entry")], others)
    if required in CONTAINERS:
        made["site"] = {"containers": CONTAINERS[required]}
    if slots:
        made["startd"] = {"resource_slots": slots}
    return made


def _submit(imported: Imported, name: str, entry: Part, kind: str, places: list[str]) -> dict[str, Json]:
    """How the job is handed over: a schedd of another name than its host, where the blahp lies, further commands."""
    found: dict[str, Json] = {}
    if kind == "condor" and len(places) == 2 and places[0] != places[1].partition(":")[0]:
        found["schedd"] = places[0]
    elif len(places) > 1:
        imported.note(f"{name}.gatekeeper", f"only its last word counts: {' '.join(places)}")
    bosco = entry.look("bosco_dir")
    if kind.startswith("batch ") and bosco and DIRECTORY.fullmatch(f"~/{bosco}/glite"):
        found["glite"] = f"~/{entry.take('bosco_dir')}/glite"
    if lines := _lines(imported, name, entry):
        found["lines"] = lines
    return found


def _lines(imported: Imported, name: str, entry: Part) -> dict[str, Json]:
    """Further submit commands, those that only the other factory could fill in left aside."""
    found: dict[str, Json] = {}
    for one in entry.all("config/submit/submit_attrs/submit_attr"):
        command, value = one.take("name"), one.take("value")
        if _is_ours_to_take(command, value):
            found[command] = value
        else:
            imported.note(f"{name}.config.submit.{command}", f"has no counterpart: {value}")
    return found


def _is_ours_to_take(name: str, value: str) -> bool:
    """What the environment of the other factory filled in means nothing here."""
    plain = "$" not in value and value.isprintable() and bool(value)
    return plain and bool(COMMAND.fullmatch(name)) and name.lower() not in OURS


def _limits(entry: Part) -> dict[str, Json]:
    """Those of the entry; what is no number stays as it is, to be told."""
    limit = entry.one("config/max_jobs/per_entry")
    found: dict[str, Json] = {}
    for key, place in (("total", "glideins"), ("idle", "idle"), ("held", "held")):
        if number := whole(limit.look(place)):
            limit.take(place)
            found[key] = number
    return found
