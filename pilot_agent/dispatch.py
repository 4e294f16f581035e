"""What each command of the command line does; its modules are loaded when it is given."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable

from pilot_agent import configure, host
from pilot_agent.account import become, refuse_root
from pilot_agent.codec import to_json
from pilot_agent.config import Config
from pilot_agent.config_keys import KEYS
from pilot_agent.config_schema import json_schema
from pilot_agent.configure import Given
from pilot_agent.interpreter import interpreter_command
from pilot_agent.interruption import bug
from pilot_agent.model import Json, PilotError
from pilot_agent.printing import print_text, warn


def given(parsed: argparse.Namespace) -> Given:
    """The configuration that a command line gives."""
    return Given(tuple(parsed.config), tuple(parsed.set), getattr(parsed, "output", "."))


def _run(parsed: argparse.Namespace) -> int:
    """``run`` as root: change to the configured account for good, and start again as it."""
    refuse_root(configure.read_layers(given(parsed), os.environ).get("site.account"))
    command = [*interpreter_command(), "run", *sys.argv[sys.argv.index("run") + 1 :]]
    os.execv(command[0], command)


def _status(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.control import run_status

    return run_status(parsed)


def _control(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.control import run_command

    return run_command(parsed)


def _check(parsed: argparse.Namespace) -> int:
    from pilot_agent.look import answer_failure, run_check

    try:
        _leave_root(parsed)
        return run_check(parsed, given(parsed), os.environ)
    except Exception as error:
        failure = error.failure if isinstance(error, PilotError) else bug(error)
        answer_failure(parsed, failure, os.environ)
        raise PilotError(failure) from error


def _probe(parsed: argparse.Namespace) -> int:
    from pilot_agent.look import run_probe

    _leave_root(parsed)
    return run_probe(parsed, given(parsed), os.environ)


def _explain(parsed: argparse.Namespace) -> int:
    from pilot_agent.look import run_explain

    _leave_root(parsed)
    return run_explain(parsed, given(parsed), os.environ, _loaded)


def _plugins(parsed: argparse.Namespace) -> int:
    from pilot_agent.plan_page import plugin_page, records_of
    from pilot_agent.printing import print_page

    _leave_root(parsed)
    loaded, _ = _loaded(configure.read_layers(given(parsed), os.environ))
    if parsed.json:
        _print([{**to_json(plugin), "records": records_of(loaded, plugin.name)} for plugin in loaded.plugins])
    else:
        print_page(plugin_page(loaded))
    return 0


def _plugin(parsed: argparse.Namespace) -> int:
    """``plugin`` and its word with options between them."""
    return COMMANDS[f"plugin {parsed.what}"](parsed)


def _plugin_new(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.plugin import run_new

    return run_new(parsed)


def _plugin_test(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.plugin import run_test

    return run_test(parsed, os.environ)


def _plugin_pack(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.plugin import run_pack

    return run_pack(parsed)


def _plugin_hooks(_: argparse.Namespace) -> int:
    from pilot_agent.sdk.hook_page import hook_page

    _print(hook_page())
    return 0


def _plugin_trace(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.plugin_trace import run_trace

    return run_trace(parsed)


def _loaded(config: Config) -> tuple[host.Loaded, Config]:
    """The plugins of a configuration, and it with the defaults of their options."""
    from tempfile import TemporaryDirectory

    from pilot_agent.environment import clean_environment
    from pilot_agent.workspace import Workspace

    with TemporaryDirectory(prefix="pilot-plugins-") as directory:  # signed ones are fetched to it
        workspace = Workspace(directory)
        for path in (workspace.plugins, workspace.artifacts):
            os.mkdir(path, 0o700)
        around = host.Surroundings(
            tuple(interpreter_command()),
            clean_environment(os.environ, home="/", temporary="/tmp"),  # noqa: S108 - nothing is written there
        )
        around = configure.with_plugin_places(around, config, workspace, os.environ)
        return configure.load_plugins(config, around)


def _bench(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.bench import run_bench

    _leave_root(parsed)
    return run_bench(parsed, given(parsed), os.environ, _loaded)


def _negotiate(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.negotiate import run_negotiate

    return run_negotiate(parsed)


def _images(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.images import run_images

    _leave_root(parsed)
    return run_images(parsed, given(parsed), os.environ)


def _inspect(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.inspect import run_inspect

    _leave_root(parsed)
    return run_inspect(parsed, given(parsed), os.environ)


def _build(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.build import run_build_command

    _leave_root(parsed)
    return run_build_command(parsed, given(parsed), os.environ)


def _cvmfs(parsed: argparse.Namespace) -> int:
    """The two words with options between them."""
    return COMMANDS[f"cvmfs {parsed.what}"](parsed)


def _cvmfs_plan(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.cvmfs import run_plan

    _leave_root(parsed)
    return run_plan(parsed, given(parsed), os.environ)


def _cvmfs_config(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.cvmfs import run_config

    _leave_root(parsed)
    return run_config(parsed, given(parsed), os.environ)


def _exec(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.execute import run_exec

    _leave_root(parsed)
    return run_exec(parsed, given(parsed), os.environ)


def _report(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.report import run_report

    return run_report(parsed)


def _version(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.version import run_version

    return run_version(parsed)


def _config(parsed: argparse.Namespace) -> int:
    if parsed.what == "schema":
        _print(json_schema())
    elif parsed.what == "reference":
        _print([to_json(key) for key in KEYS] if parsed.json else reference_page())
    else:
        _print(configure.explained(configure.read_layers(given(parsed), os.environ)))
    return 0


def reference_page() -> str:
    """The reference page of the configuration, Markdown."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in KEYS:
        default = "" if key.default is None else f"`{json.dumps(key.default)}`"
        choices = f" One of {', '.join(key.choices)}." if key.choices else ""
        joined = "" if key.combine == "override" else f" Layers: {key.combine}."
        lines.append(f"| `{key.path}` | {key.kind.value} | {default} | {key.help}.{choices}{joined} |")
    return "\n".join(lines) + "\n"


def _leave_root(parsed: argparse.Namespace) -> None:
    if parsed.user is not None:
        become(parsed.user)
    elif os.geteuid() == 0 and not getattr(parsed, "root", "/").strip("/"):
        warn(
            "pilot-agent: warning: running as root; a pilot runs as an ordinary account and may find less. "
            "Use --user NAME to look as that account.\n"
        )


def _print(what: Json) -> None:
    print_text(what if isinstance(what, str) else json.dumps(what, indent=2) + "\n")


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "status": _status,
    "drain": _control,
    "stop": _control,
    "check": _check,
    "probe": _probe,
    "explain": _explain,
    "plugins": _plugins,
    "plugin": _plugin,
    "plugin new": _plugin_new,
    "plugin test": _plugin_test,
    "plugin pack": _plugin_pack,
    "plugin list": _plugins,
    "plugin trace": _plugin_trace,
    "plugin hooks": _plugin_hooks,
    "bench": _bench,
    "negotiate": _negotiate,
    "images": _images,
    "images inspect": _inspect,
    "images build": _build,
    "cvmfs": _cvmfs,
    "cvmfs plan": _cvmfs_plan,
    "cvmfs config": _cvmfs_config,
    "exec": _exec,
    "report": _report,
    "config": _config,
    "version": _version,
}
