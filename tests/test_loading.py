"""Plugins that cannot be loaded together, or by this pilot: each is refused with who it is and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilot_agent import host, loading
from pilot_agent.collect import Declared
from pilot_agent.environment import clean_environment
from pilot_agent.hookspecs import CONTRACT_VERSION, Check, Context, Mount, Probe, Service
from pilot_agent.host import Loaded, Surroundings, Traced, load_plugins, run_all
from pilot_agent.interpreter import interpreter_command
from pilot_agent.model import FailureKind, PilotError
from tests.conftest import MakeDistribution, MakePlugin

CONFIG: dict[str, Any] = {"plugins": {"options": {}}}
NEWER = CONTRACT_VERSION + 1
PROBE = """
@hookimpl
def pilot_probes(config):
    yield Probe(name="{name}", run=f"{{__name__}}:look", gives=("{name}.fact",))

def look(context):
    yield Fact("{name}.fact", 1)
"""


@pytest.fixture
def around(plugin_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    """Real children, and no plugins but those of the test."""
    monkeypatch.setattr(host, "BUILTIN_PLUGINS", ())
    environment = clean_environment({}, home=str(tmp_path), temporary=str(tmp_path))
    return Surroundings(tuple(interpreter_command()), environment, (str(plugin_directory),))


def load(around: Surroundings, *names: str) -> Loaded:
    """Load plugins by name."""
    return load_plugins(names, CONFIG, around, 60.0)


def probe(plugin: str, name: str, *, builtin: bool = False, **fields: tuple[str, ...]) -> Declared:
    """A probe that a plugin declared."""
    return Declared(plugin, "pilot_probes", Probe(name=name, run="m:f", **fields), builtin, "" if builtin else plugin)  # type: ignore[arg-type]


# ---- the contract ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [f"PILOT_CONTRACT = {NEWER}", f"PILOT_CONTRACT: int = {NEWER}  # newest\nfrom pilot_agent.hookspecs import Quark"],
    ids=["it can be imported", "it cannot be imported"],
)
def test_a_plugin_for_a_newer_contract_is_refused_with_a_sentence(
    around: Surroundings, make_plugin: MakePlugin, source: str
) -> None:
    make_plugin("newer", source)
    with pytest.raises(PilotError) as caught:
        load(around, "newer")
    failure = caught.value.failure
    assert (failure.kind, failure.code, failure.plugin) == (FailureKind.CONFIG, "plugin.contract", "newer")
    assert f"written for version {NEWER} of the plugin contract, and this pilot has version" in failure.message
    assert "older release" in failure.hint


def test_a_plugin_for_this_contract_loads_and_nonsense_is_refused(
    around: Surroundings, make_plugin: MakePlugin
) -> None:
    make_plugin("own", f"PILOT_CONTRACT = {CONTRACT_VERSION}\n" + PROBE.format(name="own"))
    assert len(load(around, "own").declared) == 1
    make_plugin("odd", "PILOT_CONTRACT = 'two'")
    with pytest.raises(PilotError, match="PILOT_CONTRACT is 'two'; the number of a version"):
        load(around, "odd")


# ---- who it is ---------------------------------------------------------------------------------------------------


def test_a_crash_names_plugin_version_artifact_and_hook(
    around: Surroundings, make_plugin: MakePlugin, make_distribution: MakeDistribution
) -> None:
    directory = make_plugin("bad_module", "@hookimpl\ndef pilot_checks():\n    os._exit(7)\n")
    make_distribution("bad", "bad_module")
    signed = Surroundings(
        around.interpreter, around.environment, around.directories, artifacts={directory: "plugin/atlas/bad-1.0.whl"}
    )
    with pytest.raises(PilotError, match=r"plugin bad 1\.0 \(plugin/atlas/bad-1\.0\.whl\) .* pilot_checks: .*exited 7"):
        load(signed, "bad")


def test_a_function_that_crashes_is_told_with_plugin_version_and_hook(
    around: Surroundings, make_plugin: MakePlugin, make_distribution: MakeDistribution
) -> None:
    make_plugin("bad_module", PROBE.format(name="p").replace('yield Fact("p.fact", 1)', "os._exit(3)"))
    make_distribution("bad", "bad_module")
    ended: list[host.Ended] = []
    loaded = load(around, "bad")
    run_all(loaded.declared, lambda _: Context(), around, ended.append)
    assert ended[0].failure is not None
    assert "exited 3 (pilot_probes of bad 1.0 (" in ended[0].failure.message
    assert (loaded.plugins[0].version, loaded.plugins[0].origin, loaded.plugins[0].artifact) == ("1.0", "local", "")


def test_a_plugin_that_ends_its_parent_is_found_and_the_others_load(
    around: Surroundings, make_plugin: MakePlugin
) -> None:
    make_plugin("good", PROBE.format(name="good"))
    make_plugin("killer", "import signal\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(600)")
    assert load(around, "good").declared
    with pytest.raises(PilotError) as caught:
        load(around, "good", "killer")
    assert caught.value.failure.plugin == "killer"


def test_a_plugin_that_takes_all_memory_is_refused(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("large", "x = bytearray(2 << 30)")
    with pytest.raises(PilotError, match=r"plugin large .*MemoryError"):
        load(around, "large")


def test_a_plugin_that_two_layers_name_is_loaded_once(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("good", PROBE.format(name="good"))
    assert [plugin.name for plugin in load(around, "good", "good").plugins] == ["good"]


def test_calls_of_hooks_and_functions_are_told_to_who_traces(around: Surroundings, make_plugin: MakePlugin) -> None:
    make_plugin("good", PROBE.format(name="good"))
    told: list[Traced] = []
    tracing = Surroundings(around.interpreter, around.environment, around.directories, trace=told.append)
    run_all(load(tracing, "good").declared, lambda _: Context(root="/recorded"), tracing, lambda _: None)
    hook, function = told
    assert (hook.plugin, hook.hook, hook.what) == ("good", "pilot_probes", "")
    assert hook.arguments == {"config": CONFIG}
    assert "Probe(name='good'" in hook.result[0]
    assert (function.what, function.arguments["context"]["root"]) == ("good", "/recorded")
    assert function.result[0]["value"]["name"] == "good.fact"


# ---- what fits together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ([probe("a", "x"), probe("b", "x")], "plugin b .*pilot_probes yields the name 'x', which a has already"),
        ([probe("a", "x", gives=("f.a",)), probe("b", "y", gives=("f.a",))], "b .*gives the fact f.a, which a gives"),
        (
            [probe("a", "x", gives=("site.rack",)), probe("b", "y", requires=("site.rak",))],
            "y requires the fact site.rak, which no probe gives; did you mean site.rack",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_both_names(declared: list[Declared], reason: str) -> None:
    with pytest.raises(PilotError, match=reason) as caught:
        loading.require_sound(declared)
    assert (caught.value.failure.code, caught.value.failure.plugin) == ("plugin.load", "b")


def test_a_circle_is_refused_before_anything_runs() -> None:
    with pytest.raises(PilotError, match=r"form a circle: .*a/x") as caught:
        loading.require_sound([probe("a", "x", after=("y",)), probe("b", "y", after=("x",))])
    assert caught.value.failure.code == "plugin.cycle"


def test_names_of_the_pilots_own_probes_are_free_and_those_of_services_are_not() -> None:
    own = [probe("builtin.probes", "cpu", builtin=True), probe("a", "cpu")]
    checks = [Declared(plugin, "pilot_checks", Check(name="gpu", run="m:f"), plugin == "c", plugin) for plugin in "cd"]
    mounts = [Declared(plugin, "pilot_mounts", Mount(name="cvmfs", run="m:f"), plugin == "c", "") for plugin in "cd"]
    loading.require_sound([*own, *checks, *mounts])
    services = [Declared(p, "pilot_services", Service(name="s", command=("x",)), p == "c", p) for p in "cd"]
    with pytest.raises(PilotError, match="'s', which c has already"):
        loading.require_sound(services)


# ---- answers that a plugin's code gives itself ---------------------------------------------------------------------

ANSWERS_ITSELF = """
def write(text):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, text)
        except OSError:
            pass
    os._exit(0)
