"""The pool's token is replaced while a pilot runs, and is in no file, argument or variable but the token files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Jobs, slot_ads

UNBOUNDED = {"until_token_expires": False, "vacate_seconds": 3}
"""Tokens of these tests expire sooner than a pilot should live."""
QUICK = {"pool": {"token_check_seconds": 1}, "startd": {"idle_shutdown_seconds": 60}, "time": UNBOUNDED}
# The collector reports a slot again at the latest after so long: a quarter of the idle time.


def deliver(run: PilotRun, token: str) -> None:
    """Put a token where the batch system would, in one step."""
    run.write("pool.token.new", token + "\n", mode=0o600)
    os.rename(run.outer / "pool.token.new", run.outer / "pool.token")


def installed(run: PilotRun) -> str:
    """The token that HTCondor reads."""
    workspace = run.workspace
    assert workspace is not None
    path = workspace / "private" / "tokens" / "pool"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["pool"]
    return path.read_text().strip()


def end(run: PilotRun) -> None:
    """End it and see that nothing is left."""
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left()


def test_with_a_fresh_token_the_pilot_comes_back_after_its_collector_restarted(
    pilot: StartPilot, jobs: Jobs, grid: Grid
) -> None:
    lifetime = 30
    old = grid.token(lifetime_seconds=lifetime)
    made = time.time()
    run = pilot(QUICK, token=old).start()
    run.wait_for("pool.joined")
    job = jobs.shell("sleep 100; exit 5", pilot=run).wait_running()
    new = grid.token(lifetime_seconds=7200)
    deliver(run, new)
    run.wait_for("token.replaced")
    assert installed(run) == new
    time.sleep(max(0.0, made + lifetime + 2 - time.time()))
    # The collector forgets its ads and its sessions: only who has a good token gets in again.
    grid.pool.run(["pkill", "-KILL", "condor_collecto"])
    run.wait_until("the slots are gone", lambda: not slot_ads(grid, run))
    run.wait_until("the pilot is back", lambda: slot_ads(grid, run), 90)
    ad = run.wait_until("the ad", lambda: next(iter(slot_ads(grid, run)), None))
    assert ad["PilotTokenExpires"] > time.time() + 3000
    assert ad["PilotTokenExpiring"] is False
    job.wait_done(120)
    assert job.exit_codes() == [5]
    end(run)


def test_jobs_of_a_later_time_run_with_the_new_token(pilot: StartPilot, jobs: Jobs, grid: Grid) -> None:
    run = pilot(QUICK, token=grid.token(lifetime_seconds=25)).start()
    run.wait_for("token.expiring")
    deliver(run, grid.token(lifetime_seconds=3600))
    run.wait_for("token.replaced")
    time.sleep(26)
    job = jobs.shell("exit 6", pilot=run).wait_done()
    assert job.exit_codes() == [6]
    assert not [event for event in run.events() if event["event"] == "token.expired"]
    end(run)


@pytest.mark.parametrize("bad", ["expired", "garbage"])
def test_a_bad_new_token_is_refused_and_the_old_one_kept(
    pilot: StartPilot, grid: Grid, good_token: str, bad: str
) -> None:
    run = pilot(QUICK).start()
    run.wait_for("pool.joined")
    if bad == "expired":
        short = grid.token(lifetime_seconds=1)
        time.sleep(2)
        deliver(run, short)
    else:
        deliver(run, "no.token")
    event = run.wait_for("token.refused")
    assert event["code"] == {"garbage": "token.invalid", "expired": "token.expired"}[bad]
    assert installed(run) == good_token
    run.signal(signal.SIGHUP)
    run.wait_until("it was looked at again", lambda: sum(e["event"] == "token.refused" for e in run.events()) == 2)
    deliver(run, good_token)
    run.wait_for("token.unchanged")
    end(run)


def test_the_end_of_the_token_is_foretold(pilot: StartPilot, grid: Grid) -> None:
    run = pilot(QUICK, token=grid.token(lifetime_seconds=25)).start()
    assert run.wait_for("token.expiring")["left_seconds"] > 0
    run.wait_until("the ad", lambda: any(ad.get("PilotTokenExpiring") for ad in slot_ads(grid, run)))
    run.wait_for("token.expired")
    assert run.running
    end(run)


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_nothing_secret_is_in_any_file_argument_or_variable(
    pilot: StartPilot, jobs: Jobs, grid: Grid, host: str
) -> None:
    tokens = [grid.token(lifetime_seconds=3600), grid.token(lifetime_seconds=7200)]
    run = pilot(QUICK, token=tokens[0], host=host).start()
    run.wait_for("pool.joined")
    job = jobs.shell("touch ready; sleep 20", pilot=run)
    run.job_file("ready")
    found = written(run, tokens)
    assert found == {"pool.token", "private/tokens/pool"}
    deliver(run, tokens[1])
    run.wait_for("token.replaced")
    run.call("status", "--json")
    run.signal(signal.SIGUSR2)
    run.wait_for("pilot.status")
    assert written(run, tokens) == {"pool.token", "private/tokens/pool"}
    job.wait_done()
    end(run)
    assert written(run, tokens) == {"pool.token"}


def written(run: PilotRun, tokens: list[str]) -> set[str]:
    """Where a token, or its signature alone, is: files below the start directory, what the pilot printed, and the
    arguments and environments of all processes of the node."""
    secrets = [word.encode() for token in tokens for word in (token, token.rpartition(".")[2])]
    found = set()
    for path in [
        *run.outer.rglob("*"),
        run.host.directory / f"{run.name}.stdout",
        Path(f"{run.host.directory}/{run.name}.stderr"),
    ]:
        if not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes()
        if any(secret in content for secret in secrets):
            name = path.relative_to(run.outer) if path.is_relative_to(run.outer) else path
            parts = name.parts[1:] if name.parts[0].startswith("pilot-") else name.parts
            found.add("/".join(parts))
    for process in run.processes():
        lines = run.host.run(["cat", f"/proc/{process.pid}/cmdline", f"/proc/{process.pid}/environ"]).stdout.encode()
        if any(secret in lines for secret in secrets):
            found.add(f"process {process.argv[0]}")
    return found
