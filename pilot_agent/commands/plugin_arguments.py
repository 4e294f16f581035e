"""The parsers of ``plugin new``, ``test``, ``pack``, ``list`` and ``trace``."""

from __future__ import annotations

import argparse

WORDS = ("new", "test", "pack")

EPILOGS = {
    "plugin": """new: write a plugin to begin with. test: its own tests on recorded nodes, then
the plugin in a container and on this machine. pack: the artifact that is
signed and published.

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
}


def add_plugin(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``plugin`` for who asks for help, and what comes after it."""
    plain = _plain(commands, "plugin", "make, test and pack a plugin (new, test, pack)")
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
    pack.add_argument("--json", action="store_true", help="print JSON")


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
