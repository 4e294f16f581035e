"""The network probe on this machine with servers of its own, in a namespace without a way out, and on a recording."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_agent.codec import to_json
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus, Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.kernel.namespaces import enter_user_namespace
from pilot_agent.probes.network.attempts import Attempt
from pilot_agent.probes.network.clock import probe_clock
from pilot_agent.probes.network.endpoints import Connections, Tried, read_connections
from pilot_agent.probes.network.network import probe_network
from pilot_agent.probes.network.reached import reach_facts
from pilot_agent.probes.recording import finish_recording
from tests.probes.namespaced import in_namespace
from tests.probes.servers import TLS, over_tls, proxy, serve, silent, web
from tests.probes.trees import context_of, facts

# The servers are threads of the process that forks; no child touches them or what they hold.
pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")

CLONE_NEWNET = 0x40000000
RESOLVER = Fact("network.dns", {"nameservers": ["10.0.0.1"], "search": []}, source="/etc/resolv.conf")


def here(endpoints: list[str], proxies: list[str] | None = None, **environment: str) -> Context:
    config = {"probes": {"endpoints": endpoints, "proxies": proxies or []}}
    return Context(config=config, environment={"SSL_CERT_FILE": str(TLS / "ca.pem"), **environment})


def test_without_an_endpoint_nothing_is_sent_and_the_facts_say_what_to_configure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connects(*_: object) -> None:
        raise AssertionError("a connection was made")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, connects, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", connects)
    known = facts(probe_network(Context(environment={"http_proxy": "http://squid.invalid:1"})))
    for name in ("endpoints", "outbound", "proxy", "address_seen", "nat"):
        assert known[f"network.{name}"].status is FactStatus.UNKNOWN
        assert "probes.endpoints" in known[f"network.{name}"].detail
    assert known["network.proxies"].value[0]["works"] is None
    assert known["network.hostname"].value == Path("/proc/sys/kernel/hostname").read_text().strip()
    assert known["network.addresses"].known
    ports = known["network.ports"].value
    assert (ports["listen"], ports["first"] < ports["last"]) == (True, True)


def test_a_recording_of_a_node_without_endpoints_tells_the_same(tmp_path: Path) -> None:
    context = Context(environment={"http_proxy": "squid.invalid", "https_proxy": "socks5://x:1"})
    live = facts(probe_network(replace(context, record=str(tmp_path))))
    facts(probe_clock(replace(context, record=str(tmp_path))))
    finish_recording(str(tmp_path), {}, {})
    assert facts(probe_network(Context(root=str(tmp_path)))) == live
    assert "probes.clock_url" in facts(probe_clock(Context(root=str(tmp_path))))["clock.offset_seconds"].detail


def test_endpoints_of_every_kind_are_told() -> None:
    with serve(silent) as tcp, serve(web(503)) as plain, serve(over_tls(web(), "expired")) as expired:
        endpoints = [f"127.0.0.1:{tcp}", f"http://127.0.0.1:{plain}/x", f"https://localhost:{expired}", "nonsense"]
        known = facts(probe_network(here(endpoints)))
    first, second, third, last = known["network.endpoints"].value
    assert (first["reachable"], first["via"], first["family"], first["address"]) == (True, "direct", 4, "127.0.0.1")
    assert (second["reachable"], second["status"], second["reason"]) == (True, 503, "it answered 503")
    assert (third["reachable"], last["reachable"]) == (False, False)
    assert "expired by this node's clock" in third["reason"]
    assert "neither host:port" in last["reason"]
    assert known["network.outbound"].value is True
    assert known["network.address_seen"].value == "127.0.0.1"
    assert known["network.nat"].status is FactStatus.UNKNOWN


def test_a_collector_is_an_endpoint() -> None:
    with serve(silent) as port:
        config = {"pool": {"collectors": [f"127.0.0.1:{port}"]}}
        known = facts(probe_network(Context(config=config)))
    (entry,) = known["network.endpoints"].value
    assert (entry["source"], entry["reachable"]) == ("pool.collectors", True)


def test_the_working_proxy_is_found_behind_one_that_does_not_work() -> None:
    with serve(web()) as target, serve(proxy({"inside.invalid": target})) as port:
        good, dead = f"http://127.0.0.1:{port}", "http://me:open-sesame@127.0.0.1:1"
        known = facts(probe_network(here(["http://inside.invalid/"], http_proxy=dead, OSG_SQUID_LOCATION=good)))
    assert known["network.proxy"].value == good
    first, second = known["network.proxies"].value
    assert (first["works"], first["source"], second["works"]) == (False, "http_proxy", True)
    assert "refuses connections" in first["reason"]
    (entry,) = known["network.endpoints"].value
    assert (entry["reachable"], entry["via"]) == (True, good)
    assert entry["reason"].startswith("not directly: ")
    assert known["network.dns"].value["works"] is False
    assert known["network.outbound"].value is True
    assert "sesame" not in json.dumps(to_json(list(known.values())))


def test_a_proxy_with_nothing_to_fetch_is_not_called_working() -> None:
    with serve(silent) as port, serve(proxy({})) as through:
        known = facts(probe_network(here([f"127.0.0.1:{port}"], [f"127.0.0.1:{through}"])))
    (entry,) = known["network.proxies"].value
    assert entry["works"] is None
    assert "accepts connections" in entry["reason"]
    assert known["network.proxy"].status is FactStatus.UNKNOWN


def test_a_recording_tells_the_same_facts_without_a_password(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with serve(web()) as target, serve(proxy({"inside.invalid": target}, password="bWU6b3Blbi1zZXNhbWU=")) as port:
        context = here(["http://inside.invalid/"], [f"http://me:open-sesame@127.0.0.1:{port}"])
        live = facts(probe_network(replace(context, record=str(kept))))
    finish_recording(str(kept), {}, {})
    assert live["network.proxies"].value[0]["works"] is True
    again = facts(probe_network(Context(root=str(kept), config=context.config)))
    assert again == live
    content = b"".join(path.read_bytes() for path in kept.rglob("*") if path.is_file())
    assert b"sesame" not in content
    assert b"bWU6b3Bl" not in content


def test_a_node_without_a_network_is_told_as_one() -> None:
    def work() -> Json:
        enter_user_namespace(CLONE_NEWNET)
        return to_json(facts(probe_network(here(["192.0.2.1:80", "[2001:db8::1]:80"]))))

    known = in_namespace(work)
    assert [known[f"network.ipv{family}"]["value"] for family in (4, 6)] == [False, False]
    assert known["network.default_route"]["status"] == "absent"
    assert known["network.mtu"]["status"] == "absent"
    assert known["network.outbound"]["value"] is False
    for entry in known["network.endpoints"]["value"]:
        assert "no route" in entry["reason"] or "no address" in entry["reason"]


def test_a_composed_node_behind_proxies_is_told_in_full() -> None:
    known = facts(probe_network(context_of("proxied_cluster_node")))
    assert known["network.fqdn"].value == "n042.cluster.example.org"
    assert known["network.default_route"].value == {"interface": "ib0", "gateway": "10.3.0.1", "family": 4}
    assert known["network.mtu"].value == 65520
    assert (known["network.ipv4"].value, known["network.ipv6"].value) == (True, False)
    assert known["network.proxy"].value == "http://squid2.cluster.example.org:3128"
    data, collector = known["network.endpoints"].value
    assert data["via"] == "http://squid2.cluster.example.org:3128"
    assert (collector["via"], collector["family"]) == ("direct", 4)
    assert known["network.nat"].value is True
    assert "guess" in known["network.nat"].detail
    assert known["network.dns"].value["nameservers"] == ["10.3.0.2", "10.3.0.3"]
    assert known["network.dns"].value["works"] is True


def test_a_public_address_of_the_node_is_not_translated_as_far_as_one_can_guess() -> None:
    attempt = Attempt(host="a", step="done", address="203.0.113.1", family=4, local="198.51.100.1")
    found = Connections((Tried("a:1", "probes.endpoints", "tcp", "a", 1, "", (attempt,)),))
    assert facts(reach_facts(found, "", RESOLVER))["network.nat"].value is False


def test_a_proxy_is_not_blamed_for_the_addresss_certificate() -> None:
    attempt = Attempt(host="a", via="http://p:1", step="tls", problem="certificate", certificate_code=62)
    proxied = Tried("http://p:1", "http_proxy", "http", "p", 1, "", (attempt,))
    found = Connections((Tried("https://a", "probes.endpoints", "https", "a", 443, "", (attempt,)),), (proxied,))
    known = facts(reach_facts(found, "", RESOLVER))
    assert known["network.proxies"].value[0]["works"] is None
    assert "another host name than a" in known["network.proxies"].value[0]["reason"]
    assert known["network.proxy"].status is FactStatus.UNKNOWN
    assert known["network.outbound"].value is False


def test_what_was_not_recorded_is_unknown() -> None:
    known = facts(probe_network(context_of("bare_metal_el9")))
    for name in ("addresses", "endpoints", "outbound", "proxies", "nat", "default_route"):
        assert known[f"network.{name}"].status is FactStatus.UNKNOWN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
ATTEMPTS = st.fixed_dictionaries(
    {},
    optional={
        "host": st.text(max_size=5),
        "via": st.sampled_from(["", "http://p:1"]),
        "step": st.sampled_from(["look-up", "connect", "proxy", "tls", "answer", "done", "x"]),
        "problem": st.sampled_from(["", "timeout", "garbage: x", "certificate", "ECONNREFUSED", "{to}"]),
        "address": st.sampled_from(["", "10.0.0.1", "192.0.2.1", "x"]),
        "local": st.sampled_from(["", "10.0.0.1", "x"]),
        "status": st.integers(),
        "refused_by": st.sampled_from(["", " ", "ERR x"]),
        "date": st.sampled_from(["", "Sun, 06 Nov 1994 08:49:37 GMT"]),
        "sent": st.floats(),
        "received": st.floats() | st.just(784111777.0),
        "certificate_code": st.integers(),
    },
)
TRIED = st.fixed_dictionaries(
    {"shown": st.sampled_from(["a:1", "http://p:1"]), "source": st.just("x"), "kind": st.just("http")},
    optional={"attempts": st.lists(ATTEMPTS, max_size=3), "problem": st.text(max_size=3), "host": st.text(max_size=3)},
)
ANSWERS = JSON | st.fixed_dictionaries({}, optional={"targets": st.lists(TRIED), "proxies": st.lists(TRIED)})


@settings(max_examples=150, deadline=None)
@given(ANSWERS, JSON | st.lists(st.dictionaries(st.sampled_from(["address", "family", "interface"]), JSON)))
def test_any_recorded_answer_gives_facts(connections: Json, addresses: Json) -> None:
    with tempfile.TemporaryDirectory() as directory:
        finish_recording(directory, {}, {})
        os.mkdir(f"{directory}/answers")
        found = {"network connections": connections, "clock of servers": connections, "network addresses": addresses}
        found["adjtimex"] = addresses
        for number, (test, value) in enumerate(found.items()):
            entry = {"key": ["test", test], "answer": {"value": value}}
            Path(f"{directory}/answers/{number}.json").write_text(json.dumps(entry))
        context = Context(root=directory)
        for probe in (probe_network, probe_clock):
            known = facts(probe(context))
            json.dumps(to_json(known))
            assert all(fact.known or fact.detail for fact in known.values())


@pytest.mark.parametrize("damage", [[], {"targets": 1}, {"targets": [{"shown": "a"}]}, "x", {"other": 1}])
def test_a_damaged_answer_is_unknown_with_the_reason(damage: Json) -> None:
    found, problem = read_connections(Answer(damage))
    assert found is None
    assert problem
    known = facts(reach_facts(found, problem, RESOLVER))
    assert known["network.endpoints"].status is FactStatus.UNKNOWN
    assert known["network.endpoints"].detail == problem
    assert known["network.dns"] == RESOLVER
