"""Bills of materials (CycloneDX 1.6): what pilot.pyz carries, and what the Python beside it in pilot.sh does.

Components have two properties of our own, each as often as needed: `pilot-agent:file`, a file of theirs (a directory
where it ends in a slash), and `pilot-agent:licence`, a file with the text of their licence.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from payload.contents import AGENT_LICENCE, Component
from payload.debs import Deb

Json = dict[str, object]
NAME = "pilot-agent"
LICENCE = "Apache-2.0"
FILE = "sbom.cdx.json"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "pilot-agent/sbom")
# What Debian's copyright files say of the parts that are carried, in SPDX's terms.
DEBIAN_LICENCES = {
    "python3.13-minimal": "PSF-2.0", "libpython3.13-minimal": "PSF-2.0", "libpython3.13-stdlib": "PSF-2.0",
    "libc6": "LGPL-2.1-or-later", "libexpat1": "MIT", "zlib1g": "Zlib", "libssl3t64": "Apache-2.0", "libffi8": "MIT",
    "libbz2-1.0": "bzip2-1.0.6", "liblzma5": "0BSD", "libzstd1": "BSD-3-Clause OR GPL-2.0-only",
    "libgcc-s1": "GPL-3.0-or-later WITH GCC-exception-3.1", "libuuid1": "BSD-3-Clause",
}  # fmt: skip
_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+(-[A-Za-z0-9.+-]+| (OR|AND|WITH) [A-Za-z0-9.+-]+)*")
# Words that packages write in place of an identifier.
_NO_IDENTIFIER = {"BSD", "Apache", "GPL", "LGPL", "Python"}


@dataclass(frozen=True, slots=True)
class CarriedDeb:
    """A Debian package of which files are carried: these, and those with its licence."""

    deb: Deb
    source: str
    files: tuple[str, ...]
    licences: tuple[str, ...]


def archive_sbom(
    version: str, timestamp: str | None, components: Sequence[Component], files: Mapping[str, bytes]
) -> bytes:
    """Of pilot.pyz, whose other files are these."""
    own = ["__main__.py", "__main__.pyc", "MANIFEST.json", FILE, AGENT_LICENCE, "pilot_agent/"]
    root = _component("application", NAME, version, NAME, LICENCE, own, [AGENT_LICENCE])
    parts = [_of_index(component, files) for component in components]
    return _document(root, parts, timestamp, files)


def runtime_sbom(version: str, debs: Sequence[CarriedDeb], files: Mapping[str, bytes], own: Iterable[str]) -> bytes:
    """Of the directory that pilot.sh unpacks, whose other files are these; `own` are no package's."""
    root = _component("platform", f"{NAME}-runtime", version, f"{NAME}-runtime", LICENCE, own, [])
    return _document(root, [_of_debian(each) for each in debs], None, files)


def _document(root: Json, parts: Sequence[Json], timestamp: str | None, files: Mapping[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, digest.hexdigest())}",
        "version": 1,
        "metadata": {**({"timestamp": timestamp} if timestamp else {}), "component": root},
        "components": list(parts),
        "dependencies": [{"ref": root["bom-ref"], "dependsOn": sorted(str(part["bom-ref"]) for part in parts)}],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _component(
    kind: str, name: str, version: str, ref: str, licence: str, files: Iterable[str], licences: Iterable[str]
) -> Json:
    properties = [{"name": "pilot-agent:file", "value": file} for file in sorted(files)]
    properties += [{"name": "pilot-agent:licence", "value": file} for file in sorted(licences)]
    stated = {"expression": licence} if is_expression(licence) else {"license": {"name": licence}}
    return {
        "type": kind,
        "bom-ref": ref,
        "name": name,
        "version": version,
        "licenses": [stated],
        "properties": properties,
    }


def is_expression(licence: str) -> bool:
    """Whether it looks like SPDX's, so like `MIT` or `Apache-2.0 OR MIT`."""
    return bool(_EXPRESSION.fullmatch(licence)) and licence not in _NO_IDENTIFIER


def _of_index(component: Component, files: Mapping[str, bytes]) -> Json:
    """A package from the Python package index, or a plugin."""
    purl = f"pkg:pypi/{component.name.lower().replace('_', '-')}@{quote(component.version)}"
    names = component.roots
    inside = [name for name in files if name.startswith(tuple(n for n in names if n.endswith("/"))) or name in names]
    texts = [name for name in inside if re.search(r"\.dist-info/(licenses/.|LICEN[CS]E|COPYING|NOTICE)", name)]
    native = [name for name in inside if name.endswith(".so")]
    part = _component(
        "library", component.name, component.version, purl, component.licence, names, texts or component.licence_in
    )
    part["purl"] = purl
    part["externalReferences"] = [
        {
            "type": "distribution",
            "url": f"https://pypi.org/project/{component.name}/{quote(component.version)}/",
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for digest in component.sha256
    ]
    if native:
        part["components"] = [
            {"type": "file", "bom-ref": name, "name": name, "hashes": [_hash(files[name])]} for name in sorted(native)
        ]
    return part


def _of_debian(carried: CarriedDeb) -> Json:
    deb = carried.deb
    architecture = deb.file.removesuffix(".deb").rpartition("_")[2]
    purl = f"pkg:deb/debian/{quote(deb.name)}@{quote(deb.version)}?arch={architecture}&distro=debian-13"
    licence = DEBIAN_LICENCES[deb.name]
    part = _component("library", deb.name, deb.version, purl, licence, carried.files, carried.licences)
    part["purl"] = purl
    part["hashes"] = [{"alg": "SHA-256", "content": deb.sha256}]
    source = f"https://snapshot.debian.org/package/{quote(carried.source)}/"
    part["externalReferences"] = [{"type": "source-distribution", "url": source}]
    return part


def _hash(data: bytes) -> Json:
    return {"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}
