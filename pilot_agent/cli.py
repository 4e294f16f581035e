"""The command line: ``pilot-agent run | status | drain | stop | check | probe | explain | plugins | plugin | bench |
negotiate | images | cvmfs plan | cvmfs config | exec | report | config | version``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence

from pilot_agent import __version__, configure, host
from pilot_agent.account import become, refuse_root
from pilot_agent.codec import to_json
from pilot_agent.commands.arguments import EPILOGS as CONTAINER_EPILOGS
from pilot_agent.commands.arguments import (
    add_bench,
    add_cvmfs,
    add_exec,
    add_images,
    add_negotiate,
    add_report,
    add_version,
    split_command,
)
from pilot_agent.commands.control import add_control
from pilot_agent.commands.plugin_arguments import EPILOGS as PLUGIN_EPILOGS
from pilot_agent.commands.plugin_arguments import add_plugin
from pilot_agent.config import Config
from pilot_agent.config_keys import KEYS
from pilot_agent.config_schema import json_schema
from pilot_agent.configure import Given
from pilot_agent.interpreter import interpreter_command
from pilot_agent.interruption import bug
from pilot_agent.model import Json, PilotError
from pilot_agent.printing import UNWRITTEN, print_text
from pilot_agent.usage import Parser, WrongUse, command_parser, unrecognised

NAGIOS_UNKNOWN = 3

TOP_EPILOG = """Exit code: 0 done or fit, 2 the command line, 64 the node, 65 the network, 66
the configuration, 67 a credential, 68 a damaged plugin, 69 a failing one, 70 a
bug, 128+N signal N.

examples:
  pilot-agent check               is this node fit, and if not, what must change
  pilot-agent probe --json        what the node offers, for programs
  pilot-agent explain             what a pilot would do here
  pilot-agent run --config factory=factory.yaml --config vo=vo.yaml

To read on: pilot-agent COMMAND --help, pilot-agent config reference, and docs/
in the source (docs/tutorial/first-pilot.md to begin with).
"""

EPILOGS = {
    "run": """example:
  pilot-agent run --config factory=factory.yaml --config vo=vo.yaml --output .
""",
    "check": """It makes a directory of its own in a scratch directory, writes and runs a file
there, and removes it.

Exit code: 0 fit, 64 the node, 65 the network, 66 the configuration, 67 a
credential, 68 a damaged plugin or artifact, 69 a failing plugin, 70 a bug.

examples:
  pilot-agent check
  pilot-agent check --user pilot               as root, with that account's eyes
  pilot-agent check --vo example.yaml --vo other.yaml
  pilot-agent check --require 'memory.usable_mib >= 8000'
  pilot-agent check --html node.html --junit node.xml
""",
    "probe": """examples:
  pilot-agent probe
  pilot-agent probe cpu memory --json
  pilot-agent probe --record node1                      keep what the node tells
  pilot-agent probe --root node1                        look at it anywhere
""",
    "explain": """It shows what run would do, stage by stage, and with --check, --vo, --require
or --profile what check would do.

examples:
  pilot-agent explain --config site=site.yaml --set site.containers=required
  pilot-agent explain --set startd.slots=fixed --set 'site.scratch=["/scratch"]'
  pilot-agent explain --check --vo example.yaml
""",
    "plugins": """example:
  pilot-agent plugins --set 'plugins.directories=["/opt/vo"]' \\
                      --set 'plugins.load=["myvo"]'
""",
    "config": """examples:
  pilot-agent config reference
  pilot-agent config schema
  pilot-agent config show
