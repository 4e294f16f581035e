"""A frontend's files from the XML configuration of a GlideinWMS frontend: one for each of its groups, which decides by
itself, and beside it what its pilots are told. Everything that has no counterpart is listed with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pilot_agent.config_collectors import COLLECTORS
from pilot_agent.model import Json, PilotError
from server_stub.factory.importing.common import name_of
from server_stub.factory.importing.scripts import pilot_of
from server_stub.factory.importing.xml import Part, read_xml
from server_stub.factory.texts import shown
from server_stub.frontend.expressions import parse_expression
from server_stub.frontend.importing.credentials import credentials_of
from server_stub.frontend.importing.limits import limits_of
from server_stub.frontend.importing.match_expressions import Names, convert_match
from server_stub.frontend.importing.terms import NotConvertibleError

EVERYTHING = ("True", "true", "", "(True)")
URL = "https://{host}:8443"
REASONS: tuple[tuple[str, str], ...] = (
    (r"(work|stage|monitor|monitor_footer|log_retention)\b.*", "is about GlideinWMS's own files and web pages"),
    (r".*\.processing_workers\b.*", "is not needed: one process decides"),
    (r"high_availability\b.*", "run the second frontend under the same name only while the first is away"),
    (r".*\.policy_file$", "is Python that would be run: write what it decides as policy.match and policy.rank"),
    (r".*\.(DN|my_identity|factory_identity|proxy_DN)$", "is not needed: each side proves itself by a key or a token"),
    (r".*\bsecurity\b.*\bcredential\b.*", "of a credential: see credentials; its content was not looked at"),
    (r".*\bsecurity\.idtoken_.*", "pilots' tokens last as long as pilots do: see credentials.pilots"),
    (r".*\.comment$", "is a remark"),
    (r".*\bmatch_attr\[.*\]\.name$", "is not needed: a factory tells all attributes of its entries"),
    (r".*\bmatch_attr(\[.*\])?\.type$", "told the conversion of match_expr what it compares"),
    (r".*_global\..*", "held for all groups of GlideinWMS together; give each of these frontends its share"),
    (r"(?!groups).*\.running_glideins_total\..*", "holds for each of these frontends by itself now"),
)


@dataclass(slots=True)
class ImportedGroup:
    """What becomes of one group: the frontend's document, and the VO's layer of its pilots' configuration."""

    name: str
    frontend: dict[str, Json]
    pilot: dict[str, Json]


@dataclass(slots=True)
class ImportedFrontend:
    """All groups, and what nothing was made of, each with its place."""

    groups: list[ImportedGroup] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, place: str, what: str) -> None:
        """Something that a person must look at."""
        self.notes.append(f"{shown(place)}: {shown(what)}")


def frontend_from_glideinwms(content: bytes, vo: str) -> ImportedFrontend:
    """The frontends for the groups of ``frontend.xml``, for the jobs of a VO. Raises ``PilotError`` (config.syntax)."""
    root = Part(read_xml(content))
    imported = ImportedFrontend()
    groups = root.all("groups/group")
    for group in groups:
        if group.look("enabled", "True") != "True":
            imported.note(group.place, "left out: it is not enabled")
            group.pass_over()
        else:
            group.take("enabled")
            imported.groups.append(_group(imported, root, group, vo))
    if not imported.groups:
        imported.note("groups", "none is enabled, so nothing was made")
    for place, value in root.left():
        imported.note(place, f"{_reason(place)}{f': {value}' if value else ''}")
    return imported


def _reason(place: str) -> str:
    return next((reason for pattern, reason in REASONS if re.fullmatch(pattern, place)), "has no counterpart")


def _group(imported: ImportedFrontend, root: Part, group: Part, vo: str) -> ImportedGroup:
    name = name_of(root.take("frontend_name") or "frontend", group.take("name") or "main")
    attributes = [*root.all("attrs/attr"), *group.all("attrs/attr")]
    matches = [root.one("match"), group.one("match")]
    collectors = _collectors(imported, root)
    frontend: dict[str, Json] = {
        "name": name,
        "cycle_seconds": _seconds(root.take("loop_delay")),
        "pool": {"collectors": collectors},
        "access_points": _access_points(imported, matches),
        "factories": _factories(imported, matches),
        "vo": {"name": vo, **_containers(attributes)},
        "policy": _policy(imported, matches, attributes),
        **limits_of(root, group),
        "credentials": credentials_of([root, group]),
    }
    start = _joined(imported, matches, "start_expr")
    pilot = pilot_of(imported.note, [(root, "client"), (group, "client_group")], attributes)
    pilot |= {"vo": {"name": vo, "group": name_of(group.look("name") or "main"), **_containers(attributes)}}
    pilot |= {"startd": {"start": start}} if start else {}
    pilot |= {"pool": {"collectors": collectors, **_brokers(root)}} if collectors else {}
    return ImportedGroup(name, _known(frontend), _known(pilot))


