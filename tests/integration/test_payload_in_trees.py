"""The payload on nodes of several ages, on one without any Python, and on one that has nothing but busybox."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.integration.conftest import BUILT
from tests.probes import doubles
from tests.testbed import trees
from tests.testbed.bare_nodes import DEBIAN_11, DEBIAN_12, BareNode, busybox_tree
from tests.testbed.runs import run_directory

PROJECT = Path(__file__).resolve().parents[2]
LAUNCHER = PROJECT / "packaging/launcher.sh"
PAYLOAD = "/srv/payload"
KEPT = {"PILOT_AGENT_RUNTIME_DIR": "/home/pilot/kept"}
FIT = ("--profile", "none", "--require", "cpu.usable >= 1")
NODES: dict[str, trees.TreeRecipe | None] = {
    "debian11": DEBIAN_11,
    "debian12": DEBIAN_12,
    "debian13": trees.NODE,
    "without-python": DEBIAN_12,
    "busybox": None,
}


@pytest.fixture(scope="module")
def make_node(testbed_machine: None) -> Iterator[Callable[[str], BareNode]]:
    """Makes the node of a name, with payloads and launcher, once."""
    with run_directory() as directory:
        shared = directory / "payload"
        shared.mkdir(mode=0o755)
        for path in (BUILT / "pilot.pyz", BUILT / "pilot.sh", LAUNCHER):
            shutil.copy2(path, shared)
            (shared / path.name).chmod(0o755)
        made: dict[str, BareNode] = {}

        def make(name: str) -> BareNode:
            if name not in made:
                recipe = NODES[name]
                tree = trees.ensure(recipe) if recipe else busybox_tree(directory / "busybox-tree")
                made[name] = BareNode(tree, directory / name, ((shared, PAYLOAD),))
                if name == "without-python":
                    made[name].hide(trees.PYTHON_PATTERNS)
                home = made[name].path("/home/pilot/x").parent
                os.chown(home, trees.PILOT.uid, trees.PILOT.uid)
            return made[name]

        yield make


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest, make_node: Callable[[str], BareNode]) -> BareNode:
    """Each of them."""
    return make_node(request.param)


def launched(node: BareNode, payload: str, *options: str) -> list[str]:
    """The words that start a payload as a factory's job does."""
    digest = hashlib.sha256((node.binds[0][0] / payload).read_bytes()).hexdigest()
    words = ["/bin/sh", f"{PAYLOAD}/launcher.sh", "--payload", f"{PAYLOAD}/{payload}", "--sha256", digest]
    return [*words, *options, "--"]


def test_the_payload_with_its_own_python_answers_everywhere(node: BareNode) -> None:
    start = launched(node, "pilot.sh")
    done = node.run([*start, "version", "--json"])
    assert done.returncode == 0, done.stderr
    about = json.loads(done.stdout)
    assert about["python"]["carried"] is True
    assert about["digest"] in start
    probed = node.run([*start, "probe", "--json"], KEPT)
    assert probed.returncode == 0, probed.stderr
    judged = node.run([*start, "check", "--json", *FIT], KEPT)
    assert "Traceback" not in probed.stderr + judged.stderr
    report = json.loads(judged.stdout)
    bad = [(c["name"], c["status"], c["message"]) for c in report["checks"] if c["status"] != "pass"]
    assert judged.returncode == 0, bad
    jsonschema.validate(report, json.loads((PROJECT / "pilot_agent/report.schema.json").read_text()))
    assert report["node"]["cpu"]["usable"]["status"] == "known"
    left = [path.name for path in (node.directory / "upper/tmp").glob("*")]
    assert left == []


@pytest.fixture
def own_python(node: BareNode) -> list[str]:
    """The Python that pilot.sh brought, kept on the node, isolated."""
    done = node.run([f"{PAYLOAD}/pilot.sh", "--version"], KEPT)
    assert done.returncode == 0, done.stderr
    (kept,) = (node.directory / "upper/home/pilot/kept").iterdir()
    return [f"/home/pilot/kept/{kept.name}/bin/python3.13", "-I", "-S", "-B", "-c"]


NAMES = """
import os, pwd, socket
print(pwd.getpwuid(os.getuid()).pw_name, pwd.getpwuid(4242).pw_name)
print(sorted({found[4][0] for found in socket.getaddrinfo("node.example.org", 80)}))
try:
    socket.getaddrinfo("absent.example.org", 80)
except socket.gaierror:
    print("absent")
"""


def test_it_knows_the_accounts_and_hosts_of_the_node(node: BareNode, own_python: list[str], tmp_path: Path) -> None:
    source = Path(__file__).with_name("nss_double.c")
    library = tmp_path / "libnss_sss.so.2"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    node.write("/usr/lib/x86_64-linux-gnu/libnss_sss.so.2", library.read_bytes())
    # This one is no library at all: what cannot be loaded is passed over.
    node.write("/usr/lib/x86_64-linux-gnu/libnss_broken.so.2", "not a library")
    node.write("/etc/nsswitch.conf", "passwd: broken files sss\nhosts: files broken [NOTFOUND=return] dns\n")
    node.write("/etc/hosts", "127.0.0.1 localhost\n192.0.2.7 node.example.org\n")
    done = node.run([*own_python, NAMES])
    assert done.stdout == "pilot from-sss\n['192.0.2.7']\nabsent\n", done.stderr


