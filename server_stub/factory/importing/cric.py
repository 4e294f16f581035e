"""Entries from CRIC's JSON of PanDA queues: one for each computing element of a queue that is in use."""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.model import Json
from server_stub.factory.importing.common import Imported, name_of, whole

FLAVOURS = {"HTCONDOR-CE": "condor", "HTCONDOR": "condor", "ARC-CE": "arc", "ARC": "arc"}
NOTED = ("catchall", "environ", "params", "container_options", "maxinputsize", "maxwdir", "pilot_version")
"""Of the rest of a queue: what changes how its pilots run."""


def entries_from_cric(document: Json) -> Imported:
    """Entries from the document that CRIC gives for ``pandaqueue/query/?json``."""
    imported = Imported()
    queues = document if isinstance(document, Mapping) else {}
    if not queues:
        imported.note("the document", "holds no queues by name")
    for name, queue in sorted(queues.items()):
        if not isinstance(queue, Mapping):
            imported.note(name, "is no queue")
        elif str(queue.get("state", "ACTIVE")).upper() != "ACTIVE":
            imported.note(name, f"left out: its state is {queue.get('state')}")
        else:
            _add_queue(imported, str(name), queue)
    return imported


def _add_queue(imported: Imported, name: str, queue: Mapping[str, Json]) -> None:
    elements = queue.get("queues")
    used = 0
    for element in elements if isinstance(elements, list) else []:
        if isinstance(element, Mapping) and str(element.get("ce_state", "ACTIVE")).upper() == "ACTIVE":
            used += _add_element(imported, name, queue, element)
    if not used:
        imported.note(name, "left out: it has no computing element in use of a kind that is known")
    for key in NOTED:
        if queue.get(key) not in (None, "", {}, [], 0):
            imported.note(f"{name}.{key}", f"has no counterpart: {queue[key]}")


def _add_element(imported: Imported, name: str, queue: Mapping[str, Json], element: Mapping[str, Json]) -> bool:
    flavour = str(element.get("ce_flavour") or "").upper()
    contact = str(element.get("ce_endpoint") or "")
    kind = FLAVOURS.get(flavour)
    if kind is None or not contact:
        imported.note(
            name, f"left out: a computing element of the kind {flavour or 'nothing'} at {contact or 'nowhere'}"
        )
        return False
    cores = whole(queue.get("corecount")) or 1
    offline = str(queue.get("status", "online")).lower() not in {"online", "test"}
    containers = "singularity" in str(queue.get("container_type") or "") or "apptainer" in str(
        queue.get("container_type")
    )
    imported.add(
        {
            "name": name_of(name, contact.partition(":")[0]),
            "site": name_of(queue.get("rc_site") or queue.get("site") or queue.get("atlas_site") or name),
            "payload": "sh",
            "enabled": False if offline else None,
            "type": kind,
            "contact": contact,
            "queue": str(element.get("ce_queue_name") or "") or None,
            "cores": cores,
            "memory_mib": whole(queue.get("maxrss")),
            "walltime_seconds": whole(queue.get("maxtime")),
            "vos": [str(queue["vo_name"])] if queue.get("vo_name") else None,
            "pilot": {"site": {"containers": "preferred"}} if containers else None,
        }
    )
    return True
