"""Plugins in children of their own: whatever one does, the host has an answer and the others keep their results."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent import host
from pilot_agent.codec import CodecError
from pilot_agent.collect import Declared
from pilot_agent.config import Layer, load_config
from pilot_agent.environment import clean_environment
from pilot_agent.hookspecs import Context, Event, Option, Probe
from pilot_agent.host import Ended, Loaded, Surroundings, complete_options, findings, load_plugins, run_all
from pilot_agent.interpreter import interpreter_command
from pilot_agent.model import Fact, Failure, FailureKind, Limit, PilotError
from pilot_agent.ordering import in_order
from pilot_agent.process import Interrupted
from tests.conftest import MakeDistribution, MakePlugin
from tests.wake_pipe import WakePipe

CONFIG = {"site": {"name": "Example_T2"}, "plugins": {"options": {}}}
LONG_SECONDS = 60.0


@pytest.fixture
def around(plugin_directory: Path, tmp_path: Path) -> Surroundings:
    """Real children with the plugin directory of the test."""
    home = str(tmp_path)
    return Surroundings(
        interpreter=tuple(interpreter_command()),
        environment=clean_environment({}, home=home, temporary=home),
        directories=(str(plugin_directory),),
    )


@pytest.fixture
def only_external(monkeypatch: pytest.MonkeyPatch) -> None:
    """No built-in plugins, so that what is loaded is what the test wrote."""
    monkeypatch.setattr(host, "BUILTIN_PLUGINS", ())


def load(around: Surroundings, *names: str, timeout_seconds: float = LONG_SECONDS) -> Loaded:
    """Load plugins by name."""
    return load_plugins(names, CONFIG, around, timeout_seconds)


def refused(around: Surroundings, *names: str, timeout_seconds: float = LONG_SECONDS) -> Failure:
    """Why loading fails."""
    with pytest.raises(PilotError) as caught:
        load(around, *names, timeout_seconds=timeout_seconds)
    failure = caught.value.failure
    assert (failure.kind, failure.code, failure.exit_code) == (FailureKind.CORRUPTION, "plugin.load", 68)
    assert failure.plugin == names[-1]
    assert "plugins.load" in failure.hint
    return failure


def run(tasks: Sequence[Declared], around: Surroundings, context: Context | None = None) -> dict[str, Ended]:
    """Run tasks; how each ended, by name, in the order in which they ended."""
    ended: dict[str, Ended] = {}
    run_all(
        tasks,
        lambda task: context or Context(config=CONFIG),
        around,
        lambda one: ended.__setitem__(one.declared.record.name, one),
    )
    return ended


GOOD = """
def look(context):
    yield Fact("good.site", context.config["site"]["name"])

@hookimpl
def pilot_probes(config):
    yield Probe(name="good", run=f"{__name__}:look", gives=("good.site",))
"""
OTHER = GOOD.replace("good.site", "other.site").replace('name="good"', 'name="other"')


def bad(body: str, *, timeout_seconds: float = LONG_SECONDS) -> str:
    """A plugin whose probe does this."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"""
def look(context):
{lines}

@hookimpl
def pilot_probes(config):
    yield Probe(name="bad", run=f"{{__name__}}:look", timeout_seconds={timeout_seconds})
