"""The parsers of ``bench``, ``negotiate``, ``images``, ``cvmfs``, ``exec``, ``report`` and ``version``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from pilot_agent.config_kinds import CONTAINER_WISHES

_OF_TWO_WORDS = (
    *(("images", "inspect"), ("images", "build"), ("cvmfs", "plan"), ("cvmfs", "config")),
    *(("plugin", "new"), ("plugin", "test"), ("plugin", "pack"), ("plugin", "list"), ("plugin", "trace")),
    ("plugin", "hooks"),
)

Add = Callable[[str, str], argparse.ArgumentParser]
"""Adds a command by name and one-line help; the parser takes configuration."""

EPILOGS = {
    "version": """The digest is that of the file which the factory sent, as launcher.sh takes it.

examples:
  pilot-agent version
  pilot-agent version --json
  pilot-agent version --sbom > pilot.cdx.json
  pilot-agent version --licences
""",
    "bench": """Without a name it runs those that a pilot of this configuration would run; scores
that are kept on the node are taken from there. With several runs the score is
their median.

Exit code: 0, 69 where a benchmark failed, or that of what kept it from running.

examples:
  pilot-agent bench
  pilot-agent bench hash --repeat 5
  pilot-agent bench --list
  pilot-agent bench --json > this-node.json
  pilot-agent bench --compare other-node.json --plot scores.svg
""",
    "negotiate": """Exit code: 0, or 66 where VO and site contradict each other.

examples:
  pilot-agent negotiate --vo preferred --site required --json
  pilot-agent negotiate --table                     every combination
""",
    "images": """It finds the container runtime, looks at every candidate of the image dictionary
and runs a program in those on this node, as a pilot does at its start.

Exit code: 0 when it is decided how jobs run, else that of the failure with
which a pilot would end.

examples:
  pilot-agent images --config vo=vo.yaml
  pilot-agent images inspect /cvmfs/images.example.org/el9
  pilot-agent images build Dockerfile /images/el9.sif
""",
    "images inspect": """What can be read from the image itself needs no container runtime.

examples:
  pilot-agent images inspect /images/el9.sif
  pilot-agent images inspect el9 --config vo=vo.yaml --json
""",
    "images build": """A name that ends in .sif becomes a SIF file, any other a directory. The image
takes its place only after a program ran in it as in a job. What is built runs
with the rights of this account; %post is root inside only where the node
allows user namespaces. Dockerfiles need the Python package spython.

examples:
  pilot-agent images build image.def /images/el9.sif
  pilot-agent images build Dockerfile /images/el9 --name el9
""",
    "cvmfs": """plan: the ways to CVMFS on this node, which of them a pilot would take, and who
must change what for another. config: the settings of the client with which a
pilot mounts CVMFS itself. Neither mounts anything.

examples:
  pilot-agent cvmfs plan --set 'cvmfs.repositories=["images.example.org"]'
  pilot-agent cvmfs plan --config vo=vo.yaml --config site=site.yaml --json
  pilot-agent cvmfs plan --config vo=vo.yaml --root node1       a recorded node
  pilot-agent cvmfs config --set 'cvmfs.proxies=["http://squid:3128"]'
""",
    "cvmfs plan": """It probes the node, mounts nothing, and shows every way to CVMFS, the best
first: taken, possible, refused (with who must change what) or unknown.

Exit code: 0, 64 where CVMFS is required and this node has no way to it, 66
where VO and site contradict each other or the configuration is wrong.

examples:
  pilot-agent cvmfs plan --set 'cvmfs.repositories=["images.example.org"]'
  pilot-agent cvmfs plan --config vo=vo.yaml --config site=site.yaml --json
  pilot-agent cvmfs plan --config vo=vo.yaml --root node1       a recorded node
""",
    "cvmfs config": """It probes the node, writes nothing, and shows the lines for the client with
which the pilot mounts CVMFS itself, and where each comes from. Passwords are
left out.

Exit code: 0, 64 where the disk is too small for the cache, 65 where no proxy
is known and the client may not go without, 66 for a wrong configuration.

examples:
  pilot-agent cvmfs config --set 'cvmfs.proxies=["http://squid:3128"]'
  pilot-agent cvmfs config --config site=site.yaml --json
""",
    "exec": """Image, binds, options, variables, home and scratch directory are those of a job
on this node; terminal, standard streams and signals are yours. The scratch
directory is empty but for --input, and is removed at the end.

Exit code: the command's, 128+N for signal N. Where nothing could be run it is
the pilot's: 2 a wrong command line, 64 the node, 65 the network, 66 the
configuration.

examples:
  pilot-agent exec -- /bin/bash                         a shell as in a job
  pilot-agent exec --image el9 -- cat /etc/os-release
  condor_q -l 1234.0 > job.ad
  pilot-agent exec --as-job job.ad --input run.sh -- ./run.sh
""",
    "report": """FILE is what a batch job wrote to standard output (- for standard input); show
takes a report.json too. A pilot prints its report at the end, also when it
fails early or is killed.

Exit code: 0, 2 where there is no report, 68 where one was cut off or damaged.

examples:
  pilot-agent report extract slurm-4711.out > report.json
  pilot-agent report show slurm-4711.out
  pilot-agent report extract all-ranks.out --pilot 4f3a9c0d1e2b
