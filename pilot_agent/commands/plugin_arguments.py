"""The parsers of ``plugin new``, ``test``, ``pack``, ``list`` and ``trace``."""

from __future__ import annotations

import argparse

from pilot_agent.commands.arguments import Add

WORDS = ("new", "test", "pack", "list", "trace", "hooks")

EPILOGS = {
    "plugin": """new: write a plugin to begin with. test: its own tests on recorded nodes, then
the plugin in a container and on this machine. pack: the artifact that is
signed and published. list: the plugins of a configuration. trace: every call of
a hook and of a function. hooks: everything that a plugin may declare.

examples:
  pilot-agent plugin new my-vo
  cd my-vo; pilot-agent plugin test
""",
    "plugin new": """It writes ./NAME/: a distribution with a probe, a check, a setup and a service,
tests that pass at once, and a page.

example:
  pilot-agent plugin new my-vo
""",
    "plugin test": """Its own tests run with pytest, which a private virtual environment gets where
no Python here has it. What needs a program that is missing is skipped by name.

Exit code: 0, 69 where the plugin failed, 68 where it does not load, 2 where
nothing can be tested.

examples:
  pilot-agent plugin test
  pilot-agent plugin test my-vo --image /images/el9.sif
  pilot-agent plugin test --set 'plugins.options={"my_vo": {"size": 8}}' -- -k probe
""",
    "plugin pack": """The same sources give the same file, on any machine. It is a wheel: sign and
publish it (docs/how-to/sign-artifacts.md), or unpack it into a directory of
plugins.directories.

examples:
  pilot-agent plugin pack
  pilot-agent plugin pack my-vo --output /srv/wheels --json
""",
    "plugin list": """Name, version, origin (payload, signed, local), how much it declared and in
what time, its hooks, and what each declares.

example:
  pilot-agent plugin list --config vo=vo.yaml
""",
    "plugin hooks": """Each hook with its purpose, the record that it yields with all fields, and an
example, as Markdown.

example:
  pilot-agent plugin hooks | less
""",
    "plugin trace": """It runs the stages of a pilot with the plugin whose pyproject.toml is in DIR,
and prints every call of a hook and of a declared function or program, with
arguments and results. Of the configuration it shows the plugin's own options;
all of it, and all facts, with --json.

examples:
  pilot-agent plugin trace
  pilot-agent plugin trace my-vo --through probe --root recorded-node
  pilot-agent plugin trace --json | jq '.[] | select(.what == "my_vo_software")'
""",
}


def add_plugin(commands: argparse._SubParsersAction[argparse.ArgumentParser], add: Add) -> None:
    """``plugin`` for who asks for help, and what comes after it."""
    plain = _plain(commands, "plugin", "make, test, pack and watch a plugin (new, test, pack, list, trace, hooks)")
    plain.add_argument("what", choices=WORDS, metavar="|".join(WORDS), help="each has a --help of its own")
    new = _plain(commands, "plugin new", "write a new plugin, whose tests pass at once")
    new.add_argument("name", metavar="NAME", help="small letters, digits, - and _")
    test = _plain(commands, "plugin test", "test a plugin on recorded nodes, in a container and on this machine")
    test.add_argument("directory", nargs="?", default=".", metavar="DIR", help="where its pyproject.toml is")
    test.add_argument("--image", metavar="PATH", help="the image of the container (default: this machine's programs)")
    test.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one configured value; repeatable"
    )
    pack = _plain(commands, "plugin pack", "make the artifact of a plugin, reproducibly")
    pack.add_argument("directory", nargs="?", default=".", metavar="DIR", help="where its pyproject.toml is")
    pack.add_argument("--output", metavar="DIR", help="where the file goes (default: DIR/dist)")
    trace = _plain(commands, "plugin trace", "print every call of a plugin's code, with arguments and results")
    trace.add_argument("directory", nargs="?", default=".", metavar="DIR", help="where its pyproject.toml is")
    trace.add_argument("--through", default="validate", metavar="STAGE", help="the last stage (default: validate)")
    trace.add_argument("--root", default="/", metavar="DIR", help="a recorded node instead of this one")
    trace.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one value; repeatable")
    _plain(commands, "plugin hooks", "print the reference of everything that a plugin may declare")
    listing = add("plugin list", "list the plugins of a configuration: version, origin, hooks, what they declare")
    listing.add_argument("--user", metavar="NAME", help="change to this account first (as root)")
    for command in (pack, trace, listing):
        command.add_argument("--json", action="store_true", help="print JSON")


def _plain(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    """A command that takes no configuration files."""
    return commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EPILOGS[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
