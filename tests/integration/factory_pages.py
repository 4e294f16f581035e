"""A factory with much to show, served by the real server: for tests of its pages and for looking at them."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from sqlalchemy import insert
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import HTMLResponse

from server_stub.entries import Factory
from server_stub.factory.application import application
from server_stub.factory.entry import Downtime, Entry, Limits
from server_stub.factory.history import DAY_SECONDS, Kept, tidy
from server_stub.factory.live import live
from server_stub.factory.patience import ImpatientProtocol
from server_stub.factory.pilots import PilotState
from server_stub.factory.store import Store
from server_stub.factory.tables import ChangeRow, EventsRow, FrontendRow, PilotRow, ReportRow, RequestRow, ScoreRow

FAILURES = (
    ("node_resource", "disk.too_small", "the workspace has 812 MiB free, 10000 MiB are needed"),
    ("network", "collector.unreachable", "cm.example.org:9618 does not answer from this node"),
    ("node_resource", "userns.disabled", "user namespaces are disabled (max_user_namespaces is 0)"),
    ("credential", "token.expired", "the token of the pool expired 3 h before the pilot began"),
)
STEPS = (
    ("configure", "", 0.0, 0.3, "ok"), ("probe", "cpu", 0.3, 0.2, "ok"), ("probe", "gpu", 0.3, 2.8, "timeout"),
    ("probe", "network", 0.3, 1.4, "ok"), ("mount", "cvmfs", 3.2, 4.1, "ok"), ("container", "el9", 7.4, 2.2, "ok"),
    ("validate", "workspace", 9.7, 0.1, "failed"), ("service", "triton", 9.9, 3.0, "skipped"),
)  # fmt: skip
REQUESTS = (
    (1, "example", 5, 60, ""), (3, "example", 30, 200, "limits.idle"), (3, "other", 8, 40, "limits.per_vo.other"),
    (7, "example", 12, 90, "closed: downtime: the site moves its disks"), (12, "other", 0, 20, ""),
)  # fmt: skip
MODELS = ("AMD EPYC 7763 64-Core Processor", "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", "Neoverse-N1")
MEASURE = """<!doctype html><title>not measured</title><body style="margin:0"><iframe id="page" src="{address}"
 style="width:{width}px;height:1000px;border:0"></iframe><script>addEventListener("load", () => {{
 const root = document.getElementById("page").contentDocument.documentElement;
 document.title = root.scrollWidth + " " + root.clientWidth; }});</script>"""


def entry(number: int, now: float) -> Entry:
    """One entry of many."""
    down = (Downtime(now - 3600, now + 3600, "the site moves its disks"),) if number % 40 == 7 else ()
    return Entry(f"site-{number:04}", f"Example_T{number % 3 + 1}", "sh", limits=Limits(total=150), downtimes=down)


def factory(directory: Path, entries: int) -> Factory:
    """A factory whose files are in this directory."""
    state = str(directory / "state")
    made = tuple(entry(number, time.time()) for number in range(entries))
    return Factory(
        "example-factory", state, str(directory), "launcher.sh", "https://factory", database=f"sqlite:///{state}.sqlite",
        entries=made,
    )  # fmt: skip


def fill(store: Store, *, entries: int, pilots: int, seed: int = 1) -> None:
    """So many pilots on so many entries, of the last days; the first of them failed and has a report and events."""
    chance, now = random.Random(seed), time.time()
    rows = [_pilot(chance, number, entries, now) for number in range(pilots)]
    scores = [_score(chance, row, now) for row in rows if row["jobs_started"]][: pilots // 10]
    steps = [dict(zip(("stage", "what", "start", "seconds", "status"), step, strict=True)) for step in STEPS]
    with store.write() as session:
        session.execute(insert(PilotRow), rows)
        session.execute(insert(ScoreRow), scores)
        told = zlib.compress(_events())
        session.add(EventsRow(pilot_id="p000000", upto=1, received=now, dropped=0, lines=told))
        session.add(ReportRow(pilot_id="p000000", document={"timeline": steps}))
        _ask(session, now)
        for number, state in enumerate(("prepared", "queued", "running", "ended")):
            session.add(ChangeRow(pilot_id="p000000", at=now - 4000 + 900 * number, state=state))
    tidy(store, Kept(), now=now)


def _ask(session: Session, now: float) -> None:
    """Two frontends that ask for pilots at a few entries, and what some of them lack more for."""
    wanted = {"remove": "NO", "idle": [], "credentials": []}
    for name in ("example-vo", "other-vo"):
        session.add(FrontendRow(name=name, sequence=1, digest="", received=now, expires=now + 86400, answer={}))
    session.flush()
    for number, vo, queued, pilots, limit in REQUESTS:
        row = RequestRow(frontend=f"{vo}-vo", entry=f"site-{number:04}", vo=vo, queued=queued, pilots=pilots, **wanted)
        row.limited_by = limit
        session.add(row)


def _events() -> bytes:
    """What a pilot that failed told."""
    lines: list[dict[str, object]] = [{"seconds": 0.1, "event": "pilot.started", "host": "wn253.example.org"}]
    for stage, what, start, took, status in STEPS:
        lines.append({"seconds": start + took, "event": "task.ended", "stage": stage, "name": what, "status": status})
    kind, code, _ = FAILURES[1]
    lines.append({"seconds": 12.9, "event": "pilot.ending", "failure": {"kind": kind, "code": code}})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _pilot(chance: random.Random, number: int, entries: int, now: float) -> dict[str, object]:
    state = PilotState.ENDED if number == 0 else chance.choices(list(PilotState), (1, 6, 30, 2, 55, 3, 2, 1))[0]
    failed = number == 0 or (state is PilotState.ENDED and chance.random() < 0.15)
    kind, code, message = chance.choice(FAILURES) if failed else ("", "", "")
    submitted = now - chance.random() * 6 * DAY_SECONDS
    of = chance.randrange(entries)
    waste = chance.random() * (of % 7 + 1)
    return {
        "id": f"p{number:06}", "entry": f"site-{of:04}", "site": f"Example_T{of % 3 + 1}", "payload": "pilot.sh",
        "sha256": "0" * 64, "state": state.value, "submitted": submitted, "directory": "/state", "cluster": number,
        "process": 0, "ended": min(now, submitted + 9000) if state.final else None, "exit_code": 64 if failed else 0,
        "host": f"wn{chance.randrange(400)}.example.org", "outcome": "failed" if failed else "ok", "message": message,
        "failure_kind": kind, "failure_code": code, "jobs_started": 0 if failed else chance.randrange(9),
        "report": number == 0, "vo": "example", "jobs_evicted": 0, "validation_seconds": 30 + waste * 100,
        "busy_seconds": 0.0 if failed else 7000.0, "idle_seconds": waste * 700, "seen": None, "missing_since": None,
    }  # fmt: skip


def _score(chance: random.Random, row: dict[str, object], now: float) -> dict[str, object]:
    model = hash_of(str(row["entry"])) % len(MODELS)
    number = (1 + model) * 8 * chance.uniform(0.8, 1.2)
    return {
        "pilot_id": row["id"], "benchmark": "db12", "entry": row["entry"], "unit": "DB12", "number": number,
        "cpu_model": MODELS[model], "at": now,
    }  # fmt: skip


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(map(ord, text))


@contextmanager
def served(made: Factory, store: Store) -> Iterator[str]:
    """The address of the running server. ``/measure`` shows a page in a frame and tells its width in its title."""
    app = application(live(made, store))

    @app.get("/measure")
    def measure(request: Request, address: str, width: int) -> HTMLResponse:
        return HTMLResponse(MEASURE.format(address=address, width=width), headers={"Content-Security-Policy": ""})

    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=ImpatientProtocol, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([door],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        door.close()