""",
}


def add_bench(add: Add) -> None:
    """``bench``."""
    bench = add("bench", "run benchmarks on this node, and show what it scored")
    bench.add_argument("names", nargs="*", metavar="NAME", help="only these benchmarks")
    bench.add_argument("--list", action="store_true", help="list the benchmarks, run none")
    bench.add_argument("--repeat", type=_positive, default=1, metavar="N", help="run each N times (1 to 1000)")
    bench.add_argument("--no-cache", action="store_true", help="measure even where a score is kept on the node")
    bench.add_argument(
        "--compare", action="append", default=[], metavar="FILE", help="show the scores of this report too; repeatable"
    )
    bench.add_argument("--plot", metavar="FILE.svg", help="write the bars as a picture")
    bench.add_argument("--json", action="store_true", help="print the report as JSON")
    bench.add_argument("--user", metavar="NAME", help="change to this account first (as root)")


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 1000")
    return number


def add_negotiate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``negotiate``, the only one that takes no configuration."""
    negotiate = commands.add_parser(
        "negotiate",
        help="what follows from VO and site container wishes",
        description=f"What follows from container wishes. In any case, VALUE is one of:\n{', '.join(CONTAINER_WISHES)}",
        epilog=EPILOGS["negotiate"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    negotiate.add_argument("--vo", metavar="VALUE", help="what the VO wants")
    negotiate.add_argument("--site", metavar="VALUE", help="what the site demands")
    negotiate.add_argument("--table", action="store_true", help="print every combination, the taken one marked")
    negotiate.add_argument("--json", action="store_true", help="print JSON")


def add_images(add: Add) -> None:
    """``images`` and its two companions."""
    images = add("images", "list the images of the dictionary, which of them jobs get here, and why")
    inspect = add("images inspect", "show what an image is: form, system, labels, digest, recipe")
    inspect.add_argument("image", metavar="PATH|NAME", help="an image, or a platform of the dictionary")
    build = add("images build", "build an image from a recipe, prove it, and print its dictionary entry")
    build.add_argument("recipe", metavar="RECIPE", help="a definition file or a Dockerfile")
    build.add_argument("target", metavar="DIR|FILE.sif", help="where the image is to be")
    build.add_argument("--name", metavar="PLATFORM", help="its name in the printed entry (default: from its system)")
    build.add_argument("--force", action="store_true", help="replace what is there already")
    build.add_argument(
        "--seconds", type=float, default=3600.0, metavar="N", help="end the build after so long (default: 3600)"
    )
    for command in (images, inspect, build):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--user", metavar="NAME", help="change to this account first (as root)")


def add_cvmfs(add: Add) -> None:
    """``cvmfs plan`` and ``cvmfs config``, and what they have in common for who asks for help."""
    either = add("cvmfs", "by which way jobs get CVMFS (plan), and how the pilot's own client is configured (config)")
    either.add_argument("what", choices=("plan", "config"), metavar="plan|config", help="each has a --help of its own")
    plan = add("cvmfs plan", "show by which way jobs get CVMFS on this node, and why not by another")
    config = add("cvmfs config", "show how the client is configured with which the pilot mounts CVMFS itself")
    for command in (either, plan):
        command.add_argument("--fetch", action="store_true", help="plan: try which published clients load here")
    for command in (either, plan, config):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--user", metavar="NAME", help="change to this account first (as root)")
        command.add_argument("--root", default="/", metavar="DIR", help="read a recorded node instead of this one")


def add_exec(add: Add) -> None:
    """``exec``; the words after ``--`` are not among these arguments."""
    command = add("exec", "run a command on this node exactly as a job would be run")
    command.usage = "pilot-agent exec [-h] [option ...] -- COMMAND [ARGUMENT ...]"
    which = command.add_mutually_exclusive_group()
    which.add_argument("--image", metavar="NAME|PATH", help="a platform of the dictionary, or an image")
    which.add_argument("--as-job", metavar="FILE", help="a job's ad as condor_q -l prints it: it decides the image")
    command.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="PATH",
        help="copy it into the scratch directory, like transfer_input_files; repeatable",
    )
    command.add_argument("--quiet", action="store_true", help="do not say which image was taken")
    command.add_argument("--user", metavar="NAME", help="change to this account first (as root)")


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The parser of the command."""
    text = "get a pilot's report out of its batch job's output, or show it"
    command = commands.add_parser(
        "report",
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EPILOGS["report"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("what", choices=("extract", "show"), help="print the JSON, or what it says in brief")
    command.add_argument("file", metavar="FILE", help="a batch job's standard output")
    command.add_argument("--pilot", metavar="ID", help="of this pilot, where several wrote to one file")
    command.add_argument("--output", metavar="FILE", help="write the JSON there instead of printing it")


def add_version(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The parser of the command."""
    text = "say which payload this is, and what it carries"
    command = commands.add_parser(
        "version",
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EPILOGS["version"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="build, commit, digest, contract and schema versions as JSON")
    form.add_argument("--sbom", action="store_true", help="all that the payload carries, as CycloneDX JSON")
    form.add_argument("--licences", action="store_true", help="the licences of all that the payload carries")


def split_command(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments of the program itself, and what is for the one that ``exec`` or ``plugin test`` runs: the words
    after the first ``--``."""
    words: list[str] = []
    if (arguments[:1] == ["exec"] or arguments[:2] == ["plugin", "test"]) and "--" in arguments:
        place = arguments.index("--")
        arguments, words = arguments[:place], arguments[place + 1 :]
    if tuple(arguments[:2]) in _OF_TWO_WORDS:
        return [" ".join(arguments[:2]), *arguments[2:]], words
    return arguments, words