def _known(document: Mapping[str, Json]) -> dict[str, Json]:
    """Without what the configuration did not say."""
    inner = {key: _known(value) if isinstance(value, Mapping) else value for key, value in document.items()}
    return {key: value for key, value in inner.items() if value not in (None, "", [], {})}


def _seconds(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= 3600 else None


def _collectors(imported: ImportedFrontend, root: Part) -> list[str]:
    """Those of the user pool. A group of collectors stands for one another; a pilot draws one."""
    groups: dict[str, list[str]] = {}
    for one in root.all("collectors/collector"):
        node = one.take("node")
        if re.fullmatch(COLLECTORS, node):
            groups.setdefault(one.take("group") or "default", []).append(node)
        else:
            imported.note(f"{one.place}.node", f"is no address of a collector: {node}")
    return [", ".join(nodes) for nodes in groups.values()]


def _brokers(root: Part) -> dict[str, Json]:
    nodes = [one.take("node") for one in root.all("ccbs/ccb")]
    return {"ccb_brokers": [node for node in nodes if re.fullmatch(COLLECTORS, node)]}


def _access_points(imported: ImportedFrontend, matches: Iterable[Part]) -> dict[str, Json]:
    parts = [match.one("job") for match in matches]
    names = [schedd.take("fullname") for part in parts for schedd in part.all("schedds/schedd")]
    return {"names": list(dict.fromkeys(filter(None, names))), "jobs": _joined(imported, parts, "query_expr")}


def _factories(imported: ImportedFrontend, matches: Iterable[Part]) -> list[Json]:
    """A factory of this project stands where one of GlideinWMS did; only its operator can tell its address."""
    found: dict[str, Json] = {}
    for match in matches:
        for one in match.all("factory/collectors/collector"):
            node = one.take("node")
            host = re.split("[:?,;]", node)[0]
            if not re.fullmatch(r"[A-Za-z0-9.-]+", host):
                imported.note(f"{one.place}.node", f"is no address: {node}")
                continue
            found[host] = {"name": name_of(host), "url": URL.format(host=host)}
            imported.note(f"factories.{name_of(host)}.url", "a guess: ask the factory's operator for its address")
    return list(found.values())


def _joined(imported: ImportedFrontend, parts: Iterable[Part], attribute: str) -> str:
    """The ClassAd expressions of frontend and group, all of which must be true. One that HTCondor does not take
    becomes ``false``: nothing is asked for before a person has looked."""
    found = []
    for part in parts:
        text = part.take(attribute).strip()
        if text in EVERYTHING:
            continue
        try:
            parse_expression(text, attribute)
            found.append(text)
        except PilotError as error:
            imported.note(f"{part.place}.{attribute}", f"became false: {error.failure.message}")
            found.append("false")
    return found[0] if len(found) == 1 else " && ".join(f"({text})" for text in dict.fromkeys(found))


def _policy(imported: ImportedFrontend, matches: list[Part], attributes: Iterable[Part]) -> dict[str, Json]:
    names = _names(matches, attributes)
    found = [text for text in (_joined(imported, [match.one("factory") for match in matches], "query_expr"),) if text]
    for match in matches:
        text = match.take("match_expr").strip()
        if text in EVERYTHING:
            continue
        try:
            found.append(convert_match(text, names))
        except NotConvertibleError as error:
            imported.note(f"{match.place}.match_expr", f"became false; {error}: {text}")
            found.append("false")
    expression = found[0] if len(found) == 1 else " && ".join(f"({text})" for text in found)
    return {"match": expression, "attributes": sorted(names.job)}


def _names(matches: Iterable[Part], attributes: Iterable[Part]) -> Names:
    jobs: dict[str, str] = {}
    entries: dict[str, str] = {}
    for match in matches:
        for side, types in (("job", jobs), ("factory", entries)):
            for one in match.all(f"{side}/match_attrs/match_attr"):
                name = one.take("name") if side == "job" else one.look("name")
                types[name] = one.look("type")
    constants = {one.look("name"): _value(one.look("type", "string"), one.look("value")) for one in attributes}
    return Names(jobs, entries, constants)


def _value(kind: str, text: str) -> str | int:
    return int(text) if kind == "int" and re.fullmatch(r"[-+]?[0-9]{1,15}", text) else text


CONTAINERS = ("DISABLE_GWMS", "NEVER", "OPTIONAL", "PREFERRED", "REQUIRED", "REQUIRED_GWMS")


def _containers(attributes: Iterable[Part]) -> dict[str, Json]:
    """The VO's word for containers; the group's counts before the frontend's."""
    words = [one.look("value").upper() for one in attributes if one.look("name") == "GLIDEIN_Singularity_Use"]
    return {"containers": words[-1].lower()} if words and words[-1] in CONTAINERS else {}


def documents(imported: ImportedFrontend) -> Iterator[tuple[str, dict[str, Json]]]:
    """Each document with the name of its file."""
    for group in imported.groups:
        yield f"{group.name}.yaml", group.frontend
        yield f"{group.name}.pilots.yaml", group.pilot
