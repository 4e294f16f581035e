"""The keeper looks after the pool's token: a new file is taken up, a bad one told, the end foretold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from typing import Any

import pytest

from tests.lifecycle.scenario import Pilot, wait_until
from tests.lifecycle.test_keeper import last_ad, with_reader


def watching(pilot: Pilot, script: str, beside: str = "", *, time: Any = None, **changes: Any) -> None:
    """A keeper whose token is looked at by this shell script."""
    (pilot.directory / "source").write_text("one")
    token = {
        "source": str(pilot.directory / "source"),
        "installed": str(pilot.directory / "installed"),
        "command": ["/bin/sh", "-c", f"echo x >> {pilot.directory}/looks; {script}"],
        "environment": pilot.environment,
        "expires": None,
        "period_seconds": 0.2,
        "warning_seconds": 0,
        **changes,
    }
    pilot.plan(beside + with_reader(pilot), token=token, **({"time": time} if time else {}))
    pilot.start()
    pilot.running()


def looks(pilot: Pilot) -> int:
    path = pilot.directory / "looks"
    return len(path.read_text().splitlines()) if path.exists() else 0


def replace(pilot: Pilot, text: str = "two") -> None:
    (pilot.directory / "new").write_text(text)
    os.rename(pilot.directory / "new", pilot.directory / "source")


def events(pilot: Pilot, name: str) -> list[dict[str, Any]]:
    lines = (pilot.workspace / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def answer(**values: Any) -> str:
    return f"echo '{json.dumps(values)}'"


def test_an_untouched_file_is_never_read(pilot: Pilot) -> None:
    watching(pilot, answer(expires=None))
    time.sleep(2)
    assert looks(pilot) == 0


def test_a_replaced_file_is_taken_up_once(pilot: Pilot) -> None:
    later = int(time.time()) + 5000
    watching(pilot, answer(expires=later, subject="pilot@pool", changed=True))
    replace(pilot)
    wait_until(lambda: events(pilot, "token.replaced"), "the token was replaced")
    assert events(pilot, "token.replaced")[0]["expires"] == later
    wait_until(lambda: last_ad(pilot).get("PilotTokenExpires") == str(later), "the ad says when it expires")
    time.sleep(1)
    assert looks(pilot) == 1


def test_a_fresh_one_lets_the_pilot_live_longer_and_jobs_begin_again(pilot: Pilot) -> None:
    now = int(time.time())
    times = {"retire": now - 1, "deadline": now + 600, "budget_seconds": 20, "token_lead_seconds": 50}
    starter = pilot.directory / "condor_starter"
    shutil.copy("/bin/sleep", starter)
    watching(pilot, answer(expires=now + 5050, changed=True), f"setsid {starter} 600 & ", time=times)
    wait_until(lambda: last_ad(pilot).get("PilotAccepting") == "false", "no job begins any more")
    replace(pilot)
    wait_until(lambda: last_ad(pilot).get("GLIDEIN_ToDie") == str(now + 5000), "the ad has the new end")
    wait_until(lambda: last_ad(pilot).get("PilotAccepting") == "true", "jobs begin again")
    assert last_ad(pilot)["GLIDEIN_ToRetire"] == str(now + 4399)
    assert last_ad(pilot)["GLIDEIN_Expire"] == str(now + 5050)
    assert [event["to_die"] for event in events(pilot, "time.renewed")] == [now + 5000]


def test_a_file_that_was_replaced_during_the_hand_off_is_seen(pilot: Pilot) -> None:
    (pilot.directory / "installed").write_text("old")
    time.sleep(0.02)
    watching(pilot, answer(expires=None, changed=True))
    wait_until(lambda: events(pilot, "token.replaced"), "the token was replaced")


def test_a_hangup_looks_again_without_a_change(pilot: Pilot) -> None:
    watching(pilot, answer(expires=None, changed=False), period_seconds=600)
    pilot.send(signal.SIGHUP)
    wait_until(lambda: events(pilot, "token.unchanged"), "it was looked at")
    assert looks(pilot) == 1


@pytest.mark.parametrize(
    "script",
    [answer(code="token.expired", message="too late") + "; exit 67", "exit 1", "kill -KILL $$", "echo '['", "echo 3"],
)
def test_a_refused_one_is_told_once_and_the_pilot_goes_on(pilot: Pilot, script: str) -> None:
    watching(pilot, script)
    replace(pilot)
    wait_until(lambda: events(pilot, "token.refused"), "the refusal was told")
    time.sleep(1)
    assert looks(pilot) == 1
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_a_file_that_is_gone_is_no_change(pilot: Pilot) -> None:
    watching(pilot, answer(expires=None))
    (pilot.directory / "source").unlink()
    time.sleep(1)
    assert looks(pilot) == 0


def test_the_end_is_foretold_once_and_told_once(pilot: Pilot) -> None:
    watching(pilot, answer(expires=None), expires=time.time() + 3, warning_seconds=60)
    wait_until(lambda: events(pilot, "token.expired"), "the end was told")
    wait_until(lambda: last_ad(pilot).get("PilotTokenExpiring") == "true", "the ad says so")
    time.sleep(1)
    assert len(events(pilot, "token.expiring")) == len(events(pilot, "token.expired")) == 1


def test_a_fresh_one_takes_the_warning_back(pilot: Pilot) -> None:
    watching(pilot, answer(expires=None, changed=True), expires=time.time() + 30, warning_seconds=60)
    wait_until(lambda: last_ad(pilot).get("PilotTokenExpiring") == "true", "the end is foretold")
    replace(pilot)
    wait_until(lambda: last_ad(pilot).get("PilotTokenExpiring") == "false", "the warning is taken back")


def renewal(pilot: Pilot, script: str) -> list[str]:
    """A question to the factory that this shell script answers."""
    return ["/bin/sh", "-c", f"echo x >> {pilot.directory}/questions; {script}"]


def questions(pilot: Pilot) -> int:
    path = pilot.directory / "questions"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_the_factory_is_asked_in_time_and_what_it_gives_counts(pilot: Pilot) -> None:
    later = int(time.time()) + 5000
    given = answer(expires=later, subject="pilot@pool", changed=True)
    watching(pilot, "exit 1", expires=time.time() + 2, period_seconds=600, renewal=renewal(pilot, given))
    wait_until(lambda: events(pilot, "token.replaced"), "the token was replaced")
    assert events(pilot, "token.replaced")[0]["expires"] == later
    wait_until(lambda: last_ad(pilot).get("PilotTokenExpires") == str(later), "the ad says when it expires")
    time.sleep(1)
    assert (questions(pilot), looks(pilot)) == (1, 0)


def test_while_there_is_nothing_newer_or_nobody_answers_it_is_asked_again_and_told_once(pilot: Pilot) -> None:
    away = answer(code="token.renewal", message="no route") + "; exit 1"
    nothing = answer(expires=None, changed=False)
    script = f"if [ $(wc -l < {pilot.directory}/questions) -lt 3 ]; then {away}; else {nothing}; fi"
    (pilot.directory / "script").write_text(script)
    asked = renewal(pilot, f". {pilot.directory}/script")
    watching(pilot, "exit 1", expires=time.time() + 1, warning_seconds=0, renewal=asked)
    wait_until(lambda: questions(pilot) > 4, "it was asked again and again")
    assert [event["message"] for event in events(pilot, "token.renewal_failed")] == ["no route"]
    assert not events(pilot, "token.replaced")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_a_token_that_the_factory_gave_and_that_is_no_good_is_told_as_refused(pilot: Pilot) -> None:
    bad = answer(code="token.other_pool", message="of another pool") + "; exit 67"
    watching(pilot, "exit 1", expires=time.time() + 1, renewal=renewal(pilot, bad))
    wait_until(lambda: events(pilot, "token.refused"), "the refusal was told")
    wait_until(lambda: questions(pilot) > 2, "it is asked again")
    assert [event["code"] for event in events(pilot, "token.refused")] == ["token.other_pool"]


def test_a_token_that_never_ends_is_not_asked_for(pilot: Pilot) -> None:
    watching(pilot, "exit 1", renewal=renewal(pilot, "exit 0"))
    time.sleep(1)
    assert questions(pilot) == 0


def test_after_a_renewal_a_hangup_asks_the_factory_and_not_the_older_file(pilot: Pilot) -> None:
    given = answer(expires=int(time.time()) + 5000, changed=True)
    watching(pilot, "exit 1", expires=time.time() + 1, period_seconds=600, renewal=renewal(pilot, given))
    wait_until(lambda: events(pilot, "token.replaced"), "the token was replaced")
    pilot.send(signal.SIGHUP)
    wait_until(lambda: questions(pilot) == 2, "the factory was asked")
    assert looks(pilot) == 0
