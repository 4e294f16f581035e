"""The node's clock against servers whose clock is right, wrong, or not told."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus, Json
from pilot_agent.probes.network.attempts import Attempt
from pilot_agent.probes.network.clock import Offset, offset_facts, offset_of, parse_date, probe_clock
from pilot_agent.probes.network.endpoints import Connections, Tried
from pilot_agent.probes.recording import finish_recording
from tests.probes.servers import TLS, Handler, over_tls, proxy, resetting, says, serve, web
from tests.probes.trees import context_of, facts

# The servers are threads of the process that forks; no child touches them or what they hold.
pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")

OFFSET = "clock.offset_seconds"
MOMENT = 784111777.0
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def told(url: str, **environment: str) -> dict[str, Fact]:
    variables = {"SSL_CERT_FILE": str(TLS / "ca.pem"), **environment}
    return facts(probe_clock(Context(config={"probes": {"clock_url": url}}, environment=variables)))


def answer(date: str = DATE, *, sent: float = MOMENT, received: float = MOMENT, **other: str) -> Attempt:
    return Attempt(host="a", step="done", status=200, date=date, sent=sent, received=received, **other)  # type: ignore[arg-type]


def of(*attempts: Attempt) -> dict[str, Fact]:
    targets = tuple(Tried(f"http://{n}", "probes.endpoints", "http", "a", 80, "", (a,)) for n, a in enumerate(attempts))
    return facts(offset_facts(Connections(targets), ""))


def test_a_date_is_read() -> None:
    assert parse_date(DATE) == MOMENT
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == parse_date("Sat, 31 Dec 2016 23:59:59 GMT")
    assert parse_date(formatdate(1234567890, usegmt=True)) == 1234567890


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        f"{DATE}+1",
        "٣",
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


def test_the_offset_is_that_of_the_middle_of_the_request() -> None:
    assert offset_of(answer(sent=MOMENT + 10, received=MOMENT + 11)) == Offset(10.0, 1.0)
    assert offset_of(answer(sent=MOMENT - 3600.5, received=MOMENT - 3598.5)) == Offset(-3600.0, 1.5)


@pytest.mark.parametrize(
    "attempt",
    [
        answer(""),
        answer(age_seconds="30"),
        answer(sent=float("nan")),
        answer(sent=float("inf"), received=float("inf")),
        answer(sent=0.0),
        answer(received=1e300),
    ],
)
def test_an_answer_without_a_fresh_date_tells_no_offset(attempt: Attempt) -> None:
    assert offset_of(attempt) is None


def test_a_server_whose_clock_is_right_shows_no_offset() -> None:
    with serve(over_tls(web())) as port:
        known = told(f"https://localhost:{port}/")
    assert abs(known[OFFSET].value) < 30
    assert known[OFFSET].unit == "s"
    assert "authenticated" not in known[OFFSET].detail
    assert known["clock.source"].value == f"https://localhost:{port}"


@pytest.mark.parametrize(("shift", "said"), [(-7200.0, "ahead of"), (7200.0, "behind")])
def test_a_clock_that_is_wrong_is_told_with_its_direction(shift: float, said: str) -> None:
    with serve(web(shift=shift)) as port:
        known = told(f"http://127.0.0.1:{port}")
    assert abs(known[OFFSET].value + shift) < 60
    assert f"the node is {said} the server: the site sets its clock" in known[OFFSET].detail
    assert "not authenticated" in known[OFFSET].detail


def test_the_date_comes_through_a_proxy_where_there_is_no_other_way() -> None:
    with serve(web()) as target, serve(proxy({"time.invalid": target})) as port:
        known = told("http://time.invalid/", http_proxy=f"http://127.0.0.1:{port}")
    assert known[OFFSET].known
    assert known[OFFSET].source == f"Date of http://time.invalid through http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (web(fields="Age: 86400\r\n"), "a cache answered with an old Date"),
        (says(b"HTTP/1.1 200 OK\r\n\r\n"), "its answer has no Date"),
        (says(b"HTTP/1.1 200 OK\r\nDate: yesterday\r\n\r\n"), "its answer has no Date"),
        (resetting, "reset the connection"),
    ],
)
def test_a_server_that_tells_no_time_leaves_the_offset_unknown(handler: Handler, said: str) -> None:
    with serve(handler) as port:
        known = told(f"http://127.0.0.1:{port}")
    assert known[OFFSET].status is FactStatus.UNKNOWN
    assert said in known[OFFSET].detail


@pytest.mark.parametrize("certificate", ["expired", "future"])
def test_a_certificate_that_is_not_valid_now_is_a_hint_at_the_clock_and_no_offset(certificate: str) -> None:
    with serve(over_tls(web(shift=-7200), certificate)) as port:
        known = told(f"https://localhost:{port}")
    assert known[OFFSET].status is FactStatus.UNKNOWN
    assert "by this node's clock" in known[OFFSET].detail
    assert "wrong" in known[OFFSET].detail


def test_the_date_of_a_proxys_own_error_is_not_the_servers() -> None:
    with serve(web(503, shift=-7200)) as port:
        known = told("http://time.invalid/", http_proxy=f"http://127.0.0.1:{port}")
    assert known[OFFSET].status is FactStatus.UNKNOWN


def test_an_endpoint_tells_the_time_where_no_clock_url_is_configured() -> None:
    with serve(web()) as port:
        config = {"probes": {"endpoints": ["127.0.0.1:1", f"http://127.0.0.1:{port}"]}}
        known = facts(probe_clock(Context(config=config)))
    assert known["clock.source"].value == f"http://127.0.0.1:{port}"


def test_without_a_server_the_facts_say_what_to_configure() -> None:
    known = facts(probe_clock(Context()))
    assert "probes.clock_url" in known[OFFSET].detail
    assert known["clock.collector_offset_seconds"].status is FactStatus.ABSENT
    assert facts(probe_clock(Context(config={"pool": {"collectors": ["a"]}})))["clock.collector_offset_seconds"].detail


def test_an_answer_over_tls_counts_before_one_without_and_a_contradiction_is_told() -> None:
    known = of(answer(sent=MOMENT + 500, received=MOMENT + 500), answer(tls="TLSv1.3", received=MOMENT + 2))
    assert known["clock.source"].value == "http://1"
    assert "servers differ by" in known[OFFSET].detail


def test_this_machines_kernel_tells_whether_its_clock_is_kept() -> None:
    fact = facts(probe_clock(Context()))["clock.synchronised"]
    assert fact.value in (True, False) or "the kernel does not tell" in fact.detail
    assert fact.source in ("adjtimex", "/run/systemd/timesync/synchronized")


@pytest.mark.parametrize(
    ("value", "problem", "file", "expected"),
    [
        ({"state": 0, "status": 0x2001, "maximum_error_us": 1500}, "", False, True),
        ({"state": 5, "status": 0x40, "maximum_error_us": 16000000}, "", False, False),
        ({"state": 5, "status": 0x40, "maximum_error_us": 16000000}, "", True, True),
        ({"state": "x"}, "", False, None),
        (None, "EPERM: Operation not permitted", False, None),
        (None, "EPERM: Operation not permitted", True, True),
    ],
)
def test_what_the_kernel_says_is_judged(
    tmp_path: Path, value: Json, problem: str, file: bool, expected: bool | None
) -> None:
    finish_recording(str(tmp_path), {}, {})
    (tmp_path / "answers").mkdir()
    told_then = {"key": ["test", "adjtimex"], "answer": {"value": value, "problem": problem}}
    (tmp_path / "answers" / "adjtimex.json").write_text(json.dumps(told_then))
    if file:
        (tmp_path / "root/run/systemd/timesync").mkdir(parents=True)
        (tmp_path / "root/run/systemd/timesync/synchronized").touch()
    fact = facts(probe_clock(Context(root=str(tmp_path))))["clock.synchronised"]
    assert fact.value is expected
    assert bool(fact.detail) or fact.source.startswith("/run")


def test_a_composed_node_is_ahead_of_its_server() -> None:
    known = facts(probe_clock(context_of("proxied_cluster_node")))
    assert known[OFFSET].value == 129.5
    assert known["clock.synchronised"].value is True
    assert time.time() > MOMENT
