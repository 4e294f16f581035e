"""The plugin contract explains itself, and what it shows as an example runs."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import fields
from pathlib import Path

import pluggy
import pytest

from pilot_agent import hookspecs, host
from pilot_agent.codec import from_json
from pilot_agent.collect import new_manager
from pilot_agent.environment import clean_environment
from pilot_agent.hookspecs import DECLARATIONS, Context, Event, SetupResult
from pilot_agent.interpreter import interpreter_command
from pilot_agent.model import BenchmarkScore, CheckResult, Fact
from pilot_agent.sdk.hook_page import hook_page
from tests.conftest import MakePlugin

ROOT = Path(__file__).parents[1]
EVENT_HOOK = "pilot_event"
LONG_SECONDS = 60.0
CONFIG = {"site": {"name": "Example_T2"}, "plugins": {"options": {}}}

SPECIFICATIONS = {
    name: function
    for name, function in vars(hookspecs).items()
    if inspect.isfunction(function) and hasattr(function, f"{hookspecs.PROJECT}_spec")
}


def documentation(hook: str) -> str:
    """The docstring of a hook."""
    return inspect.getdoc(SPECIFICATIONS[hook]) or ""


def example(hook: str) -> str:
    """The example in a hook's docstring, as source."""
    _, mark, text = documentation(hook).partition("Example::\n")
    assert mark, f"{hook} has no example"
    return textwrap.dedent(text)


def test_every_hook_of_the_contract_is_known_to_pluggy() -> None:
    manager: pluggy.PluginManager = new_manager()
    assert {name for name in vars(manager.hook) if name.startswith("pilot_")} == set(SPECIFICATIONS)


def test_every_hook_but_the_observer_declares_records() -> None:
    assert set(DECLARATIONS) == set(SPECIFICATIONS) - {EVENT_HOOK}


@pytest.mark.parametrize("hook", SPECIFICATIONS)
def test_a_hook_says_what_for_when_it_is_called_and_what_to_yield(hook: str) -> None:
    text = documentation(hook)
    purpose = text.split(". ", maxsplit=1)[0]
    assert re.match(r"(Declare|Offer|Contribute|Add|Observe) ", purpose)
    assert "Called " in text
    if hook == EVENT_HOOK:
        assert "Nothing is returned" in text
    else:
        assert f"Yield ``{DECLARATIONS[hook].__name__}``" in text


@pytest.mark.parametrize("hook", SPECIFICATIONS)
def test_a_hook_has_one_argument_of_which_plugins_may_take_none(hook: str) -> None:
    assert list(inspect.signature(SPECIFICATIONS[hook]).parameters) == ["events" if hook == EVENT_HOOK else "config"]


@pytest.mark.parametrize("record", sorted(set(DECLARATIONS.values()), key=str))
def test_a_record_is_explained_and_cannot_be_changed(record: type) -> None:
    assert len(inspect.getdoc(record) or "") > 40
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert not hasattr(record, "__dict__") or "__slots__" in vars(record)


def surroundings(directory: str, home: Path) -> host.Surroundings:
    """Real children with this plugin directory."""
    environment = clean_environment({}, home=str(home), temporary=str(home))
    return host.Surroundings(tuple(interpreter_command()), environment, (directory,))


@pytest.fixture
def recorded_node(tmp_path: Path) -> str:
    """A root directory with what the examples read."""
    (tmp_path / "root" / "sys" / "devices" / "system" / "node" / "node0").mkdir(parents=True)
    return str(tmp_path / "root")