"""


# ---- loading -----------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.usefixtures("only_external")


def test_a_plugin_says_what_it_declares_and_where_it_is_from(around: Surroundings, make_plugin: MakePlugin) -> None:
    directory = make_plugin("good", GOOD)
    loaded = load(around, "good")
    [declared] = loaded.of("pilot_probes")
    assert declared.record == Probe(name="good", run="good:look", gives=("good.site",))
    assert not declared.builtin
    [report] = loaded.plugins
    assert (report.name, report.source, report.hooks, report.declared) == (
        "good",
        f"{directory}/good.py",
        ("pilot_probes",),
        1,
    )


def test_a_plugin_leaves_no_byte_code_behind(around: Surroundings, make_plugin: MakePlugin) -> None:
    directory = Path(make_plugin("good", GOOD))
    load(around, "good")
    assert [path.name for path in directory.iterdir()] == ["good.py"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import module_that_is_not_there", "No module named 'module_that_is_not_there'"),
        ("def broken(:", "SyntaxError"),
        ("sys.exit('not here')", "exited 1: not here"),
        ("os._exit(0)", "ended without an answer"),
        ("os._exit(7)", "exited 7"),
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("@hookimpl\ndef pilot_probes(config):\n    raise KeyError('x')", "pilot_probes raised KeyError: 'x'"),
        ("@hookimpl\ndef pilot_probes(config):\n    os._exit(0)", "ended without an answer"),
        ("@hookimpl\ndef pilot_proves(config):\n    return []", "pilot_proves"),
        ("@hookimpl\ndef pilot_probes(settings):\n    return []", "settings"),
        ("@hookimpl\ndef pilot_probes(config):\n    yield Check(name='c', run='m:f')", "yielded a Check where a Probe"),
        ("@hookimpl\ndef pilot_probes(config):\n    yield Probe(name=3, run='m:f')", "pilot_probes.name"),
        ("@hookimpl\ndef pilot_attributes():\n    yield Attribute(name='A', value=object())", "cannot become JSON"),
        (
            "@hookimpl\ndef pilot_attributes():\n    yield Attribute(name='A', value='x' * 2_000_000)",
            "cut at the limit",
        ),
    ],
)
def test_a_plugin_that_does_not_load_is_refused_with_its_reason(
    around: Surroundings, make_plugin: MakePlugin, source: str, reason: str
) -> None:
    make_plugin("bad", source)
    assert reason in refused(around, "bad").message


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def fine():\n    pass\n\n\ndef broken(:", "SyntaxError: invalid syntax"),
        ("import module_that_is_not_there", "ModuleNotFoundError: No module named 'module_that_is_not_there'"),
        ("def inner():\n    raise RuntimeError('no\\nlicence')\n\n\ninner()", "RuntimeError: no licence"),
    ],
)
def test_a_plugin_whose_import_fails_is_refused_with_file_and_line(
    around: Surroundings, make_plugin: MakePlugin, source: str, reason: str
) -> None:
    file = Path(make_plugin("bad", source)) / "bad.py"
    wanted = next(
        n for n, line in enumerate(file.read_text().splitlines(), 1) if re.search("broken|not_there|raise", line)
    )
    assert f"does not load: {reason} ({file}, line {wanted})" in refused(around, "bad").message


def test_a_plugin_that_is_not_there_is_refused_by_its_name(around: Surroundings) -> None:
    message = refused(around, "missing").message
    assert "no module missing was found; entry points in plugins.directories and in the payload: none" in message


def test_a_plugin_that_hangs_at_import_is_refused_in_time(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("bad", "time.sleep(600)")
    assert "did not end within" in refused(around, "bad", timeout_seconds=1.0).message


def test_a_plugin_that_prints_megabytes_at_import_still_loads(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("loud", f"print('x' * 5_000_000)\nsys.stderr.write('y' * 5_000_000)\n{GOOD}")
    assert len(load(around, "loud").of("pilot_probes")) == 1


def test_a_plugin_does_not_see_what_another_one_changed(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("first", f"os.environ['CHANGED'] = '1'\nimport string\nstring.digits = ''\n{GOOD}")
    make_plugin("second", f"assert 'CHANGED' not in os.environ\nimport string\nassert string.digits\n{OTHER}")
    assert [plugin.name for plugin in load(around, "first", "second").plugins] == ["first", "second"]


def test_two_plugins_cannot_give_the_same_fact(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("first", GOOD)
    make_plugin("second", GOOD)
    with pytest.raises(PilotError, match=r"second .* gives the fact good\.site, which first .* gives already"):
        load(around, "first", "second")


def test_the_sites_environment_reaches_no_plugin(
    around: Surroundings, make_plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("_CONDOR_COLLECTOR_HOST", "evil")
    make_plugin("good", f"assert '/evil' not in sys.path\nassert '_CONDOR_COLLECTOR_HOST' not in os.environ\n{GOOD}")
    assert load(around, "good").plugins


# ---- entry points ------------------------------------------------------------------------------------------------


def test_an_entry_point_in_the_plugin_directory_is_found(
    around: Surroundings, make_plugin: MakePlugin, make_distribution: MakeDistribution
) -> None:
    make_plugin("example_vo_plugin", GOOD)
    make_distribution("example-vo", "example_vo_plugin")
    loaded = load(around, "example-vo")
    assert loaded.of("pilot_probes")[0].record.run == "example_vo_plugin:look"


def test_an_entry_point_elsewhere_on_the_nodes_path_is_not_found(
    around: Surroundings, make_plugin: MakePlugin, make_distribution: MakeDistribution, tmp_path: Path
) -> None:
    """The directory is on the interpreter's own path, as a node's site-packages would be."""
    elsewhere = make_distribution("example-vo", "example_vo_plugin", tmp_path / "site-packages")
    make_plugin("example_vo_plugin", GOOD)
    start = f"import sys, runpy; sys.path.insert(0, {elsewhere!r}); sys.argv = sys.argv[1:]; "
    start += "runpy.run_path(sys.argv[0], run_name='__main__')"
    patched = replace(around, interpreter=(*around.interpreter[:-1], "-c", start, around.interpreter[-1]))
    assert load(patched, "example_vo_plugin").plugins
    assert "no module example-vo was found" in refused(patched, "example-vo").message


def test_a_plugin_that_is_not_there_is_told_with_those_that_are(
    around: Surroundings, make_plugin: MakePlugin, make_distribution: MakeDistribution
) -> None:
    make_plugin("example_vo_plugin", GOOD)
    make_distribution("example-vo", "example_vo_plugin")
    assert "in the payload: example-vo" in refused(around, "example_vo").message


def test_an_entry_point_that_names_no_module_is_refused(
    around: Surroundings, make_plugin: MakePlugin, make_distribution: MakeDistribution
) -> None:
    make_plugin("example_vo_plugin", GOOD)
    make_distribution("example-vo", "example_vo_plugin:look")
    assert "a module is needed" in refused(around, "example-vo").message


# ---- running -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ("raise ValueError('no such device')", "plugin.crashed", "ValueError: no such device"),
        ("yield Fact('a')\nraise ValueError('halfway')", "plugin.crashed", "ValueError: halfway"),
        ("os._exit(0)", "plugin.crashed", "ended without an answer"),
        ("os._exit(3)", "plugin.crashed", "exited 3"),
        ("sys.exit(0)", "plugin.crashed", "ended without an answer"),
        ("os.kill(os.getpid(), 11)", "plugin.crashed", "signal 11"),
        ("return object()", "plugin.crashed", "cannot become JSON"),
        ("yield Fact('a', float('nan'))", "plugin.crashed", "nan cannot become JSON"),
        ("yield Fact('a', 'x' * 2_000_000)", "plugin.crashed", "cut at the limit"),
    ],
)
def test_a_good_plugin_keeps_its_results_beside_a_bad_one(
    around: Surroundings, make_plugin: MakePlugin, body: str, code: str, reason: str
) -> None:
    make_plugin("good", GOOD)
    make_plugin("bad", bad(body))
    ended = run(load(around, "bad", "good").of("pilot_probes"), around)
    assert findings(ended["good"].answer) == [Fact("good.site", "Example_T2")]
    failure = ended["bad"].failure
    assert failure is not None
    assert (failure.kind, failure.code, failure.plugin, failure.exit_code) == (FailureKind.PLUGIN, code, "bad", 69)
    assert reason in failure.message
    assert ended["bad"].answer is None


def test_a_callable_that_hangs_is_ended_at_its_deadline(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("good", GOOD)
    make_plugin("bad", bad("time.sleep(600)", timeout_seconds=1.0))
    ended = run(load(around, "bad", "good").of("pilot_probes"), around)
    failure = ended["bad"].failure
    assert failure is not None
    assert failure.code == "plugin.timeout"
    assert ended["good"].failure is None


def test_a_callable_that_prints_megabytes_is_a_short_log(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("bad", bad("print('x' * 5_000_000)\nprint('last words')\nyield Fact('a', 1)"))
    ended = run(load(around, "bad").of("pilot_probes"), around)["bad"]
    assert ended.failure is None
    assert findings(ended.answer) == [Fact("a", 1)]
    assert len(ended.log) <= 2000


def test_a_callable_that_does_not_exist_is_a_crash(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("bad", "@hookimpl\ndef pilot_probes():\n    yield Probe(name='bad', run=f'{__name__}:nowhere')")
    failure = run(load(around, "bad").of("pilot_probes"), around)["bad"].failure
    assert failure is not None
    assert "nowhere" in failure.message


def test_an_interpreter_that_is_gone_is_a_failure_of_each_task(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("good", GOOD)
    tasks = load(around, "good").of("pilot_probes")
    failure = run(tasks, replace(around, interpreter=("/nowhere/python",)))["good"].failure
    assert failure is not None
    assert "ENOENT" in failure.message


def test_what_a_callable_leaves_running_ends_with_it(around: Surroundings, make_plugin: MakePlugin) -> None:
    """The fixture of every test looks for children."""
    make_plugin("bad", bad("import subprocess\nsubprocess.Popen(['sleep', '600'])\nyield Fact('a', 1)"))
    assert run(load(around, "bad").of("pilot_probes"), around)["bad"].failure is None


def test_a_callable_is_given_the_whole_context(around: Surroundings, make_plugin: MakePlugin) -> None:
    body = (
        "yield Fact('seen', [context.value('cpu.usable'), context.value('gone', 'default'), context.root,"
        " context.environment['SITE'], context.workspace, list(context.interpreter)])"
    )
    make_plugin("bad", bad(body))
    context = Context(
        facts={"cpu.usable": Fact("cpu.usable", 4), "gone": Fact.unknown("gone", "nobody looked")},
        config=CONFIG,
        environment={"SITE": "x"},
        root="/recorded",
        workspace="/work",
        interpreter=("python3", "-I"),
    )
    answer = run(load(around, "bad").of("pilot_probes"), around, context)["bad"].answer
    [found] = findings(answer)
    assert isinstance(found, Fact)
    assert found.value == [4, "default", "/recorded", "x", "/work", ["python3", "-I"]]


def test_a_stop_signal_ends_every_child(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("bad", bad("time.sleep(600)"))
    tasks = load(around, "bad").of("pilot_probes")
    with WakePipe() as wake:
        wake.ring()
        with pytest.raises(Interrupted):
            run(tasks, replace(around, wake=wake))


# ---- built-in code is forked -------------------------------------------------------------------------------------


def fine(context: Context) -> object:
    """A probe for these tests."""
    yield Limit("cpu.usable", 4, "cores", "affinity")
    yield Fact("cpu.model", context.root)


def crashes(context: Context) -> object:
    """A probe that crashes."""
    raise OSError(5, "Input/output error", "/proc/cpuinfo")


def returns_a_fact(context: Context) -> Fact:
    """A probe that returns where it should yield."""
    return Fact("cpu.model")


def builtin(name: str, function: Callable[[Context], object]) -> Declared:
    """A built-in probe that runs this function."""
    return Declared("builtin.test", "pilot_probes", Probe(name=name, run=f"{__name__}:{function.__name__}"), True)


def test_built_in_code_runs_in_a_child_too(around: Surroundings) -> None:
    ended = run([builtin("fine", fine), builtin("crashes", crashes)], around, Context(root="/r"))
    assert findings(ended["fine"].answer) == [Limit("cpu.usable", 4, "cores", "affinity"), Fact("cpu.model", "/r")]
    failure = ended["crashes"].failure
    assert failure is not None
    assert "Input/output error" in failure.message


def test_a_probe_that_returns_a_single_fact_is_told_to_yield(around: Surroundings) -> None:
    answer = run([builtin("one", returns_a_fact)], around)["one"].answer
    with pytest.raises(CodecError, match="yields or returns several"):
        findings(answer)


def test_a_finding_that_is_neither_fact_nor_limit_is_named() -> None:
    with pytest.raises(CodecError, match="a CheckResult is neither a fact nor a limit"):
        findings([{"type": "CheckResult", "value": {}}])


def test_no_answer_is_no_finding() -> None:
    assert findings(None) == []


# ---- order -------------------------------------------------------------------------------------------------------


def named(name: str, *, plugin: str = "p", **needs: tuple[str, ...]) -> Declared:
    """A probe with needs."""
    probe = Probe(name=name, run=f"{__name__}:fine", **needs)  # type: ignore[arg-type]
    return Declared(plugin, "pilot_probes", probe, builtin=True)


def order(*tasks: Declared) -> list[str]:
    """Names in the order in which the host would run them."""
    return [task.record.name for task in in_order(tasks)]


def test_a_task_runs_after_those_that_give_what_it_requires() -> None:
    assert order(named("b", requires=("x.a",)), named("a", gives=("x.a",))) == ["a", "b"]


def test_before_and_after_say_the_same_from_two_sides() -> None:
    assert order(named("c", after=("b",)), named("b"), named("a", before=("b",))) == ["a", "b", "c"]


def test_needs_reach_across_plugins() -> None:
    assert order(named("b", plugin="p", after=("a",)), named("a", plugin="q")) == ["a", "b"]


def test_two_plugins_may_use_the_same_name_and_both_come_first() -> None:
    found = order(named("b", after=("a",)), named("a", plugin="p"), named("a", plugin="q"))
    assert found == ["a", "a", "b"]


def test_a_need_that_nobody_fulfils_holds_nothing_up() -> None:
    assert order(named("a", requires=("x.nothing",), after=("nobody",), before=("nobody",))) == ["a"]


def test_a_task_that_needs_what_it_gives_itself_runs() -> None:
    assert order(named("a", requires=("x.a",), gives=("x.a",), after=("a",))) == ["a"]


@pytest.mark.parametrize(
    "tasks",
    [
        [named("a", after=("b",)), named("b", after=("a",))],
        [named("a", after=("b",), before=("b",)), named("b")],
        [named("a", requires=("x.b",), gives=("x.a",)), named("b", requires=("x.a",), gives=("x.b",))],
        [named("a", before=("a",))],
    ],
)
def test_needs_in_a_circle_are_refused_with_the_circle(tasks: list[Declared], around: Surroundings) -> None:
    with pytest.raises(PilotError) as caught:
        in_order(tasks)
    assert caught.value.failure.code == "plugin.cycle"
    assert caught.value.failure.kind is FailureKind.CORRUPTION
    assert "p/a" in caught.value.failure.message
    with pytest.raises(PilotError, match="form a circle"):
        run(tasks, around)


def test_tasks_end_in_the_order_of_their_needs(around: Surroundings) -> None:
    tasks = [named("c", after=("b",)), named("b", requires=("x.a",)), named("a", gives=("x.a",))]
    assert list(run(tasks, around)) == ["a", "b", "c"]


def test_more_tasks_than_children_at_once_all_run(around: Surroundings) -> None:
    tasks = [named(f"n{number}") for number in range(20)]
    assert len(run(tasks, around)) == 20


def test_nothing_to_run_is_fine(around: Surroundings) -> None:
    assert run([], around) == {}


# ---- options -----------------------------------------------------------------------------------------------------


def with_options(*options: Option) -> Loaded:
    """A loaded plugin ``p`` with these options."""
    return Loaded(tuple(Declared("p", "pilot_options", option, builtin=False) for option in options), ())


OPTIONS = with_options(
    Option(name="threshold", type="number"), Option(name="names", type="list"), Option(name="count", type="integer")
)


def complete(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options that a VO gave, with the defaults of the others."""
    config = load_config([Layer("vo", {"plugins": {"options": given}})])
    return complete_options(OPTIONS, config.get("plugins.options"), config)


