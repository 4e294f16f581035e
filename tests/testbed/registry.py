"""A real image registry (Debian's docker-registry) for a host of the testbed."""

from __future__ import annotations

from pathlib import Path

from tests.testbed import cache
from tests.testbed.command import call

PACKAGE = "docker-registry"
PORT = 5000
DOWNLOAD_TIMEOUT_SECONDS = 300.0

CONFIGURATION = f"""\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: /var/tmp/registry}}}}
http:
  addr: localhost:{PORT}
  tls: {{certificate: /tls/good.pem, key: /tls/server_key.pem}}
"""

# Publishes one layer as an image, with the protocol of the OCI distribution specification. Arguments: NAME LAYER.
PUBLISH = r"""
import gzip, hashlib, http.client, json, platform, ssl, sys
name, layer = sys.argv[1], open(sys.argv[2], "rb").read()
context = ssl.create_default_context(cafile="/tls/ca.pem")


def ask(method, path, body=b"", **headers):
    connection = http.client.HTTPSConnection("localhost", 5000, context=context)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    assert answer.status < 300, (method, path, answer.status, answer.read())
    return answer.headers


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def blob(content, kind):
    at = ask("POST", f"/v2/{name}/blobs/uploads/")["Location"]
    at = at[at.index("/v2/"):]
    ask("PUT", f"{at}&digest={digest(content)}", content, **{"Content-Type": "application/octet-stream"})
    return {"mediaType": kind, "digest": digest(content), "size": len(content)}


architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
layers = {"type": "layers", "diff_ids": [digest(layer)]}
config = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": layers}
start = "application/vnd.oci.image"
manifest = json.dumps({
    "schemaVersion": 2, "mediaType": f"{start}.manifest.v1+json",
    "config": blob(json.dumps(config).encode(), f"{start}.config.v1+json"),
    "layers": [blob(gzip.compress(layer, 1), f"{start}.layer.v1.tar+gzip")],
}).encode()
ask("PUT", f"/v2/{name}/manifests/1", manifest, **{"Content-Type": f"{start}.manifest.v1+json"})
print(digest(manifest))
"""


def ensure(root: Path | None = None) -> Path:
    """A directory with the unpacked package and ``registry.yml``. Raises CommandError when it cannot be had."""
    chosen = root if root is not None else cache.directory()
    return cache.build_once(chosen, "registry", [PACKAGE, CONFIGURATION], _build)


def _build(target: Path) -> None:
    script = 'cd "$0" && apt-get -q download "$1" && dpkg-deb -x ./*.deb . && rm ./*.deb'
    call(["sh", "-ec", script, str(target), PACKAGE], timeout_seconds=DOWNLOAD_TIMEOUT_SECONDS)
    (target / "registry.yml").write_text(CONFIGURATION, encoding="utf-8")