"""


@pytest.mark.parametrize("answer", ["[1]", "{'failure': 5}", "'[' * 50_000", "{'source': 5}"])
def test_a_plugin_that_answers_nonsense_itself_is_the_one_that_is_refused(
    around: Surroundings, make_plugin: MakePlugin, answer: str
) -> None:
    make_plugin("liar", f"{ANSWERS_ITSELF}\nwrite(str({answer}).replace(chr(39), chr(34)).encode())")
    with pytest.raises(PilotError) as caught:
        load(around, "liar")
    failure = caught.value.failure
    assert (failure.kind, failure.code, failure.plugin) == (FailureKind.CORRUPTION, "plugin.load", "liar")


def test_a_function_that_answers_nonsense_itself_fails_alone(around: Surroundings, make_plugin: MakePlugin) -> None:
    functions = "def failure(context): write(b'{\"failure\": 5}')\n\ndef number(context): write(b'3')\n"
    make_plugin("liar", ANSWERS_ITSELF + functions + PROBE.format(name="good"))
    tasks = [Declared("liar", "pilot_probes", Probe(name=f, run=f"liar:{f}"), False) for f in ("failure", "number")]
    tasks.append(Declared("liar", "pilot_probes", Probe(name="good", run="liar:look"), False))
    ended: dict[str, host.Ended] = {}
    context = Context(facts={}, config={}, environment={})
    run_all(tasks, lambda _: context, around, lambda one: ended.update({one.declared.record.name: one}))
    assert {name: one.failure.code if one.failure else "" for name, one in ended.items()} == {
        "failure": "plugin.crashed",
        "number": "plugin.crashed",
        "good": "",
    }


def test_a_plugin_says_nothing_else_about_where_it_is_from(around: Surroundings, make_plugin: MakePlugin) -> None:
    directory = make_plugin("liar", "__file__ = '/payload/liar.py'")
    (report,) = load(around, "liar").plugins
    assert (report.origin, report.source) == ("local", directory)