def test_options_of_the_right_type_are_taken() -> None:
    given = {"threshold": 1, "names": [], "count": 3}
    assert complete({"p": given}) == {"p": given}


def test_every_wrong_option_is_named_with_its_path() -> None:
    with pytest.raises(PilotError) as caught:
        complete({"p": {"threshold": "high", "count": True, "colour": 1}, "q": {"threshold": 1}, "r": 5})
    assert caught.value.failure.code == "config.invalid"
    message = caught.value.failure.message
    assert "5 problems" in message
    assert "plugins.options.p.threshold (vo): expected number, found str" in message
    assert "plugins.options.p.count (vo): expected integer, found bool" in message
    assert "plugins.options.p.colour (vo): no loaded plugin declared this option" in message
    assert "plugins.options.q.threshold" in message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"p": {"threshhold": 1}}, "plugins.options.p.threshhold .*; did you mean threshold"),
        ({"p": {"colour": 1}}, "; p has threshold, names, count"),
        ({"pp": {"count": 1}}, "none of the name pp; did you mean p"),
    ],
)
def test_an_option_that_nobody_declared_is_told_with_the_nearest_one(given: dict[str, Any], said: str) -> None:
    with pytest.raises(PilotError, match=said):
        complete(given)


@pytest.mark.parametrize(
    "raised",
    [
        "ValueError('plugins.options.choosy.per is 7')",
        "PilotError(Failure(FailureKind.CONFIG, 'config.invalid', 'plugins.options.choosy.per is 7'))",
    ],
)
def test_a_value_that_the_plugin_itself_refuses_is_the_configurations_fault(
    around: Surroundings, make_plugin: MakePlugin, raised: str
) -> None:
    source = f"from pilot_agent.model import *\n@hookimpl\ndef pilot_probes(config):\n    raise {raised}\n"
    make_plugin("choosy", source)
    with pytest.raises(PilotError) as caught:
        load(around, "choosy")
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "config.invalid")
    assert failure.message == "plugins.options.choosy.per is 7"


