"""The command line: ``pilot-agent run | check | probe | explain | plugins | negotiate | config``."""

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
from pilot_agent.config import Config
from pilot_agent.config_keys import CONTAINER_WISHES, KEYS
from pilot_agent.config_schema import json_schema
from pilot_agent.configure import Given
from pilot_agent.interpreter import interpreter_command
from pilot_agent.interruption import bug
from pilot_agent.model import Json, PilotError, worst_failure
from pilot_agent.report import build_report, nest_facts

EPILOGS = {
    "run": "example: pilot-agent run --config factory=factory.yaml --config vo=vo.yaml --output .",
    "check": "It makes a directory of its own in a scratch directory, writes and runs a file there, and removes it. "
    "Exit code: 0 fit, 64 the node, 65 the network, 66 the configuration, 67 a credential, 68 a damaged plugin or "
    "artifact, 69 a failing plugin, 70 a bug. Examples: pilot-agent check; "
    "pilot-agent check --json --config vo=vo.yaml; as root: --user pilot",
    "probe": "examples: pilot-agent probe; pilot-agent probe cpu memory --json",
    "explain": "example: pilot-agent explain --config site=site.yaml --set site.containers=required",
    "plugins": "example: pilot-agent plugins --set 'plugins.directories=[\"/opt/vo\"]' --set 'plugins.load=[\"myvo\"]'",
    "negotiate": "example: pilot-agent negotiate --vo preferred --site required --json",
    "config": "examples: pilot-agent config reference; pilot-agent config schema; pilot-agent config show",
}


