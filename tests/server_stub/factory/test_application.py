"""The factory's pages: the payload for nodes, pilots and reports for people and programs, and nothing else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

import httpx
import pytest
from fastapi import FastAPI

from server_stub.entries import Factory
from server_stub.factory.application import application
from server_stub.factory.live import live
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.store import Store
from tests.server_stub.conftest import PAYLOAD

PILOT = Pilot(
    "p1", "site-a", "Example_T2", "pilot.pyz", "ab" * 32, PilotState.ENDED, 0.0, "/state/p1", job=JobId(7, 0),
    exit_code=0, message="<b>bold</b>", report=True,
)  # fmt: skip


@dataclass(frozen=True)
class Client:
    """Asks the application in this process; no port is opened."""

    application: FastAPI

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, content: bytes | None = None
    ) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.application)
            async with httpx.AsyncClient(transport=transport, base_url="http://factory") as client:
                return await client.request(method, path, headers=headers, content=content)

        return asyncio.run(once())

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.ask("GET", path, headers)


@pytest.fixture
def client(factory: Factory, store: Store) -> Client:
    store.save(PILOT, report={"schema": "pilot-agent/report/1", "jobs": {"started": 2}})
    return Client(application(live(factory, store)))


def test_the_payload_is_published_byte_for_byte(client: Client) -> None:
    answer = client.get("/payload/pilot.pyz")
    assert (answer.status_code, answer.content) == (200, PAYLOAD)


@pytest.mark.parametrize("name", ["pilot.sh", "secret.txt", "%2e%2e%2ffactory.yaml", "tokens", ""])
def test_nothing_but_a_payload_that_is_there_is_published(client: Client, name: str) -> None:
    assert client.get(f"/payload/{name}").status_code == 404


def test_people_see_a_table_in_which_nothing_is_markup_but_the_factorys_own(client: Client) -> None:
    answer = client.get("/pilots")
    assert answer.headers["content-type"].startswith("text/html")
    assert '<a href="/pilots/p1"><code>p1</code></a>' in answer.text
    assert "&lt;b&gt;bold&lt;/b&gt;" in answer.text
    assert "1970-01-01 00:00:00" in answer.text


@pytest.mark.parametrize(
    ("query", "headers"), [("?format=json", {}), ("", {"accept": "application/json"})], ids=["query", "header"]
)
def test_programs_get_json_by_query_or_header(client: Client, query: str, headers: dict[str, str]) -> None:
    (pilot,) = client.get(f"/pilots{query}", headers=headers).json()
    assert (pilot["id"], pilot["state"], pilot["job"]) == ("p1", "ended", {"cluster": 7, "process": 0})


def test_a_report_is_given_whole(client: Client) -> None:
    assert client.get("/pilots/p1/report").json()["jobs"] == {"started": 2}


def test_a_pilot_without_a_report_is_not_found_and_not_linked(client: Client, store: Store) -> None:
    store.save(replace(PILOT, id="p2", report=False))
    answer = client.get("/pilots/p2/report")
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no report of a pilot 'p2'"})
    assert "/pilots/p2/report" not in client.get("/pilots/p2").text


def test_the_first_page_leads_to_the_entries(client: Client) -> None:
    assert client.get("/").headers["location"] == "/entries"


def test_the_server_takes_no_orders(client: Client) -> None:
    assert client.ask("POST", "/pilots").status_code == 405


def test_a_report_with_text_that_is_no_text_is_shown_all_the_same(client: Client, store: Store) -> None:
    store.save(PILOT, report={"message": "\ud800"})
    answer = client.get("/pilots/p1/report")
    assert answer.status_code == 200
    assert b"ud800" in answer.content


def scored(number: object, model: object = "<b>CPU</b>", *, cached: bool = False) -> dict[str, object]:
    """A report with one score."""
    score = {"name": "hash", "score": number, "unit": "MB/s", "cached": cached}
    return {"node": {"cpu": {"model": {"value": model}}}, "benchmarks": [score]}


def test_what_pilots_scored_is_shown_by_entry_and_processor(client: Client, store: Store) -> None:
    reports = [scored(3), scored(1), scored(8), scored(9, cached=True), scored(5, None), scored(True), scored("x")]
    for number, report in enumerate([*reports, {"benchmarks": 3}, {"benchmarks": [None]}]):
        store.save(replace(PILOT, id=f"s{number}", submitted=time.time()), report=report)
    found = client.get("/benchmarks?format=json").json()
    assert [(one["cpu_model"], one["median"], one["numbers"]) for one in found] == [
        ("<b>CPU</b>", 3, [1, 3, 8]),
        ("unknown", 5, [5]),
    ]
    page = client.get("/benchmarks").text
    assert "&lt;b&gt;CPU&lt;/b&gt;" in page
    assert '<td class="number">3</td><td class="number">1</td><td class="number">8</td><td>MB/s</td>' in page