def test_a_value_error_about_anything_else_is_the_plugins_fault(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("broken", "@hookimpl\ndef pilot_probes(config):\n    raise ValueError('plugins.options.other.x')\n")
    assert refused(around, "broken").code == "plugin.load"


# ---- events ------------------------------------------------------------------------------------------------------

EVENTS = [Event(name="stage.finished", seconds=1.5, data={"stage": "probe"})]


def test_events_reach_the_plugin_that_observes(around: Surroundings, make_plugin: MakePlugin, tmp_path: Path) -> None:
    path = tmp_path / "seen"
    source = (
        f"@hookimpl\ndef pilot_event(events):\n    open({str(path)!r}, 'w').write(repr([e.data for e in events]))\n"
    )
    make_plugin("observer", source)
    assert load(around, "observer").plugins[0].hooks == ("pilot_event",)
    assert host.deliver_events("observer", EVENTS, around, LONG_SECONDS) is None
    assert path.read_text() == "[{'stage': 'probe'}]"


def test_an_observer_that_fails_is_a_sentence_and_no_exception(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("observer", "@hookimpl\ndef pilot_event(events):\n    raise OSError('no route')\n")
    problem = host.deliver_events("observer", EVENTS, around, LONG_SECONDS)
    assert problem is not None
    assert "no route" in problem


def test_an_observer_that_hangs_is_given_up(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("observer", "@hookimpl\ndef pilot_event(events):\n    time.sleep(600)\n")
    problem = host.deliver_events("observer", EVENTS, around, 1.0)
    assert problem is not None
    assert "did not end within" in problem


@pytest.mark.parametrize("loose", ["", "mine.py"])
def test_plugins_that_others_on_the_node_can_change_are_not_loaded(
    around: Surroundings, only_external: None, open_path: Path, loose: str
) -> None:
    (open_path / "mine.py").write_text("x = 1\n")
    (open_path / loose).chmod(0o777)
    around = replace(around, directories=(str(open_path),))
    with pytest.raises(PilotError) as caught:
        load(around, "mine")
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "plugin.load")
    where = str(open_path / loose)
    assert failure.message == f"the plugins in {open_path} are not loaded: {where} may be written by everybody"
    assert "chmod" in failure.hint