def parser() -> argparse.ArgumentParser:
    """The parser of every public command, and of ``_pipeline``, which is ``run`` inside the guardian."""
    top = argparse.ArgumentParser(prog="pilot-agent", description="A pilot (glidein) for HTCondor pools.")
    top.add_argument("--version", action="version", version=f"pilot-agent {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = _command(commands, "run", "turn this node into an execute node of a pool until there is nothing to do")
    run.add_argument("--output", default=".", metavar="DIR", help="where report, events and logs go (default: here)")
    run.add_argument("--resume", metavar="DIR", help="go on with the pilot whose workspace this is")
    run.add_argument("--cut-after", action="append", default=[], metavar="STAGE", help=argparse.SUPPRESS)
    check = _command(commands, "check", "is this node fit, and if not, what must change")
    probe = _command(commands, "probe", "print what the probes find, judge nothing")
    probe.add_argument("names", nargs="*", metavar="NAME", help="only these probes")
    explain = _command(commands, "explain", "show the plan and where every configured value comes from; do nothing")
    plugins = _command(commands, "plugins", "list the plugins, what they declare and where they come from")
    for command in (check, probe, explain, plugins):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--user", metavar="NAME", help="change to this account first (as root)")
    for command in (check, probe):
        command.add_argument("--root", default="/", metavar="DIR", help="read a recorded node instead of this one")
    negotiate = commands.add_parser(
        "negotiate",
        help="what follows from VO and site container wishes",
        description=f"What follows from container wishes. VALUE is one of {', '.join(CONTAINER_WISHES)}; in any case.",
        epilog=EPILOGS["negotiate"],
    )
    negotiate.add_argument("--vo", required=True, metavar="VALUE", help="what the VO wants")
    negotiate.add_argument("--site", required=True, metavar="VALUE", help="what the site demands")
    negotiate.add_argument("--json", action="store_true", help="print JSON")
    config = _command(commands, "config", "the keys of the configuration, their schema, or the effective values")
    config.add_argument(
        "what",
        choices=("reference", "schema", "show"),
        help="the table of all keys (Markdown); their JSON Schema; the effective values and their layers (JSON)",
    )
    return top


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=EPILOGS[name])
    command.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="[LAYER=]FILE",
        help="a YAML or JSON file; LAYER is factory, entry, vo or site (default: site); repeatable",
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one value, for example site.name=Example_T2"
    )
    return command


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code (design section 6)."""
    arguments = list(argv)
    if arguments[:1] == ["_pipeline"]:
        return _pipeline(arguments[1:])
    parsed = parser().parse_args(arguments)
    try:
        return COMMANDS[parsed.command](parsed)
    except PilotError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last catch: a person gets one line and not a traceback
        return _fail(PilotError(bug(error)))


def _fail(error: PilotError) -> int:
    failure = error.failure
    hint = f"\n  {failure.hint}" if failure.hint else ""
    _warn(f"pilot-agent: {failure.code}: {failure.message}{hint}\n")
    return failure.exit_code


def _given(parsed: argparse.Namespace) -> Given:
    return Given(tuple(parsed.config), tuple(parsed.set), getattr(parsed, "output", "."))


def _pipeline(arguments: list[str]) -> int:
    """``run`` as the guardian starts it."""
    from pilot_agent import pipeline

    parsed = parser().parse_args(["run", *arguments])
    kept = tuple(text for stage in parsed.cut_after for text in ("--cut-after", stage))
    options = pipeline.Options(_given(parsed), parsed.resume, tuple(parsed.cut_after), kept)
    return pipeline.run(options, os.environ)


def _run(parsed: argparse.Namespace) -> int:
    """``run`` as root: change to the configured account for good, and start again as it."""
    refuse_root(configure.read_layers(_given(parsed), os.environ).get("site.account"))
    command = [*interpreter_command(), "run", *sys.argv[sys.argv.index("run") + 1 :]]
    os.execv(command[0], command)


def _look(parsed: argparse.Namespace, stages: tuple[str, ...], only: frozenset[str] = frozenset()) -> Json:
    from pilot_agent.standalone import look

    _leave_root(parsed)
    config = configure.read_layers(_given(parsed), os.environ)
    return look(config, os.environ, stages=stages, root=parsed.root, only=only)


def _check(parsed: argparse.Namespace) -> int:
    from pilot_agent import render
    from pilot_agent.standalone import CHECK_STAGES

    state = _look(parsed, CHECK_STAGES)
    _print(build_report(state, finished=True) if parsed.json else render.check_report(state))
    failure = worst_failure(list(state.failures))
    return failure.exit_code if failure else 0


def _probe(parsed: argparse.Namespace) -> int:
    from pilot_agent import render

    state = _look(parsed, ("probe", "mount") if not parsed.names else ("probe",), frozenset(parsed.names))
    _print(build_report(state, finished=True) if parsed.json else render.facts(state) + "\n")
    return 0


def _explain(parsed: argparse.Namespace) -> int:
    from pilot_agent import render

    config, loaded = _configured(parsed)
    if parsed.json:
        _print({"config": _explained(config), "plugins": to_json(loaded.plugins), "plan": to_json(loaded.declared)})
    else:
        rows = [(path, json.dumps(config.get(path)), " < ".join(config.origins[path])) for path in config.origins]
        _print("Plan\n" + render.plan_table(loaded) + "\n\nConfiguration\n" + render.table(rows) + "\n")
    return 0


def _plugins(parsed: argparse.Namespace) -> int:
    from pilot_agent import render

    _, loaded = _configured(parsed)
    _print(to_json(loaded.plugins) if parsed.json else render.plugin_table(loaded) + "\n")
    return 0


def _configured(parsed: argparse.Namespace) -> tuple[Config, host.Loaded]:
    from pilot_agent.environment import clean_environment

    _leave_root(parsed)
    config = configure.read_layers(_given(parsed), os.environ)
    around = host.Surroundings(
        tuple(interpreter_command()),
        clean_environment(os.environ, home="/", temporary="/tmp"),  # noqa: S108 - nothing is written there
        tuple(configure.absolute(path) for path in config.get("plugins.directories")),
    )
    loaded, config = configure.load_plugins(config, around)
    return config, loaded


def _negotiate(parsed: argparse.Namespace) -> int:
    from pilot_agent.containers.negotiation import negotiate

    outcome = negotiate(parsed.vo, parsed.site)
    answer = {
        "decision": outcome.decision,
        "cell": outcome.cell,
        "vo": parsed.vo,
        "site": parsed.site,
        "reason": outcome.reason,
    }
    _print(answer if parsed.json else f"{outcome.decision}  ({outcome.cell}): {outcome.reason}\n")
    return 0 if outcome.decision != "FAIL" else 66


def _config(parsed: argparse.Namespace) -> int:
    if parsed.what == "schema":
        _print(json_schema())
    elif parsed.what == "reference":
        _print(reference_page())
    else:
        _print(_explained(configure.read_layers(_given(parsed), os.environ)))
    return 0


def _explained(config: Config) -> Json:
    return {path: {"value": config.get(path), "from": list(config.origins[path])} for path in config.origins}


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
    elif os.geteuid() == 0:
        _warn(
            "pilot-agent: warning: running as root; a pilot runs as an ordinary account and may find less. "
            "Use --user NAME to look as that account.\n"
        )


def _warn(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def _print(what: Json) -> None:
    text = what if isinstance(what, str) else json.dumps(what, indent=2) + "\n"
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:  # a closed pipe or a full disk: the exit code still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "check": _check,
    "probe": _probe,
    "explain": _explain,
    "plugins": _plugins,
    "negotiate": _negotiate,
    "config": _config,
}

__all__ = ["main", "nest_facts", "parser", "reference_page"]
