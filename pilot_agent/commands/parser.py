"""The parser of the command line."""

from __future__ import annotations

import argparse

from pilot_agent import __version__
from pilot_agent.commands.arguments import EPILOGS as CONTAINER_EPILOGS
from pilot_agent.commands.arguments import (
    add_bench,
    add_cvmfs,
    add_exec,
    add_images,
    add_negotiate,
    add_report,
    add_version,
)
from pilot_agent.commands.control import add_control
from pilot_agent.commands.plugin_arguments import EPILOGS as PLUGIN_EPILOGS
from pilot_agent.commands.plugin_arguments import add_plugin
from pilot_agent.usage import Parser

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
