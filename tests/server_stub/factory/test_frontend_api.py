"""What a frontend may ask and read, and that it gets nothing beyond its own."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Mount

from pilot_agent.codec import from_json
from pilot_agent.model import Fact
from pilot_agent.report import SCHEMA
from server_stub.entries import Factory
from server_stub.factory import demand
from server_stub.factory.application import application
from server_stub.factory.entry import Downtime, Limits
from server_stub.factory.frontend_api import Door
from server_stub.factory.frontends import Frontend, FrontendLimits
from server_stub.factory.limits import Rate
from server_stub.factory.live import Live, live
from server_stub.factory.offers import OfferedEntry, Offers, State
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.requests import BODY_LIMIT_BYTES, Request, RequestSet, read_set
from server_stub.factory.store import Store
from server_stub.frontend import offers as frontend_offers
from server_stub.frontend.pressure import EntryState
from tests.server_stub.factory.keys import Signer
from tests.server_stub.factory.test_application import Client

CMS, ATLAS = Signer("fe-cms"), Signer("fe-atlas")
NOW = time.time()


@dataclass(frozen=True)
class Api:
    """A factory with two frontends, asked as one of them."""

    live: Live
    client: Client

    def get(self, path: str, signer: Signer = CMS, **claims: Any) -> httpx.Response:
        return self.client.ask("GET", f"/api/v1/frontend/{path}", signer.headers(**claims))

    def put(self, body: Any, signer: Signer = CMS, **claims: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.ask("PUT", "/api/v1/frontend/requests", signer.headers(**claims), content)


@pytest.fixture
def api(factory: Factory, store: Store) -> Api:
    site_a, site_b = factory.entries
    entries = (
        replace(site_a, vos=("cms", "atlas"), limits=Limits(total=50, idle=20, per_vo={"cms": 30}), cores=8),
        replace(site_b, vos=("atlas",), cores=None, memory_mib=None),
    )
    asking = (
        Frontend("fe-cms", CMS.public, ("cms",), limits=FrontendLimits(total=1000)),
        Frontend("fe-atlas", ATLAS.public, ("atlas", "cms"), ("site-a",)),
    )
    running = live(replace(factory, entries=entries, frontends=asking), store)
    return Api(running, Client(application(running)))


def asked(*requests: dict[str, Any], sequence: int | None = None, **more: Any) -> dict[str, Any]:
    number = int(time.time() * 1e6) if sequence is None else sequence
    return {"sequence": number, "lifetime_seconds": 600, "requests": list(requests), **more}


def one(entry: str = "site-a", vo: str = "cms", queued: Any = 5, pilots: int = 10, **more: Any) -> dict[str, Any]:
    return {"entry": entry, "vo": vo, "queued": queued, "pilots": pilots, **more}


def test_what_is_asked_for_is_kept_until_its_end(api: Api, store: Store) -> None:
    body = asked(one(remove="IDLE", idle=["p1"], credentials=["a"]))
    answer = api.put(body)
    assert answer.status_code == 200
    told = answer.json()
    assert told["accepted"] == [{"entry": "site-a", "vo": "cms", "queued": 5, "pilots": 10, "limited_by": ""}]
    assert (told["sequence"], told["refused"]) == (body["sequence"], [])
    (kept,) = demand.wanted(store)
    assert (kept.key, kept.queued, kept.pilots) == (("site-a", "fe-cms", "cms"), 5, 10)
    assert (kept.remove, kept.idle, kept.credentials) == ("IDLE", ("p1",), ("a",))
    assert kept.expires == told["expires"] == pytest.approx(time.time() + 600, abs=60)
    assert api.get("requests").json()["requests"][0]["queued"] == 5


def test_a_set_takes_the_place_of_the_one_before_and_of_no_other_frontends(api: Api, store: Store) -> None:
    assert api.put(asked(one()), CMS).status_code == 200
    assert api.put(asked(one(vo="atlas")), ATLAS).status_code == 200
    assert api.put(asked(), CMS).status_code == 200
    assert [kept.frontend for kept in demand.wanted(store)] == ["fe-atlas"]


def test_the_same_set_twice_is_answered_alike_and_an_older_one_changes_nothing(api: Api, store: Store) -> None:
    body = asked(one())
    first = api.put(body)
    later = asked(one(queued=7), sequence=body["sequence"] + 5)
    assert api.put(body).json() == first.json()
    assert api.put(later).status_code == 200
    for stale in (body, asked(one(queued=9), sequence=later["sequence"])):
        answer = api.put(stale)
        assert answer.status_code == 409
        assert answer.json()["sequence"] == later["sequence"]
    assert [kept.queued for kept in demand.wanted(store)] == [7]


def test_a_set_of_the_future_would_lock_its_frontend_out_and_is_refused(api: Api) -> None:
    for sequence in (int((time.time() + 3600) * 1e6), 2**63 - 1):
        answer = api.put(asked(one(), sequence=sequence))
        assert (answer.status_code, "future" in answer.json()["error"]) == (400, True)
    assert api.put(asked(one())).status_code == 200


def test_more_than_limits_allow_is_told_with_the_limit(api: Api) -> None:
    told = api.put(asked(one(queued=25, pilots=200))).json()["accepted"]
    assert told == [{"entry": "site-a", "vo": "cms", "queued": 20, "pilots": 30, "limited_by": "limits.idle"}]
    told = api.put(asked(one(queued=5, pilots=200))).json()["accepted"]
    assert told == [{"entry": "site-a", "vo": "cms", "queued": 5, "pilots": 30, "limited_by": "limits.per_vo.cms"}]


def test_what_a_frontend_may_not_ask_for_is_refused_with_the_reason_and_the_rest_taken(api: Api, store: Store) -> None:
    body = asked(one("site-x"), one("site-b", "cms"), one(vo="atlas"), one(vo="alice"), one())
    told = api.put(body).json()
    assert [(why["entry"], why["vo"], why["why"]) for why in told["refused"]] == [
        ("site-x", "cms", "there is no entry 'site-x' for fe-cms"),
        ("site-b", "cms", "the entry takes no pilots of cms"),
        ("site-a", "atlas", "fe-cms may not ask for atlas; it may for cms"),
        ("site-a", "alice", "fe-cms may not ask for alice; it may for cms"),
    ]
    assert [kept.key for kept in demand.wanted(store)] == [("site-a", "fe-cms", "cms")]
    (hidden,) = api.put(asked(one("site-b", "atlas")), ATLAS).json()["refused"]
    assert hidden["why"] == "there is no entry 'site-b' for fe-atlas"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (asked(one(queued=-1)), "requests[0].queued"),
        (asked(one(pilots=10**7)), "requests[0].pilots"),
        (asked(one(queued=1.5)), "requests[0].queued"),
        (asked(one(queued=True)), "requests[0].queued"),
        (asked(one(queued="5")), "requests[0].queued"),
        (asked(one(remove="ALL")), "requests[0].remove"),
        (asked(one(entry="../x")), "requests[0].entry"),
        (asked(one(vo="a\x00")), "requests[0].vo"),
        (asked(one(idle=["p"] * 201)), "requests[0].idle"),
        (asked(one(more=1)), "requests[0].more"),
        (asked(one(), one()), "requests[1]: site-a is asked for a second time"),
        (asked(one(), lifetime_seconds=59), "lifetime_seconds"),
        (asked(one(), lifetime_seconds=86401), "lifetime_seconds"),
        (asked(one(), sequence=0), "sequence"),
        (asked(one(), sequence=-(2**70)), "sequence"),
        (asked(one(), sequence=2**70), "sequence"),
        ({"sequence": 1}, "lifetime_seconds"),
        ([], "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b'{"sequence": NaN}', "sequence"),
    ],
)
def test_what_is_no_set_of_requests_is_refused_with_its_place(api: Api, store: Store, body: Any, place: str) -> None:
    answer = api.put(body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(place)
    assert demand.wanted(store) == []


def test_a_body_that_is_too_large_is_not_read(api: Api) -> None:
    assert api.put(b" " * (BODY_LIMIT_BYTES + 1)).status_code == 413


def test_without_a_token_that_counts_nothing_is_told_or_taken(api: Api, store: Store) -> None:
    for path in ("offers", "requests", "pilots"):
        assert api.client.get(f"/api/v1/frontend/{path}").status_code == 401
        answer = api.get(path, replace(ATLAS, name="fe-cms"))
        assert (answer.status_code, set(answer.json())) == (401, {"error"})
    for bad in ({"exp": time.time() - 90, "iat": time.time() - 120}, {"aud": "another"}):
        assert api.put(asked(one()), **bad).status_code == 401
    assert api.client.ask("PUT", "/api/v1/frontend/requests", content=b"{}").status_code == 401
    assert demand.wanted(store) == []


def test_a_token_writes_once_even_if_the_factory_restarts_meanwhile(api: Api, store: Store) -> None:
    assert api.put(asked(one(queued=1)), jti="once").status_code == 200
    answer = api.put(asked(one(queued=2)), jti="once")
    assert (answer.status_code, "used already" in answer.json()["error"]) == (401, True)
    again = Client(application(live(api.live.factory, store)))
    assert Api(api.live, again).put(asked(one(queued=3)), jti="once").status_code == 401
    assert Api(api.live, again).put(asked(one(vo="cms")), ATLAS, jti="once").status_code == 200
    assert [kept.queued for kept in demand.wanted(store, frontend="fe-cms")] == [1]


def test_who_asks_too_often_or_with_wrong_tokens_waits(api: Api) -> None:
    door = Door(api.live, rate=Rate(2, 0.001), failures=Rate(1, 0.001))
    limited = Api(api.live, Client(application(api.live, door)))
    assert [limited.get("requests").status_code for _ in range(3)] == [200, 200, 429]
    assert limited.get("requests", ATLAS).status_code == 200
    assert [limited.get("requests", aud="x").status_code for _ in range(2)] == [401, 429]
    assert int(limited.get("requests", aud="x").headers["retry-after"]) > 0


def pilot(name: str, state: PilotState, frontend: str = "fe-cms", entry: str = "site-a", **more: Any) -> Pilot:
    return Pilot(
        name, entry, "S", "pyz", "ab", state, more.pop("submitted", NOW - 100), "/d", JobId(1, 0), vo="cms",
        frontend=frontend, **more,
    )  # fmt: skip


def test_an_entry_is_offered_with_what_pilots_found_there(api: Api, store: Store) -> None:
    fact = {"value": 16, "unit": "cores", "status": "known", "source": "affinity", "detail": "", "where": "node"}
    report = {
        "node": {"cpu": {"usable": fact}, "os": {"id": {"value": None, "status": "unknown"}}},
        "benchmarks": [{"name": "hash", "score": 7.5, "unit": "MB/s"}],
    }
    ended: dict[str, Any] = {"ended": NOW - 50, "started": NOW - 80, "host": "wn1"}
    store.save(pilot("e1", PilotState.ENDED, outcome="ok", jobs_started=3, jobs_failed=1, **ended), report=report)
    store.save(pilot("e2", PilotState.ENDED, "fe-atlas", outcome="failed", **ended))
    store.save(pilot("e3", PilotState.LOST, **ended))
    store.save(pilot("e4", PilotState.REMOVED, ended=NOW - 50))
    store.save(pilot("old", PilotState.ENDED, outcome="failed", ended=NOW - 2 * 86400))
    for number, state in enumerate((PilotState.PREPARED, PilotState.QUEUED, PilotState.RUNNING, PilotState.HELD)):
        store.save(pilot(f"u{number}", state))
    store.save(pilot("other", PilotState.QUEUED, "fe-atlas", submitted=NOW - 900))
    told = api.get("offers").json()
    (offer,) = told["entries"]
    assert (told["factory"], told["limits"]["total"]) == ("example", 1000)
    assert (offer["name"], offer["vos"], offer["cores"], offer["closed"]) == ("site-a", ["cms"], 8, "")
    assert offer["outcomes"] == {"pilots": 3, "pilots_failed": 2, "jobs": 3, "jobs_failed": 1}
    assert (offer["benchmarks"], offer["start_seconds"]) == ({"hash": 7.5}, pytest.approx(20, abs=10))
    assert offer["seen"][0]["facts"] == {"cpu.usable": {"value": 16, "unit": "cores"}}
    assert (offer["state"]["queued"], offer["state"]["running"], offer["state"]["held"]) == (2, 1, 1)
    assert offer["state"]["oldest_queued_seconds"] == pytest.approx(time.time() - NOW + 100, abs=30)
    assert offer["limits"] == {"total": 50, "idle": 20, "per_minute": 100, "per_vo": {"cms": 30}}
    assert [one["name"] for one in api.get("offers", ATLAS).json()["entries"]] == ["site-a"]


def test_what_is_offered_turns_into_what_the_frontend_decides_with(api: Api, store: Store) -> None:
    fact = {"value": "almalinux", "unit": None, "status": "known"}
    store.save(pilot("e1", PilotState.ENDED, ended=NOW, host="wn1"), report={"node": {"os": {"id": fact}}})
    (told,) = api.get("offers").json()["entries"]
    plain = {name: told[name] for name in ("name", "site", "cores", "memory_mib", "disk_mib", "gpus", "containers")}
    seen = tuple(
        frontend_offers.NodeSeen(
            node["at"], {name: from_json(Fact, {"name": name, **fact}) for name, fact in node["facts"].items()}
        )
        for node in told["seen"]
    )
    offer = frontend_offers.Offer(
        **plain, vos=frozenset(told["vos"]), downtime=bool(told["closed"]), seen=seen,
        outcomes=frontend_offers.Outcomes(**told["outcomes"]), benchmarks=told["benchmarks"],
        walltime_seconds=told["walltime_seconds"], attributes=told["attributes"], start_seconds=told["start_seconds"],
    )  # fmt: skip
    state = EntryState(**{name: told["state"][name] for name in ("queued", "running", "oldest_queued_seconds")})
    assert offer.ad()["PilotOsId"] == "almalinux"
    assert offer.ad()["GLIDEIN_CPUS"] == 8
    assert state.pilots == 0


def test_an_entry_that_submits_nothing_is_offered_with_the_reason(api: Api, store: Store) -> None:
    store.close_entry("site-a", "switches are replaced")
    assert api.get("offers").json()["entries"][0]["closed"] == "switches are replaced"
    store.close_entry("site-a", "")
    site_a, site_b = api.live.factory.entries
    down = replace(site_a, downtimes=(Downtime(0, NOW + 3600, "power"),))
    api.live.factory = replace(api.live.factory, entries=(down, site_b))
    assert api.get("offers").json()["entries"][0]["closed"] == "downtime: power"


def test_where_the_batch_system_decides_the_size_is_the_one_last_seen(api: Api, store: Store) -> None:
    api.live.factory = replace(api.live.factory, frontends=(Frontend("fe-atlas", ATLAS.public, ("atlas",)),))
    for number, cores in enumerate((4, 8, 64)):
        fact = {"value": cores, "unit": "cores", "status": "known"}
        row = pilot(f"e{number}", PilotState.ENDED, entry="site-b", ended=NOW, host=f"wn{number}")
        store.save(row, report={"node": {"cpu": {"usable": fact}}})
    offered = {told["name"]: told for told in api.get("offers", ATLAS).json()["entries"]}
    assert (offered["site-a"]["cores"], offered["site-b"]["cores"]) == (8, 8)
    assert offered["site-b"]["memory_mib"] == 2048


def test_a_frontend_sees_its_own_pilots_alone(api: Api, store: Store) -> None:
    for number in range(3):
        store.save(pilot(f"c{number}", PilotState.RUNNING, submitted=NOW + number))
    store.save(pilot("a1", PilotState.RUNNING, "fe-atlas"))
    first = api.get("pilots?limit=2").json()
    assert [told["id"] for told in first["pilots"]] == ["c2", "c1"]
    second = api.client.ask(
        "GET", f"/api/v1/frontend/pilots?limit=2&after={first['after']}&state=running", CMS.headers()
    ).json()
    assert ([told["id"] for told in second["pilots"]], second["after"]) == (["c0"], "")
    assert [told["id"] for told in api.get("pilots", ATLAS).json()["pilots"]] == ["a1"]


def test_who_asks_for_what_and_what_limits_it_is_shown_at_the_entry(api: Api) -> None:
    api.put(asked(one(queued=7, pilots=200)))
    api.put(asked(one(queued=1, pilots=2)), ATLAS)
    (view, _) = api.client.get("/api/v1/entries").json()
    limited = {"frontend": "fe-cms", "vo": "cms", "queued": 7, "pilots": 200, "limited_by": "limits.per_vo.cms"}
    assert [view["asked"][1], view["asked"][0]["frontend"]] == [limited, "fe-atlas"]
    for only in ("", "asked", "limited"):
        assert (
            "fe-cms (cms) asks for 7 queued, 200 in all: limits.per_vo.cms"
            in api.client.get(f"/entries?only={only}").text
        )
    assert "site-b</a>" not in api.client.get("/entries?only=asked").text


def test_what_a_new_set_lacks_stays_told_until_it_is_decided_anew(api: Api, store: Store) -> None:
    api.put(asked(one()))
    demand.note_limits(store, {("site-a", "fe-cms", "cms"): "limits.held"})
    api.put(asked(one(queued=6)))
    assert [kept.limited_by for kept in demand.wanted(store)] == ["limits.held"]


PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/factory-api.md").read_text(encoding="utf-8")
METHODS = {"get", "put", "post", "delete", "patch"}


def test_the_page_of_the_interface_lists_exactly_what_there_is(api: Api) -> None:
    whole = application(replace_live(api.live, uploads=True))
    described = whole.openapi()
    there = {
        f"{method.upper()} {path}"
        for path, known in described["paths"].items()
        for method in known
        if method in METHODS
    } | {f"GET {route.path}/..." for route in whole.routes if isinstance(route, Mount)}
    listed = re.findall(r"^\| `((?:GET|PUT|POST|DELETE|PATCH) /[^`]*)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(there)


def replace_live(running: Live, **changed: Any) -> Live:
    return replace(running, factory=replace(running.factory, **changed))


def test_the_set_on_the_page_of_the_interface_is_one() -> None:
    example = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    given = read_set(example[1].encode())
    assert [request.entry for request in given.requests] == ["el9-nodes"]


@pytest.mark.parametrize("record", [Offers, OfferedEntry, State, Request, RequestSet])
def test_every_field_is_on_the_page_of_the_interface(record: Any) -> None:
    names = getattr(record, "model_fields", None) or record.__dataclass_fields__
    assert [name for name in names if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("value", ["1e999", "NaN", "[" * 400 + "]" * 400, "[" * 950 + "]" * 950])
def test_what_one_node_says_of_itself_costs_no_frontend_its_offers(api: Api, store: Store, value: str) -> None:
    store.save(pilot("p1", PilotState.RUNNING))
    running = replace_live(api.live, uploads=True)
    said = {
        "schema": SCHEMA, "pilot": {"host": "wn"}, "outcome": {"status": "ok"}, "timeline": [], "jobs": {"started": 0},
        "node": {"cpu": {"usable": {"value": "@", "status": "known"}}},
    }  # fmt: skip
    client = Client(application(running))
    headers = {"Authorization": f"Bearer {running.tokens.issue('p1')}"}
    sent = client.ask("POST", "/pilots/p1/report", headers, json.dumps(said).replace('"@"', value).encode())
    assert sent.status_code == 400
    answer = client.get("/api/v1/frontend/offers", CMS.headers())
    assert [offer["seen"] for offer in answer.json()["entries"]] == [[]]
