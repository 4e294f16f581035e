"""What a pilot knows of its time becomes one decision; with too little of it the pilot says what would change that."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config import Layer, load_config
from pilot_agent.lifecycle.deadline import Deadline, TimeLimit
from pilot_agent.lifetime import TOO_SHORT, check_time, deadline_of, require_time, summary
from pilot_agent.model import CheckStatus, Fact, Failure, FailureKind, Limit, PilotError
from pilot_agent.state import State

STARTED = 1_795_000_000.0


def fact(name: str, value: float, source: str, **others: float) -> Fact:
    ends = tuple(Limit(name, number, "s", named) for named, number in {source: value, **others}.items())
    return Fact(name, value, "s", source=source, limits=ends if name == "batch.end_time" else ())


def state(*facts: Fact, **times: Any) -> State:
    pool = {"token": times.pop("token")} if "token" in times else {}
    config = load_config([Layer("factory", {"time": {"spread_seconds": 0, **times}, "pool": pool})])
    return State("x", STARTED, "n1", "pilot", config, {}, facts={each.name: each for each in facts})


def sources(found: Deadline) -> dict[str, tuple[str, float | None]]:
    return {limit.source: (limit.kind, limit.ends) for limit in found.limits}


def token_file(directory: Path, expires: float | None) -> str:
    payload: dict[str, Any] = {"iss": "pool", "sub": "pilot@pool"} | ({"exp": expires} if expires is not None else {})
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": "HS256"}, payload)]
    path = directory / "token"
    path.write_text(".".join((*parts, "c2ln")))
    path.chmod(0o600)
    return str(path)


def failure(found: Deadline, now: float = STARTED, *, beginning: bool = True) -> Failure:
    with pytest.raises(PilotError) as caught:
        require_time(found, beginning=beginning, now=now)
    return caught.value.failure


def test_every_end_that_the_batch_system_told_is_a_source() -> None:
    ends = {"MACHINEFEATURES shutdowntime": STARTED + 9000, "JOBFEATURES shutdowntime_job": STARTED + 9500}
    found = deadline_of(state(fact("batch.end_time", STARTED + 8000, "SLURM_JOB_END_TIME", **ends)))
    assert sources(found) == {
        "SLURM_JOB_END_TIME": ("batch", STARTED + 8000),
        "MACHINEFEATURES shutdowntime": ("features", STARTED + 9000),
        "JOBFEATURES shutdowntime_job": ("features", STARTED + 9500),
    }


def test_why_the_batch_system_told_none_is_kept() -> None:
    (limit,) = deadline_of(state(Fact.unknown("batch.end_time", "bjobs is not in the search path"))).limits
    assert (limit.counts, limit.why) == (False, "bjobs is not in the search path")
    half = replace(fact("batch.end_time", STARTED + 8000, "PBS"), detail="PBS_WALLTIME is 'x', which is no number")
    assert [limit.counts for limit in deadline_of(state(half)).limits] == [True, False]


def test_the_configured_time_is_counted_from_the_start_of_the_batch_job() -> None:
    start = fact("batch.start_time", STARTED - 3000, "SLURM_JOB_START_TIME")
    found = deadline_of(state(start, walltime_seconds=10000))
    assert sources(found) == {"SLURM_JOB_START_TIME + time.walltime_seconds": ("walltime", STARTED + 7000)}


def test_without_a_batch_job_the_configured_time_is_counted_from_the_pilots_start() -> None:
    found = deadline_of(state(Fact.absent("batch.start_time", "no batch system"), walltime_seconds=10000))
    assert sources(found) == {"the pilot's start + time.walltime_seconds": ("walltime", STARTED + 10000)}


@pytest.mark.parametrize("start", [0, -5, STARTED + 7200])
def test_a_start_that_cannot_be_is_not_counted_from(start: float) -> None:
    (limit,) = deadline_of(state(fact("batch.start_time", start, "x"), walltime_seconds=10000)).limits
    assert limit.ends == STARTED + 10000
    assert "counted from the pilot's start" in limit.why


def test_the_token_bounds_the_pilot(tmp_path: Path) -> None:
    found = deadline_of(state(token=token_file(tmp_path, 4_000_000_000)))
    assert [(limit.kind, limit.counts) for limit in found.limits] == [("token", False)]
    path = token_file(tmp_path, STARTED + 10**8)
    assert sources(deadline_of(state(token=path))) == {"expiry of pool.token": ("token", STARTED + 10**8)}


def test_a_token_that_lasts_or_is_replaced_or_cannot_be_read_bounds_nothing(tmp_path: Path) -> None:
    lasting = deadline_of(state(token=token_file(tmp_path, None)))
    replaced = deadline_of(state(token=token_file(tmp_path, STARTED + 10**8), until_token_expires=False))
    missing = deadline_of(state(token=str(tmp_path / "none")))
    told = [found.limits[0].why for found in (lasting, replaced, missing)]
    assert told[:2] == ["the token never expires", "time.until_token_expires is false"]
    assert "there is no file" in told[2]
    assert [found.decided for found in (lasting, replaced, missing)] == [None, None, None]


def test_a_node_whose_clock_is_behind_ends_earlier() -> None:
    end = fact("batch.end_time", STARTED + 8000, "SLURM_JOB_END_TIME")
    behind = deadline_of(state(end, Fact("clock.offset_seconds", -100.0, "s")))
    ahead = deadline_of(state(end, Fact("clock.offset_seconds", 100.0, "s")))
    assert behind.leaves == STARTED + 8000 - 100 - 30
    assert ahead.leaves == STARTED + 8000 - 30


@pytest.mark.parametrize(
    ("kind", "failure_kind", "code", "advice"),
    [
        ("batch", FailureKind.CONFIG, TOO_SHORT, "--time"),
        ("walltime", FailureKind.CONFIG, TOO_SHORT, "time.walltime_seconds"),
        ("features", FailureKind.NODE_RESOURCE, "time.shutdown_near", "the site"),
        ("token", FailureKind.CREDENTIAL, "token.expires_soon", "the VO"),
    ],
)
def test_too_little_time_says_who_must_act(kind: Any, failure_kind: FailureKind, code: str, advice: str) -> None:
    limit = TimeLimit(kind, "the source", STARTED + 700, STARTED + 700, True)
    found = Deadline((limit,), limit, int(STARTED + 500), int(STARTED + 645), int(STARTED + 670), minimum_seconds=600)
    said = failure(found)
    assert (said.kind, said.code) == (failure_kind, code)
    assert advice in said.hint
    for number in ("in 700 s", "55 s for the end", "145 s for jobs that run on", "for 500 s", "600 s are needed"):
        assert number in said.message
    assert "(the source)" in said.message


def test_the_minimum_counts_at_the_beginning_only() -> None:
    found = deadline_of(state(fact("batch.end_time", STARTED + 900, "x"), retirement_seconds=60))
    require_time(found, beginning=True, now=STARTED + 100)
    failure(found, STARTED + 300)
    require_time(found, beginning=False, now=STARTED + 700)
    failure(found, STARTED + 790, beginning=False)


def test_a_pilot_without_a_limit_has_time() -> None:
    require_time(deadline_of(state()), beginning=True, now=STARTED)
    assert check_time(deadline_of(state()), now=STARTED).status is CheckStatus.SKIP


def test_check_tells_the_end_and_warns_of_one_that_is_near() -> None:
    good = check_time(deadline_of(state(fact("batch.end_time", STARTED + 86400, "x"))), now=STARTED)
    near = check_time(deadline_of(state(fact("batch.end_time", STARTED + 300, "x"))), now=STARTED)
    assert (good.status, near.status, near.code) == (CheckStatus.PASS, CheckStatus.WARN, TOO_SHORT)
    assert near.hint


def test_one_line_says_when_and_why() -> None:
    line = summary(deadline_of(state(fact("batch.end_time", STARTED + 86400, "SLURM_JOB_END_TIME"))))
    assert line == (
        "ends at 2026-11-19 11:06:10 UTC because the batch job ends at 2026-11-19 11:06:40 UTC (SLURM_JOB_END_TIME); "
        "no job begins after 2026-11-19 10:35:45 UTC, the last are ended at 2026-11-19 11:05:45 UTC"
    )
    assert summary(deadline_of(state())).startswith("no limit is known: a pilot stays")
