"""Attempts at real servers on loopback: what they tell, and what is made of it."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest

from pilot_agent.probes.network.attempts import TIMEOUT, Attempt, Authorities, Trial
from pilot_agent.probes.network.connecting import connect
from pilot_agent.probes.network.endpoints import Connections, ask_connections, authorities_of
from pilot_agent.probes.network.reachability import explain, reached, refused_by_proxy
from pilot_agent.probes.network.targets import parse_proxy, parse_target
from pilot_agent.probes.node import Node
from tests.probes.servers import (
    TLS,
    Handler,
    dripping,
    endless,
    over_tls,
    proxy,
    resetting,
    says,
    serve,
    silent,
    web,
)

AUTHORITIES = Authorities((str(TLS / "ca.pem"),), ())
# The servers are threads of the process that forks; no child touches them or what they hold.
pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
SHORT_SECONDS = 0.6
LONG_SECONDS = 20.0


def attempt(address: str, *, seconds: float = LONG_SECONDS, authorities: Authorities = AUTHORITIES) -> Attempt:
    trial = Trial(parse_target(address, "test"), None, seconds, authorities)
    trial.run()
    return trial.given_up()


def reason(found: Attempt) -> str:
    return explain(found, "localhost", 1)


def test_a_port_that_listens_is_reached() -> None:
    with serve(silent) as port:
        found = attempt(f"127.0.0.1:{port}")
    assert reached(found)
    assert (found.address, found.family, found.local) == ("127.0.0.1", 4, "127.0.0.1")
    assert reason(found) == ""


def test_a_port_is_reached_by_ipv6() -> None:
    with serve(silent, "::1") as port:
        found = attempt(f"[::1]:{port}")
    assert (reached(found), found.family, found.address) == (True, 6, "::1")


def test_the_other_family_is_tried_when_one_refuses() -> None:
    with serve(silent) as port:
        addresses: list[tuple[int, tuple[object, ...]]] = [
            (socket.AF_INET6, ("::1", port, 0, 0)),
            (socket.AF_INET, ("127.0.0.1", port)),
        ]
        connection, failed = connect(addresses, time.monotonic() + LONG_SECONDS)
        with connection:
            assert connection.getpeername()[0] == "127.0.0.1"
    assert failed == {"::1": "ECONNREFUSED"}


def test_a_port_where_nothing_listens_refuses() -> None:
    with serve(silent) as port:
        pass
    found = attempt(f"127.0.0.1:{port}")
    assert (found.step, found.problem) == ("connect", "ECONNREFUSED")
    assert "nothing listens there" in reason(found)


def test_a_server_that_accepts_no_more_does_not_hang_the_attempt() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(("127.0.0.1", port))
        found = attempt(f"127.0.0.1:{port}", seconds=SHORT_SECONDS)
        for connection in waiting:
            connection.close()
    assert (found.step, found.problem) == ("connect", TIMEOUT)
    assert "firewall drops" in reason(found)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 70, "a..b"])
def test_a_name_that_is_none_fails_at_its_look_up(host: str) -> None:
    found = attempt(f"{host}:80")
    assert found.step == "look-up"
    assert found.problem.startswith("EAI_") or found.problem == TIMEOUT
    assert reason(found)


def test_an_answer_in_http_is_reached_whatever_its_status() -> None:
    for status in (200, 301, 404, 500):
        with serve(web(status)) as port:
            found = attempt(f"http://127.0.0.1:{port}/path")
        assert (reached(found), found.status) == (True, status)
        assert bool(reason(found)) is (status >= 400)


def test_a_request_asks_for_the_head_alone_and_carries_credentials_that_no_attempt_shows() -> None:
    seen: list[bytes] = []
    with serve(web(seen=seen)) as port:
        found = attempt(f"http://user:p%40ss@127.0.0.1:{port}/path?key=open-sesame")
    assert seen[0].startswith(b"HEAD /path?key=open-sesame HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Authorization: Basic dXNlcjpwQHNz\r\n" in seen[0]
    assert "sesame" not in repr(found)
    assert "p@ss" not in repr(found)


def test_a_redirection_is_not_followed() -> None:
    seen: list[bytes] = []
    with (
        serve(web(seen=seen)) as elsewhere,
        serve(web(302, fields=f"Location: http://127.0.0.1:{elsewhere}/\r\n")) as port,
    ):
        assert attempt(f"http://127.0.0.1:{port}").status == 302
    assert seen == []


@pytest.mark.parametrize(
    ("handler", "problem", "said"),
    [
        (silent, TIMEOUT, "not answered in time"),
        (dripping, TIMEOUT, "not answered in time"),
        (endless, "garbage: its head does not end", "garbage"),
        (resetting, "ECONNRESET", "reset the connection"),
        (says(b""), "closed", "closed the connection"),
        (says(b"HTTP/1.1 200 OK\r\nDate: Sun"), "garbage: its head is cut off", "garbage"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "garbage: it does not speak HTTP", "does not speak HTTP"),
        (says(b"HTTP/1.1 OK\r\n\r\n"), "garbage: it does not speak HTTP", "does not speak HTTP"),
        (says(bytes(range(256)) * 40), "garbage: it does not speak HTTP", "does not speak HTTP"),
    ],
)
def test_a_hostile_server_costs_its_deadline_at_most_and_is_named(handler: Handler, problem: str, said: str) -> None:
    seconds = SHORT_SECONDS if problem == TIMEOUT else LONG_SECONDS
    with serve(handler) as port:
        found = attempt(f"http://127.0.0.1:{port}", seconds=seconds)
    assert (found.step, found.problem) == ("answer", problem)
    assert not reached(found)
    assert said in reason(found)


def test_a_server_behind_tls_is_verified() -> None:
    with serve(over_tls(web())) as port:
        found = attempt(f"https://localhost:{port}")
        by_address = attempt(f"https://127.0.0.1:{port}")
    assert (found.status, found.tls) == (200, "TLSv1.3")
    assert reached(by_address)


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ("expired", "has expired by this node's clock"),
        ("future", "not yet valid by this node's clock"),
        ("other_host", "another host name than localhost"),
    ],
)
def test_a_certificate_is_refused_with_its_fault(certificate: str, said: str) -> None:
    with serve(over_tls(web(), certificate)) as port:
        found = attempt(f"https://localhost:{port}")
    assert (found.step, found.problem, found.status) == ("tls", "certificate", 0)
    assert said in reason(found)


def test_an_authority_that_is_not_trusted_is_named(tmp_path: Path) -> None:
    with serve(over_tls(web())) as port:
        stranger = attempt(f"https://localhost:{port}", authorities=Authorities((str(TLS / "other_ca.pem"),), ()))
        none = attempt(f"https://localhost:{port}", authorities=Authorities((str(tmp_path / "none"),), ()))
        damaged = tmp_path / "damaged.pem"
        damaged.write_text("no certificate")
        broken = attempt(f"https://localhost:{port}", authorities=Authorities((str(damaged),), ()))
    assert "an authority that this node does not trust" in reason(stranger)
    assert "ca-certificates" in reason(none)
    assert (broken.step, reached(broken)) == ("tls", False)


def test_what_does_not_speak_tls_is_named() -> None:
    with serve(web()) as port:
        found = attempt(f"https://localhost:{port}")
    assert "does not speak TLS" in reason(found)
    with serve(silent) as port:
        hung = attempt(f"https://localhost:{port}", seconds=SHORT_SECONDS)
    assert (hung.step, hung.problem) == ("tls", TIMEOUT)
    with serve(lambda connection: None) as port:
        closed = attempt(f"https://localhost:{port}")
    assert (closed.step, closed.problem) in {("tls", "closed"), ("tls", "ECONNRESET")}


def test_old_versions_of_tls_are_refused_on_one_side_or_the_other() -> None:
    context = Authorities((str(TLS / "ca.pem"),), ()).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    found = Attempt(step="tls", problem="TLSV1_ALERT_PROTOCOL_VERSION")
    assert "refuses the versions of TLS" in reason(found)
    assert "only versions of TLS that this node refuses" in reason(Attempt(step="tls", problem="UNSUPPORTED_PROTOCOL"))


def test_a_server_that_wants_a_client_certificate_is_there() -> None:
    found = Attempt(step="answer", problem="TLSV13_ALERT_CERTIFICATE_REQUIRED")
    assert reached(found)
    assert "clients with a certificate" in reason(found)


def test_openssls_own_variables_come_before_the_distributions_files(tmp_path: Path) -> None:
    variables = {"SSL_CERT_FILE": str(TLS / "ca.pem"), "SSL_CERT_DIR": "relative", "X509_CERT_DIR": str(tmp_path)}
    with serve(over_tls(web())) as port:
        assert reached(attempt(f"https://localhost:{port}", authorities=authorities_of(variables)))


def tried(addresses: list[str], proxies: list[str]) -> Connections:
    targets = [parse_target(address, "probes.endpoints") for address in addresses]
    through = [parse_proxy(text, "probes.proxies") for text in proxies]
    variables = {"SSL_CERT_FILE": str(TLS / "ca.pem")}
    found, problem = ask_connections(Node(), "network connections", targets, through, variables)
    assert found is not None, problem
    return found


def test_an_address_behind_a_proxy_is_fetched_through_it_in_both_ways() -> None:
    seen: list[bytes] = []
    with (
        serve(web()) as plain,
        serve(over_tls(web(403))) as secured,
        serve(proxy({"plain.invalid": plain, "localhost": secured}, seen=seen)) as port,
    ):
        found = tried(["http://plain.invalid/x", "https://localhost:1/"], [f"127.0.0.1:{port}"])
    assert [target.attempts[-1].status for target in found.targets] == [200, 403]
    assert all(reached(target.attempts[-1]) for target in found.targets)
    assert [target.attempts[0].via for target in found.targets] == ["", ""]
    assert sorted(request.partition(b"\r\n")[0] for request in seen) == [
        b"CONNECT localhost:1 HTTP/1.1",
        b"HEAD http://plain.invalid:80/x HTTP/1.1",
    ]


def test_addresses_beyond_the_first_two_go_through_the_proxy_that_works() -> None:
    hosts = ["a.invalid", "b.invalid", "c.invalid"]
    with serve(web()) as port, serve(proxy(dict.fromkeys(hosts, port))) as through:
        found = tried([f"http://{host}/" for host in hosts], ["127.0.0.1:1", f"127.0.0.1:{through}"])
    assert [attempt.via for attempt in found.targets[2].attempts] == ["", f"http://127.0.0.1:{through}"]
    assert reached(found.targets[2].attempts[1])


def test_a_proxys_refusals_are_told_from_the_addresss_own_answers() -> None:
    with serve(proxy({}, password="dTpw")) as port, serve(proxy({})) as lost:
        found = tried(["http://a.invalid/"], [f"127.0.0.1:{port}", f"127.0.0.1:{lost}"])
    locked, failing = (entry.attempts[0] for entry in found.proxies)
    assert "demands a user and a password" in refused_by_proxy(locked)
    assert "could not reach the address (503)" in refused_by_proxy(failing)
    squid = Attempt(via="http://p:1", step="done", status=403, refused_by="ERR_ACCESS_DENIED 0")
    assert "refuses to fetch the address (403, ERR_ACCESS_DENIED)" in refused_by_proxy(squid)
    tunnel = Attempt(via="http://p:1", step="proxy", status=403, problem="refused")
    assert "refuses to fetch" in refused_by_proxy(tunnel)
    assert refused_by_proxy(Attempt(via="http://p:1", step="done", status=403)) == ""


def test_a_proxys_password_is_sent_to_it_and_shown_nowhere() -> None:
    with serve(web()) as port, serve(proxy({"a.invalid": port}, password="dTpw")) as locked:
        found = tried(["http://a.invalid/"], [f"http://u:p@127.0.0.1:{locked}"])
    assert reached(found.targets[0].attempts[-1])
    assert "u:p" not in repr(found)
    assert "dTpw" not in repr(found)


def test_a_refused_tunnel_ends_before_tls() -> None:
    with serve(proxy({})) as port:
        found = tried(["https://a.invalid/"], [f"127.0.0.1:{port}"])
    (attempted,) = found.proxies[0].attempts
    assert (attempted.step, attempted.status) == ("proxy", 503)


def test_what_is_no_address_is_kept_with_its_problem() -> None:
    found = tried(["what is this"], ["socks5://a:1"])
    assert "neither host:port" in found.targets[0].problem
    assert found.targets[0].attempts == ()
    assert "SOCKS" in found.proxies[0].problem
