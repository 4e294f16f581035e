"""Entries from what OSG's computing elements advertise to its central collector: one for each pilot entry, or for the
largest resource, of their catalogs."""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.model import Json
from server_stub.factory.importing.common import Imported, name_of, whole

SPARE_SECONDS = 1800
"""Of a walltime: a pilot ends before its batch system ends it."""


def entries_from_osg(document: Json) -> Imported:
    """Entries from a list of ads as ``condor_status -schedd -json`` gives them."""
    imported = Imported()
    ads = document if isinstance(document, list) else []
    if not ads:
        imported.note("the document", "is no list of ads")
    for number, ad in enumerate(ads):
        if not isinstance(ad, Mapping) or not ad.get("Name"):
            imported.note(f"[{number}]", "is no ad with a Name")
            continue
        catalog = ad.get("OSG_ResourceCatalog")
        resources = [one for one in catalog if isinstance(one, Mapping)] if isinstance(catalog, list) else []
        meant = [one for one in resources if one.get("IsPilotEntry") is True]
        # Without one that is meant for pilots the largest fits most jobs.
        chosen = meant or sorted(resources, key=lambda one: -(whole(one.get("CPUs")) or 0))[:1]
        if not chosen:
            imported.note(str(ad["Name"]), "left out: its catalog names no resource")
        for resource in chosen:
            _add(imported, ad, resource)
    return imported


def _add(imported: Imported, ad: Mapping[str, Json], resource: Mapping[str, Json]) -> None:
    host = str(ad["Name"])
    site = ad.get("OSG_ResourceGroup") or ad.get("OSG_Resource") or host
    minutes = whole(resource.get("MaxWallTime"))
    seconds = max(SPARE_SECONDS, minutes * 60 - SPARE_SECONDS) if minutes else None
    vos = resource.get("AllowedVOs")
    imported.add(
        {
            "name": name_of(ad.get("OSG_Resource") or host, resource.get("Name")),
            "site": name_of(site),
            "payload": "sh",
            "type": "condor",
            "contact": str(ad.get("CollectorHost") or f"{host}:9619"),
            "queue": str(resource.get("Queue") or "") or None,
            "cores": "auto" if resource.get("WholeNode") is True else whole(resource.get("CPUs")),
            "memory_mib": "auto" if resource.get("WholeNode") is True else whole(resource.get("Memory")),
            "gpus": whole(resource.get("GPUs")),
            "walltime_seconds": seconds,
            "vos": [str(vo) for vo in vos] if isinstance(vos, list) else None,
        }
    )
    for key in ("Requirements", "Transform", "SendTests"):
        if resource.get(key):
            imported.note(f"{host}.{resource.get('Name', '')}.{key}", f"has no counterpart: {resource[key]}")