@pytest.mark.parametrize("hook", DECLARATIONS)
def test_the_example_of_a_hook_runs(
    hook: str, make_plugin: MakePlugin, tmp_path: Path, recorded_node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded from disk in a child, and what it names is run in another one."""
    monkeypatch.setattr(host, "BUILTIN_PLUGINS", ())
    around = surroundings(make_plugin("example_plugin", example(hook)), tmp_path)
    loaded = host.load_plugins(["example_plugin"], CONFIG, around, LONG_SECONDS)
    assert loaded.plugins[0].hooks == (hook,)
    assert loaded.declared
    assert all(isinstance(declared.record, DECLARATIONS[hook]) for declared in loaded.declared)
    runnable = [declared for declared in loaded.declared if hasattr(declared.record, "run")]
    if hook == "pilot_periodics":  # run by the keeper, which has no host
        return
    ended: list[host.Ended] = []
    context = Context(config=CONFIG, root=recorded_node)
    host.run_all(runnable, lambda _: context, around, ended.append)
    assert len(ended) == len(runnable)
    for one in ended:
        assert one.failure is None
        answer_fits(hook, one)


def answer_fits(hook: str, ended: host.Ended) -> None:
    """What the example's function gave is what its stage takes."""
    single = {"pilot_setups": SetupResult, "pilot_checks": CheckResult, "pilot_benchmarks": BenchmarkScore}
    if hook in single:
        from_json(single[hook], ended.answer)
    else:
        found = host.findings(ended.answer)
        assert {fact.name for fact in found if isinstance(fact, Fact)} == set(ended.declared.record.gives)


def test_the_example_of_the_observer_runs(make_plugin: MakePlugin, tmp_path: Path) -> None:
    around = surroundings(make_plugin("observer", example(EVENT_HOOK)), tmp_path)
    event = Event(name="stage.finished", seconds=1.0, data={"stage": "probe"})
    assert host.deliver_events("observer", [event], around, LONG_SECONDS) is None


def test_the_complete_plugin_at_the_top_of_the_contract_runs(
    make_plugin: MakePlugin, plugin_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "BUILTIN_PLUGINS", ())
    text = (inspect.getdoc(hookspecs) or "").partition("A complete plugin::\n")[2].partition("\nHooks receive")[0]
    (plugin_directory / "complete.py").write_text(textwrap.dedent(text))
    around = surroundings(str(plugin_directory), tmp_path)
    tasks = host.load_plugins(["complete"], CONFIG, around, LONG_SECONDS).of("pilot_probes")
    ended: list[host.Ended] = []
    host.run_all(tasks, lambda _: Context(environment={"SITE_SCRATCH": "/scratch"}), around, ended.append)
    assert host.findings(ended[0].answer) == [Fact("example.scratch", "/scratch")]


def test_the_plugin_of_the_guide_loads(plugin_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "BUILTIN_PLUGINS", ())
    guide = (Path(__file__).parents[1] / "docs" / "how-to" / "write-a-plugin.md").read_text()
    source = guide.partition("```python\n")[2].partition("```")[0]
    (plugin_directory / "myvo.py").write_text(source)
    loaded = host.load_plugins(["myvo"], CONFIG, surroundings(str(plugin_directory), tmp_path), LONG_SECONDS)
    assert loaded.declared


def test_the_page_of_hooks_names_every_hook_and_what_it_yields() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "hooks.md").read_text()
    for hook, record in DECLARATIONS.items():
        assert f"| `{hook}` | `{record.__name__}` |" in page
    assert f"| `{EVENT_HOOK}` | nothing |" in page


def test_the_page_has_a_heading_for_each_hook_with_its_fields_and_its_example() -> None:
    page = (ROOT / "docs" / "reference" / "hooks.md").read_text()
    assert page.partition("## Every hook")[2] == hook_page().partition("## Every hook")[2], (
        "write what follows `## Every hook` anew: pilot-agent plugin hooks"
    )
    headings = re.findall(r"^### (pilot_\w+)$", page, re.MULTILINE)
    assert headings == [*DECLARATIONS, EVENT_HOOK]
    for hook, record in DECLARATIONS.items():
        part = page.partition(f"### {hook}\n")[2].partition("\n### ")[0]
        assert example(hook).split() == part.partition("```python\n")[2].partition("```")[0].split()
        assert [field.name for field in fields(record) if f"| `{field.name}` |" not in part] == []


def test_every_hook_has_a_user_among_the_contributed_plugins() -> None:
    sources = [path.read_text() for path in ROOT.glob("plugins_contrib/*/src/**/*.py")]
    assert [hook for hook in SPECIFICATIONS if not any(f"@hookimpl\ndef {hook}(" in text for text in sources)] == []


def test_every_hook_is_exercised_by_a_test() -> None:
    """Not only by its example: a test elsewhere has a plugin that implements it."""
    here = Path(__file__)
    tests = [path for path in here.parent.rglob("test_*.py") if path != here]
    text = "\n".join(path.read_text() for path in tests)
    assert [hook for hook in SPECIFICATIONS if f"def {hook}(" not in text] == []


def test_a_context_gives_the_value_of_what_is_known_only() -> None:
    context = Context(facts={"a": Fact("a", 0), "b": Fact.unknown("b", "x"), "c": Fact.absent("c", "x")})
    assert [context.value(name, "default") for name in "abcd"] == [0, "default", "default", "default"]