""",
}


def parser() -> argparse.ArgumentParser:
    """The parser of every public command, and of ``_pipeline``, which is ``run`` inside the guardian."""
    top: argparse.ArgumentParser = Parser(
        prog="pilot-agent",
        description="A pilot (glidein) for HTCondor pools.",
        epilog=TOP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"pilot-agent {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = _command(commands, "run", "turn this node into an execute node of a pool until there is nothing to do")
    run.add_argument("--output", default=".", metavar="DIR", help="where report, events and logs go (default: here)")
    run.add_argument("--resume", metavar="DIR", help="go on with the pilot whose workspace this is")
    run.add_argument("--cut-after", action="append", default=[], metavar="STAGE", help=argparse.SUPPRESS)
    add_control(commands)
    check = _command(commands, "check", "is this node fit, and if not, what must change")
    probe = _command(commands, "probe", "print what the probes find, judge nothing")
    probe.add_argument("names", nargs="*", metavar="NAME", help="only these probes")
    probe.add_argument("--record", metavar="DIR", help="keep all that is read, without secrets, as a recording")
    explain = _command(commands, "explain", "show the plan and where every configured value comes from; do nothing")
    plugins = _command(commands, "plugins", "list the plugins, what they declare and where they come from")
    _add_check_options(check)
    explain.add_argument("--check", action="store_true", help="the plan of check instead of that of run")
    _add_demands(explain)
    for command in (probe, explain, plugins):
        command.add_argument("--json", action="store_true", help="print JSON")
    for command in (check, probe, explain, plugins):
        command.add_argument("--user", metavar="NAME", help="change to this account first (as root)")
    for command in (check, probe):
        command.add_argument("--root", default="/", metavar="DIR", help="read a recorded node instead of this one")
    add_plugin(commands, lambda name, text: _command(commands, name, text))
    add_bench(lambda name, text: _command(commands, name, text))
    add_negotiate(commands)
    add_images(lambda name, text: _command(commands, name, text))
    add_cvmfs(lambda name, text: _command(commands, name, text))
    add_exec(lambda name, text: _command(commands, name, text))
    add_report(commands)
    add_version(commands)
    config = _command(commands, "config", "the keys of the configuration, their schema, or the effective values")
    config.add_argument(
        "what",
        choices=("reference", "schema", "show"),
        help="the table of all keys (Markdown); their JSON Schema; the effective values and their layers (JSON)",
    )
    config.add_argument("--json", action="store_true", help="print JSON, also for reference")
    return top


def _add_demands(command: argparse.ArgumentParser) -> None:
    """What a node is judged by, beside configuration: ``check`` and its plan."""
    command.add_argument(
        "--vo", action="append", default=[], metavar="FILE", help="judge for the VO of this configuration; repeatable"
    )
    command.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="REQUIREMENT",
        help="one more requirement, in quotes: --require 'cpu.usable >= 8'; repeatable",
    )
    command.add_argument(
        "--profile",
        choices=("pilot", "none"),
        help="built-in rules that any pilot needs (default: pilot where there is no configuration, else none)",
    )


def _add_check_options(command: argparse.ArgumentParser) -> None:
    """What ``check`` takes beside configuration."""
    _add_demands(command)
    command.add_argument("--services", action="store_true", help="start the services too, and stop them")
    command.add_argument("--benchmarks", action="store_true", help="run the benchmarks too")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the report as JSON")
    form.add_argument("--nagios", action="store_true", help="print a Nagios status; exit code 0 to 3")
    form.add_argument("--prometheus", action="store_true", help="print metrics for a textfile collector")
    command.add_argument("--html", metavar="FILE", help="write a page that works offline")
    command.add_argument("--junit", metavar="FILE", help="write JUnit XML")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=(EPILOGS | CONTAINER_EPILOGS | PLUGIN_EPILOGS)[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="[LAYER=]FILE",
        help="a YAML or JSON file; LAYER is factory, entry, vo or site (default: site); repeatable",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value, such as site.name=Example_T2; lists as JSON: 'site.scratch=[\"/scratch\"]'; repeatable",
    )
    return command


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code (design section 6)."""
    arguments = list(argv)
    if arguments[:1] == ["_pipeline"]:
        return _pipeline(arguments[1:])
    parsed = _parse(arguments)
    try:
        return COMMANDS[parsed.command](parsed)
    except PilotError as error:
        return _fail(error, parsed)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last catch: a person gets one line and not a traceback
        return _fail(PilotError(bug(error)), parsed)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; a monitoring system takes 2 for a critical node, so with ``--nagios`` a wrong one
    exits 3 (unknown)."""
    top = parser()
    own, words = split_command(list(arguments))
    try:
        parsed, extra = top.parse_known_args(own)
        parsed.words = words
        if extra:
            used = command_parser(top, parsed.command)
            eaten = getattr(parsed, "require", None) and not extra[0].startswith("-")
            why = "; put quotes around a requirement: --require 'cpu.usable >= 8'" if eaten else ""
            used.error(unrecognised(used, parsed.command, extra) + why)
    except WrongUse as wrong:
        if "--nagios" in arguments:
            _say_unknown("usage", wrong.message)
            raise SystemExit(NAGIOS_UNKNOWN) from wrong
        raise
    return parsed


def _fail(error: PilotError, parsed: argparse.Namespace) -> int:
    failure = error.failure
    nagios = getattr(parsed, "nagios", False)
    if nagios and failure.code != UNWRITTEN:
        _say_unknown(failure.code, failure.message)
        return NAGIOS_UNKNOWN
    hint = f"\n  {failure.hint}" if failure.hint else ""
    _warn(_for_a_terminal(f"pilot-agent: {failure.code}: {failure.message}{hint}") + "\n")
    return NAGIOS_UNKNOWN if nagios else failure.exit_code


def _for_a_terminal(text: str) -> str:
    """Its lines folded where a person reads them; as they are for programs, and in files."""
    with contextlib.suppress(OSError):
        if os.isatty(2):
            from pilot_agent.render import paragraph

            return "\n".join(
                paragraph(line.strip(), indent=" " * (len(line) - len(line.lstrip()))) for line in text.splitlines()
            )
    return text


def _say_unknown(code: str, message: str) -> None:
    """The one line that a monitoring system reads when nothing can be told of the node."""
    try:
        print_text(f"PILOT UNKNOWN - {code}: {' '.join(message.split())}\n".replace("|", "/"))
    except PilotError as error:
        _warn(f"pilot-agent: {error.failure.message}\n")


def _given(parsed: argparse.Namespace) -> Given:
    return Given(tuple(parsed.config), tuple(parsed.set), getattr(parsed, "output", "."))


def _pipeline(arguments: list[str]) -> int:
    """``run`` as the guardian starts it."""
    from pilot_agent import pipeline

    parsed = _parse(["run", *arguments])
    kept = tuple(text for stage in parsed.cut_after for text in ("--cut-after", stage))
    options = pipeline.Options(_given(parsed), parsed.resume, tuple(parsed.cut_after), kept)
    return pipeline.run(options, os.environ)


def _run(parsed: argparse.Namespace) -> int:
    """``run`` as root: change to the configured account for good, and start again as it."""
    refuse_root(configure.read_layers(_given(parsed), os.environ).get("site.account"))
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
        return run_check(parsed, _given(parsed), os.environ)
    except Exception as error:
        failure = error.failure if isinstance(error, PilotError) else bug(error)
        answer_failure(parsed, failure, os.environ)
        raise PilotError(failure) from error


def _probe(parsed: argparse.Namespace) -> int:
    from pilot_agent.look import run_probe

    _leave_root(parsed)
    return run_probe(parsed, _given(parsed), os.environ)


def _explain(parsed: argparse.Namespace) -> int:
    from pilot_agent.look import run_explain

    _leave_root(parsed)
    return run_explain(parsed, _given(parsed), os.environ, _loaded)


def _plugins(parsed: argparse.Namespace) -> int:
    from pilot_agent.plan_page import plugin_page, records_of
    from pilot_agent.printing import print_page

    _leave_root(parsed)
    loaded, _ = _loaded(configure.read_layers(_given(parsed), os.environ))
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
    return run_bench(parsed, _given(parsed), os.environ, _loaded)


def _negotiate(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.negotiate import run_negotiate

    return run_negotiate(parsed)


def _images(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.images import run_images

    _leave_root(parsed)
    return run_images(parsed, _given(parsed), os.environ)


def _inspect(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.inspect import run_inspect

    _leave_root(parsed)
    return run_inspect(parsed, _given(parsed), os.environ)


def _build(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.build import run_build_command

    _leave_root(parsed)
    return run_build_command(parsed, _given(parsed), os.environ)


def _cvmfs(parsed: argparse.Namespace) -> int:
    """The two words with options between them."""
    return COMMANDS[f"cvmfs {parsed.what}"](parsed)


def _cvmfs_plan(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.cvmfs import run_plan

    _leave_root(parsed)
    return run_plan(parsed, _given(parsed), os.environ)


def _cvmfs_config(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.cvmfs import run_config

    _leave_root(parsed)
    return run_config(parsed, _given(parsed), os.environ)


def _exec(parsed: argparse.Namespace) -> int:
    from pilot_agent.commands.execute import run_exec

    _leave_root(parsed)
    return run_exec(parsed, _given(parsed), os.environ)


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
        _print(configure.explained(configure.read_layers(_given(parsed), os.environ)))
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
        _warn(
            "pilot-agent: warning: running as root; a pilot runs as an ordinary account and may find less. "
            "Use --user NAME to look as that account.\n"
        )


def _warn(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


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
