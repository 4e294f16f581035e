"""What a payload carries: its bill of materials, and the licences of all that is in it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

from pilot_agent.carried import Carried
from pilot_agent.light import loads
from pilot_agent.model import Failure, FailureKind, Json, PilotError

SBOM = "sbom.cdx.json"
LICENCE = "pilot-agent:licence"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "pilot-agent/sbom")


def bill_of_materials(payload: Carried | None) -> dict[str, Json]:
    """The CycloneDX document of the payload; with the Python that ``pilot.sh`` brought, of both together.

    Raises ``PilotError``: usage without a payload, corruption where its files cannot be read.
    """
    if payload is None:
        message = "only a payload knows what it carries, and this is a checkout or an installed package"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "ask pilot.pyz or pilot.sh; make payload"))
    document = _read(payload.member(SBOM), payload.archive)
    if payload.runtime is not None:
        beside = _read(payload.runtime_member(SBOM), payload.runtime)
        runtime = {**beside["metadata"]["component"], "components": beside["components"]}
        document["serialNumber"] = _serial(document, beside)
        document["components"] += [runtime]
        document["dependencies"] += beside["dependencies"]
        own = next(each for each in document["dependencies"] if each["ref"] == "pilot-agent")
        own["dependsOn"] = [*own["dependsOn"], runtime["bom-ref"]]
    return document


def components(document: dict[str, Json]) -> Iterator[tuple[dict[str, Json], bool]]:
    """All packages of a bill of materials, the agent first, and whether each is from the Python that came along."""
    yield document["metadata"]["component"], False
    for part in document["components"]:
        if part["type"] == "platform":
            yield from ((inner, True) for inner in part["components"])
        else:
            yield part, False


def licence_page(payload: Carried | None) -> str:
    """Name, version and licence of each part, each followed by the texts. Raises as ``bill_of_materials``."""
    document = bill_of_materials(payload)
    if payload is None:
        raise ValueError("without a payload there is no bill of materials")
    lines = []
    shown: dict[str, str] = {}
    for part, from_runtime in components(document):
        title = f"{part['name']} {part['version']}: {_stated(part)}"
        lines += ["=" * 80, title, "=" * 80]
        for name in (item["value"] for item in part["properties"] if item["name"] == LICENCE):
            place = f"{name} of the carried Python" if from_runtime else name
            if place in shown:
                lines.append(f"[{place}: see {shown[place]}]")
                continue
            shown[place] = title
            data = payload.runtime_member(name) if from_runtime else payload.member(name)
            text = data.decode(errors="replace")
            lines += [f"[{place}]", "", _head(text) if name.endswith(".py") else text.rstrip(), ""]
    return "\n".join(lines) + "\n"


def _head(source: str) -> str:
    """The comment with which a module begins."""
    lines = source.splitlines()
    end = next((number for number, line in enumerate(lines) if line and not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#").strip() for line in lines[:end]).strip()


def _stated(part: dict[str, Json]) -> str:
    """The licence that a component names."""
    return " AND ".join(each.get("expression") or each["license"]["name"] for each in part["licenses"])


def _serial(*documents: dict[str, Json]) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, ' '.join(each['serialNumber'] for each in documents))}"


def _read(data: bytes, place: str) -> dict[str, Json]:
    try:
        document: dict[str, Json] = loads(data)
    except ValueError as error:
        message = f"{os.path.join(place, SBOM)} is damaged: {error}"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.digest", message, "transfer it again")) from error
    return document
