"""Setups, checks, periodic tests and benchmarks of the configuration become what a plugin would have declared."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent import host, stages, tasks
from pilot_agent.collect import Declared
from pilot_agent.config import Layer, load_config
from pilot_agent.configure import new_state
from pilot_agent.environment import clean_environment
from pilot_agent.events import EventLog
from pilot_agent.hookspecs import Benchmark, Check, Periodic, Setup
from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.inherited import undo_setups, waiting
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.teardown import run_commands
from pilot_agent.model import CheckStatus, FailureKind, Json, PilotError
from pilot_agent.ordering import in_order
from pilot_agent.plugins.setups import pilot_benchmarks, pilot_checks, pilot_periodics, pilot_setups
from pilot_agent.process import run
from pilot_agent.services.variables import PORTS_VARIABLE
from pilot_agent.stages import Session
from pilot_agent.state import State, save_state
from pilot_agent.tasks import periodic_command
from pilot_agent.workspace import Workspace

SCRIPT = "#!/bin/sh\necho x\n"
TRUE = ["/bin/true"]


def configured(*layers: Layer) -> dict[str, Any]:
    return dict(load_config(layers).values)


def of(section: str, what: str, *entries: Json) -> Layer:
    return Layer("factory", {section: {what: list(entries)}})


def refused(*layers: Layer) -> str:
    config = configured(*layers)
    with pytest.raises(PilotError) as caught:
        [*pilot_setups(config), *pilot_checks(config), *pilot_periodics(config), *pilot_benchmarks(config)]
    assert caught.value.failure.code == "config.invalid"
    return caught.value.failure.message


def test_nothing_is_declared_where_nothing_is_configured() -> None:
    config = configured()
    assert [*pilot_setups(config), *pilot_checks(config), *pilot_periodics(config), *pilot_benchmarks(config)] == []


def test_an_entry_becomes_a_record_under_the_name_of_who_asked() -> None:
    whole = {
        "name": "a",
        "command": ["/bin/x", "{script}"],
        "script": SCRIPT,
        "where": "image",
        "platform": "el9",
        "stage": "late",
        "required": False,
        "timeout_seconds": 7,
        "teardown": ["/bin/y"],
        "teardown_seconds": 2,
    }
    assert list(pilot_setups(configured(of("vo", "setups", whole)))) == [
        Setup(
            name="vo.a",
            command=("/bin/x", "{script}"),
            script=SCRIPT,
            where="image",
            platform="el9",
            required=False,
            timeout_seconds=7,
            teardown=("/bin/y",),
            teardown_seconds=2,
        )
    ]
    check = {"name": "b", "command": TRUE, "kind": "network"}
    assert list(pilot_checks(configured(of("site", "checks", check)))) == [
        Check(name="site.b", command=("/bin/true",), kind=FailureKind.NETWORK)
    ]
    test = {"name": "c", "script": SCRIPT, "period_seconds": 60, "on_failure": "drain"}
    assert list(pilot_periodics(configured(of("vo", "periodics", test)))) == [
        Periodic(name="vo.c", command=("{script}",), script=SCRIPT, period_seconds=60, on_failure="drain")
    ]


def test_a_suite_in_an_image_is_a_benchmark_of_who_asked() -> None:
    suite = {
        "name": "hepscore",
        "command": ["bmkrun", "-n", "4"],
        "where": "image",
        "platform": "hepscore",
        "timeout_seconds": 20000,
        "result": "out/bmkrun_report.json",
        "score_at": "profiles.hepscore.score",
        "parts_at": "profiles.hepscore.wl-scores",
        "unit": "HS23",
        "cores": "all",
        "when": "beside",
        "memory_mib": 8192,
        "disk_mib": 20000,
        "version": "23",
        "cache_days": 7,
    }
    assert list(pilot_benchmarks(configured(of("vo", "benchmarks", suite)))) == [
        Benchmark(
            name="vo.hepscore",
            command=("bmkrun", "-n", "4"),
            where="image",
            platform="hepscore",
            timeout_seconds=20000,
            result="out/bmkrun_report.json",
            score_at="profiles.hepscore.score",
            parts_at="profiles.hepscore.wl-scores",
            unit="HS23",
            cores="all",
            when="beside",
            memory_mib=8192,
            disk_mib=20000,
            version="23",
            cache_days=7,
        )
    ]


def test_no_benchmark_is_declared_where_they_are_switched_off() -> None:
    entry = {"name": "a", "command": TRUE, "timeout_seconds": 5}
    layer = of("site", "benchmarks", entry)
    assert len(list(pilot_benchmarks(configured(layer)))) == 1
    assert list(pilot_benchmarks(configured(layer, Layer("site", {"benchmarks": {"enabled": False}})))) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"result": "/etc/passwd"}, "is no file below the benchmark's own directory"),
        ({"memory_mib": 0}, "memory_mib=0 is less than 1"),
        ({"score_at": "a..b"}, "leads nowhere"),
        ({"parts_at": "a..b"}, "leads nowhere"),
        ({"when": "periodic", "period_seconds": 5}, "period_seconds=5 is less than 60"),
        ({"unit": "x" * 33}, "is no unit"),
    ],
)
def test_a_benchmark_that_can_never_run_is_refused_with_its_place(wrong: dict[str, Json], said: str) -> None:
    message = refused(of("vo", "benchmarks", {"name": "a", "command": TRUE, "timeout_seconds": 5, **wrong}))
    assert "vo.benchmarks[0] (factory): " in message
    assert said in message


def test_setups_run_in_the_order_of_their_lists_the_sites_before_the_vos_and_layers_one_after_the_other() -> None:
    def one(name: str, **more: Json) -> Json:
        return {"name": name, "command": TRUE, **more}

    records = list(
        pilot_setups(
            configured(
                Layer("factory", {"vo": {"setups": [one("a"), one("b", stage="early")]}}),
                Layer("vo", {"vo": {"setups": [one("c")]}}),
                Layer("site", {"site": {"setups": [one("s"), one("t", stage="early")]}}),
            )
        )
    )
    declared = [Declared("builtin.setups", "pilot_setups", record, builtin=True) for record in records]
    for stage, names in (("early", ["site.t", "vo.b"]), ("late", ["site.s", "vo.a", "vo.c"])):
        backwards = [task for task in declared[::-1] if task.record.stage == stage]
        assert [task.record.name for task in in_order(backwards)] == names


def test_neither_site_nor_vo_speaks_for_the_other() -> None:
    entry = {"name": "a", "command": TRUE}
    message = refused(
        Layer("vo", {"site": {"setups": [entry]}}),
        Layer("site", {"vo": {"setups": [entry]}, "site": {"setups": [{**entry, "name": "b"}]}}),
    )
    assert "2 problems" in message
    assert "site.setups[0] (vo): the file of the vo cannot say what the site runs" in message
    assert "vo.setups[0] (site): the file of the site cannot say what the vo runs" in message
    assert list(pilot_setups(configured(of("site", "setups", entry), of("vo", "checks", entry))))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"script": "/no/such"}, "there is no script /no/such"),
        ({"command": ["{script}"]}, "script names no file"),
        ({"command": ["/bin/x", "a\0b"]}, "command has a zero byte"),
        ({"script": "/a\0b"}, "script has a zero byte"),
        ({"command": TRUE, "teardown": ["{script}"]}, "script names no file"),
    ],
)
def test_what_can_never_run_is_refused_with_its_place(entry: dict[str, Json], words: str) -> None:
    message = refused(of("vo", "setups", {"name": "good", "command": TRUE}, {"name": "bad", **entry}))
    assert "vo.setups[1] (factory): " in message
    assert words in message


def test_a_name_is_given_once_also_across_layers() -> None:
    entry = {"name": "a", "command": TRUE}
    message = refused(of("vo", "checks", entry), Layer("vo", {"vo": {"checks": [entry]}}))
    assert "vo.checks[0].name (vo): 'a' is the name of vo.checks[0] too" in message


def test_a_script_beside_the_start_directory_is_found_and_one_that_others_can_change_refused(
    open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(open_path)
    script = open_path / "s.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    (record,) = pilot_checks(configured(of("vo", "checks", {"name": "a", "script": "s.sh"})))
    assert record.script == str(script)
    script.chmod(0o777)
    assert "may be written by everybody" in refused(of("vo", "checks", {"name": "a", "script": "s.sh"}))


@pytest.fixture
def at_work(tmp_path: Path) -> tuple[Session, State]:
    workspace = Workspace(str(tmp_path / "pilot-1"))
    os.mkdir(workspace.root)
    workspace.create()
    return _session(workspace, []), new_state(load_config([]), {"SITE": "x"}, output=str(tmp_path))


def _session(workspace: Workspace, found: Sequence[Declared]) -> Session:
    environment = clean_environment({}, home=workspace.temporary, temporary=workspace.temporary)
    around = host.Surroundings(tuple(interpreter_command()), environment)
    loaded = host.Loaded(tuple(found), ())
    return Session(around, loaded, EventLog(workspace.events, 0), workspace, journal=Journal(workspace.journal))


def declared(hook: str, *records: Any) -> list[Declared]:
    return [Declared("builtin.setups", hook, record, builtin=True) for record in records]


TELLS = """\
#!/bin/sh
[ "$1" = undo ] && { echo "$PILOT_ID" >> ../undone; exit; }
grep -q "\\"pilot_id\\": \\"$PILOT_ID\\"" "$PILOT_CONTEXT" || exit 9
echo "{\\"environment\\": {\\"ID\\": \\"$PILOT_ID\\", \\"HERE\\": \\"$(ls)\\"}}"
"""


def test_a_script_given_as_text_runs_and_is_undone_with_the_pilots_id(at_work: tuple[Session, State]) -> None:
    session, state = at_work
    entry = {"name": "a", "script": TELLS, "teardown": ["{script}", "undo"]}
    records = pilot_setups(configured(of("vo", "setups", entry)))
    session = _session(session.workspace, declared("pilot_setups", *records))
    state = stages.setup_late(session, state)
    assert state.job_environment == {"ID": state.pilot_id, "HERE": ""}
    (left,) = os.listdir(session.workspace.temporary)
    assert left.startswith("teardown-vo.a-")
    assert run_commands(session.workspace, Budget(60))
    assert (Path(session.workspace.temporary) / "undone").read_text() == f"{state.pilot_id}\n"


def test_what_a_killed_pilots_setup_made_is_undone_by_the_teardown_that_the_next_one_declares(
    at_work: tuple[Session, State], tmp_path: Path
) -> None:
    session, state = at_work
    dead = Workspace(str(tmp_path / "pilot-00000000000d"))
    os.mkdir(dead.root)
    dead.create()
    Path(dead.lock).touch()
    script = TELLS.replace("../undone", str(tmp_path / "undone"))
    entry = {"name": "a", "script": script, "teardown": ["{script}", "undo"]}
    inside = {"name": "b", "script": script, "teardown": ["{script}", "undo"], "where": "image"}
    plain = {"name": "c", "script": script}
    records = declared("pilot_setups", *pilot_setups(configured(of("vo", "setups", entry, inside, plain))))
    killed = replace(state, pilot_id="00000000000d")
    tasks.journal_teardown(_session(dead, records), killed, records[0].record)
    planted = ["/bin/touch", str(tmp_path / "planted")]
    for label in ("teardown of vo.a", "teardown of vo.b", "teardown of vo.c"):
        Journal(dead.journal).command(label, planted, {}, directory="/", seconds=5, pilot_started=0)
    own = tasks.own_teardowns(_session(session.workspace, records), replace(state, pilot_id="000000000002"))
    ran, leftovers = undo_setups(dead, own, Budget(60))
    assert ran == ["teardown of vo.a: ok"]
    assert (tmp_path / "undone").read_text() == "00000000000d\n"
    assert not (tmp_path / "planted").exists()
    causes = {one["name"]: one["cause"] for one in leftovers}
    assert list(causes) == ["teardown of vo.c", "teardown of vo.b"]
    assert "inside an image" in causes["teardown of vo.b"]
    assert causes["teardown of vo.c"] == "this pilot has no such setup"
    assert os.listdir(session.workspace.temporary) == []
    assert waiting(dead), "another pilot may know the third"
    assert undo_setups(dead, own, Budget(60)) == ([], [leftovers[0]])


def test_a_required_setup_that_fails_ends_the_stage_and_says_who_must_act(at_work: tuple[Session, State]) -> None:
    session, state = at_work
    entries = [
        {"name": "optional", "script": "#!/bin/sh\nexit 3\n", "required": False},
        {"name": "slow", "command": ["/bin/sleep", "600"], "timeout_seconds": 0.2, "required": False},
        {"name": "needed", "script": "#!/bin/sh\necho no disk >&2\nexit 4\n"},
        {"name": "later", "command": ["/bin/echo", '{"environment": {"LATER": "1"}}']},
    ]
    records = pilot_setups(configured(of("site", "setups", *entries)))
    state = stages.setup_late(_session(session.workspace, declared("pilot_setups", *records)), state)
    ends = [(entry.what, entry.status) for entry in state.timeline]
    assert ends == [("site.optional", "failed"), ("site.slow", "timeout"), ("site.needed", "failed")]
    (failure,) = state.failures
    assert "site.needed" in failure.message
    assert "no disk" in failure.message
    assert "the site for site." in failure.hint
    assert not state.job_environment


def test_checks_are_verdicts_under_the_name_of_who_asked(at_work: tuple[Session, State]) -> None:
    session, state = at_work
    entries = [
        {"name": "good", "command": ["/bin/echo", "fine"]},
        {"name": "bad", "script": '#!/bin/sh\necho \'{"message": "m", "hint": "h"}\'; exit 1\n', "kind": "network"},
    ]
    records = pilot_checks(configured(of("vo", "checks", *entries)))
    state = stages.validate(_session(session.workspace, declared("pilot_checks", *records)), state)
    good, bad = state.checks
    assert (good.name, good.status, good.message) == ("vo.good", CheckStatus.PASS, "fine")
    assert (bad.name, bad.status, bad.hint) == ("vo.bad", CheckStatus.FAIL, "h")
    assert [(failure.kind, failure.code) for failure in state.failures] == [(FailureKind.NETWORK, "check.vo.bad")]


def test_a_periodic_test_keeps_its_directory_and_its_script(at_work: tuple[Session, State]) -> None:
    session, state = at_work
    (record,) = pilot_periodics(configured(of("vo", "periodics", {"name": "a", "script": SCRIPT, "period_seconds": 1})))
    (program,), environment = periodic_command(session, state, record, session.around.environment)
    assert Path(program).read_text() == SCRIPT
    assert os.access(program, os.X_OK)
    assert environment["PILOT_ID"] == state.pilot_id
    assert json.loads(Path(environment["PILOT_CONTEXT"]).read_text())["pilot_id"] == state.pilot_id


def test_functions_are_given_the_pilots_id(at_work: tuple[Session, State], tmp_path: Path) -> None:
    session, state = at_work
    assert session.context(state).pilot_id == state.pilot_id
    save_state(state, session.workspace.state)
    answer = "{'Id': context.pilot_id, 'Task': context.task, 'Port': context.services['web']['http']}"
    source = f"def of_pilot(context):\n    return {answer}\n"
    (tmp_path / "draws.py").write_text(source)
    given = ["draws:of_pilot", "draw", session.workspace.state, str(tmp_path)]
    words = [*interpreter_command(), "_child", "periodic", *given]
    environment = {**session.around.environment, PORTS_VARIABLE: '{"web": {"http": 8000}}'}
    done = run(words, deadline_seconds=60, environment=environment)
    assert done.ok, done.explain()
    assert json.loads(done.stdout) == {"Id": state.pilot_id, "Task": "draw", "Port": 8000}