TLS = """
import socket, ssl, sys, threading
sys.path.insert(0, sys.argv[1])
from pilot_agent.containers.store.authorities import verifying_context

server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("/srv/tls/good.pem", "/srv/tls/server_key.pem")
listener = socket.create_server(("127.0.0.1", 0))

def serve():
    while True:
        try:
            server.wrap_socket(listener.accept()[0], server_side=True).close()
        except OSError:
            pass

threading.Thread(target=serve, daemon=True).start()
for environment in ({}, {"SSL_CERT_FILE": "/srv/tls/other_ca.pem"}):
    try:
        with socket.create_connection(listener.getsockname()) as plain:
            with verifying_context(environment).wrap_socket(plain, server_hostname="localhost") as safe:
                print(safe.version())
    except ssl.SSLCertVerificationError as error:
        print("refused")
"""


@pytest.mark.parametrize("place", ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"])
def test_it_believes_the_authorities_of_the_node_and_no_others(
    node: BareNode, own_python: list[str], place: str
) -> None:
    certificates = PROJECT / "tests/probes/tls"
    for path in certificates.glob("*.pem"):
        node.write(f"/srv/tls/{path.name}", path.read_bytes())
    node.write(place, (certificates / "ca.pem").read_bytes())
    done = node.run([*own_python, TLS, str(Path(own_python[0]).parents[1] / "pilot.pyz")])
    assert done.stdout == "TLSv1.3\nrefused\n", done.stderr
    node.path(place).unlink()


def test_it_asks_the_node_s_library_for_its_gpus(node: BareNode) -> None:
    library = node.path("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")
    doubles.nvml_double(library.parent, "count 1\n0.uuid GPU-1\n0.name NVIDIA H100\n")
    done = node.run([f"{PAYLOAD}/pilot.sh", "probe", "gpu", "--json"], KEPT, devices=("nvidia0", "nvidiactl"))
    assert done.returncode == 0, done.stderr
    (device,) = json.loads(done.stdout)["node"]["gpu"]["devices"]["value"]
    assert device["uuid"] == "GPU-1"


# What the launcher does with an archive that needs a Python: the exit code, and a part of what it says.
ON_THEIR_OWN = {
    "debian11": (66, "python.too_old: no Python 3.11 or newer was found; seen: /usr/bin/python3 (3.9."),
    "debian12": (0, "/pilot.pyz"),
    "debian13": (0, "/pilot.pyz"),
    "without-python": (66, "python.missing"),
    "busybox": (66, "python.missing"),
}


@pytest.mark.parametrize("name", ON_THEIR_OWN)
def test_the_archive_runs_with_the_node_s_python_where_it_is_new_enough(
    make_node: Callable[[str], BareNode], name: str
) -> None:
    node = make_node(name)
    done = node.run([*launched(node, "pilot.pyz"), "version", "--json"])
    code, words = ON_THEIR_OWN[name]
    assert done.returncode == code
    assert words in done.stdout + done.stderr


def test_a_python_on_cvmfs_is_found(make_node: Callable[[str], BareNode]) -> None:
    node = make_node("debian11")
    done = node.run([f"{PAYLOAD}/pilot.sh", "--version"], KEPT)
    (kept,) = (node.directory / "upper/home/pilot/kept").iterdir()
    there = "/cvmfs/software.eessi.io/versions/2025.06/compat/linux/x86_64/usr/bin/python3"
    node.write(there, f'#!/bin/sh\nexec /home/pilot/kept/{kept.name}/bin/python3.13 "$@"\n', 0o755)
    done = node.run([*launched(node, "pilot.pyz"), "version", "--json"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["python"]["version"].startswith("3.13.")


def test_a_python_in_an_image_is_found(make_node: Callable[[str], BareNode], tmp_path: Path) -> None:
    payload = make_node("debian11").binds[0]
    image = "/images/debian12"
    node = BareNode(trees.ensure(trees.NODE), tmp_path, (payload, (trees.ensure(DEBIAN_12), image)))
    node.hide(trees.PYTHON_PATTERNS)
    start = launched(node, "pilot.pyz", "--image", image)
    done = node.run([*start, "version", "--json"], {"HOME": "/home/pilot"})
    assert done.returncode == 0, done.stderr
    assert f"The pilot runs in {image} with /usr/bin/python3.11" in done.stderr
    assert json.loads(done.stdout)["digest"] in start
    probed = node.run([*start, "probe", "os", "--json"], {"HOME": "/home/pilot"})
    assert probed.returncode == 0, probed.stderr
