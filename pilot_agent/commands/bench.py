"""``bench``: run benchmarks on this node, one after the other, and show what it scored beside other nodes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pilot_agent import configure
from pilot_agent.benchmark_stage import run_one
from pilot_agent.collect import Declared
from pilot_agent.config import Config
from pilot_agent.configure import Given
from pilot_agent.files import write_atomically
from pilot_agent.host import Loaded
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.model import BenchmarkScore, Failure, FailureKind, Json, PilotError
from pilot_agent.ordering import in_order
from pilot_agent.output.read import read
from pilot_agent.output.reading import Reading
from pilot_agent.output.score_chart import Bars, svg_bars, terminal_bars
from pilot_agent.output.words import number_text
from pilot_agent.plugins.benchmarks import BUILT_IN
from pilot_agent.plugins.measuring import median, spread_of
from pilot_agent.printing import print_page, print_text
from pilot_agent.progress import Progress
from pilot_agent.render import paragraph, table, terminal_width
from pilot_agent.report import build_report
from pilot_agent.spelling import nearest, unit_of
from pilot_agent.stages import Session
from pilot_agent.standalone import work_in
from pilot_agent.state import State

WAIT_SECONDS = 60.0
"""How long to wait while a pilot on the node runs the same benchmark."""
LIMIT_BYTES = 64 << 20
HOST_STAGES = ("probe",)
IMAGE_STAGES = ("probe", "mount", "setup_early", "container")
Load = Callable[[Config], tuple[Loaded, Config]]


def run_bench(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str], load: Load) -> int:
    """Run and show them, or list them; 0, or 69 when one failed."""
    config = _config(parsed, given, environment)
    chosen = _chosen(parsed.names, load(config)[0])
    if parsed.list:
        return _list(parsed, chosen)
    others = [_other(path) for path in parsed.compare]
    state = _run(parsed, config, environment, chosen)
    report = build_report(state, finished=True)
    groups = _groups(state.benchmarks, others, _name(state))
    if parsed.plot:
        _write_plot(parsed.plot, svg_bars(f"Benchmarks on {_name(state)}", groups))
    if parsed.json:
        print_text(json.dumps(report, indent=2) + "\n")
    else:
        print_page(_page(state, others, groups))
    return FailureKind.PLUGIN.exit_code if any(one.status in ("failed", "timeout") for one in state.benchmarks) else 0


def _config(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> Config:
    """The configuration, with the built-in benchmarks that were named switched on."""
    before = configure.read_layers(given, environment)
    names = list(before.get("benchmarks.run"))
    names += [name for name in BUILT_IN if name in parsed.names or (parsed.list and _possible(name, before))]
    told = (f"benchmarks.run={json.dumps(list(dict.fromkeys(names)))}", "benchmarks.enabled=true")
    return configure.read_layers(replace(given, assignments=(*given.assignments, *told)), environment)


def _possible(name: str, config: Config) -> bool:
    """Whether the configuration has all that a built-in benchmark needs."""
    try:
        BUILT_IN[name](config.values)
    except PilotError:
        return False
    return True


def _chosen(names: Sequence[str], loaded: Loaded) -> list[Declared]:
    """Those that were named, or all. Raises ``PilotError`` (usage)."""
    declared = in_order(loaded.of("pilot_benchmarks"))
    known = [task.record.name for task in declared]
    if unknown := [name for name in names if name not in known]:
        near = nearest(unknown[0], {*known, *BUILT_IN})
        message = f"there is no benchmark {unknown[0]}{near}; known: {', '.join(dict.fromkeys([*known, *BUILT_IN]))}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "pilot-agent bench --list shows them"))
    return [task for task in declared if not names or task.record.name in names]


def _list(parsed: argparse.Namespace, chosen: Sequence[Declared]) -> int:
    if parsed.json:
        keys = ("name", "where", "cores", "when", "timeout_seconds", "memory_mib", "disk_mib", "version")
        rows = [{"plugin": task.plugin} | {key: getattr(task.record, key) for key in keys} for task in chosen]
        print_text(json.dumps(rows, indent=2) + "\n")
        return 0
    lines = [("benchmark", "plugin", "cores", "when", "at most", "memory")]
    for task in chosen:
        one = task.record
        bounds = (f"{one.timeout_seconds:g} s", f"{one.memory_mib} MiB")
        lines.append((one.name, task.plugin, one.cores, one.when, *bounds))
    print_page(table(lines) + "\n")
    return 0


def _run(
    parsed: argparse.Namespace, config: Config, environment: Mapping[str, str], chosen: Sequence[Declared]
) -> State:
    scores: list[BenchmarkScore] = []
    use_kept = not parsed.no_cache and parsed.repeat == 1
    wanted = {(task.plugin, task.record.name) for task in chosen}

    def act(session: Session, state: State, progress: Progress) -> None:
        for task in in_order(session.loaded.of("pilot_benchmarks")):
            if (task.plugin, task.record.name) not in wanted:
                continue
            runs: list[BenchmarkScore] = []
            for number in range(1, parsed.repeat + 1):
                times = f", {number} of {parsed.repeat}" if parsed.repeat > 1 else ""
                progress.say(f"benchmark {task.record.name}{times}")
                budget = Budget(task.record.timeout_seconds + WAIT_SECONDS)
                runs.append(run_one(session, state, task, budget, use_kept=use_kept).benchmarks[-1])
                if runs[-1].status != "ok":
                    break
            scores.append(together(runs))

    inside = any(task.record.where == "image" for task in chosen)
    state = work_in(config, environment, stages=IMAGE_STAGES if inside else HOST_STAGES, act=act)
    return replace(state, benchmarks=tuple(scores))


def together(runs: Sequence[BenchmarkScore]) -> BenchmarkScore:
    """Several runs as one: the median, with what each scored; the first that failed where one did."""
    last = runs[-1]
    if len(runs) == 1 or last.score is None:
        return last
    numbers = tuple(run.score for run in runs if run.score is not None)
    seconds = sum(run.seconds for run in runs)
    return replace(
        last, score=median(numbers), repetitions=numbers, spread=spread_of(numbers), seconds=round(seconds, 4)
    )


def _other(path: str) -> Reading:
    """A report of another node. Raises ``PilotError`` (usage)."""
    try:
        with open(path, "rb") as file:
            report: Json = json.loads(file.read(LIMIT_BYTES))
    except OSError as error:
        message = f"--compare {path}: it cannot be read: {error.strerror}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message)) from error
    except (ValueError, RecursionError) as error:
        message = f"--compare {path}: it is no JSON: {error}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "name a report.json")) from error
    if not isinstance(report, dict) or not isinstance(report.get("benchmarks"), list):
        message = f"--compare {path}: it is no report of a pilot"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "name a report.json, or what bench --json wrote"))
    return read(report)


def _groups(scores: Sequence[BenchmarkScore], others: Sequence[Reading], name: str) -> list[Bars]:
    """What can be compared: the repetitions of a benchmark, and its score beside those of other nodes."""
    groups = []
    for one in scores:
        if one.score is None:
            continue
        if len(one.repetitions) > 1:
            bars = tuple((f"run {number}", value) for number, value in enumerate(one.repetitions, 1))
            groups.append(Bars(one.name, one.unit, bars))
        found = [
            (other.host, told.number)
            for other in others
            for told in other.benchmarks
            if told.name == one.name and told.unit == one.unit and told.number is not None
        ]
        if found:
            groups.append(Bars(f"{one.name} by node", one.unit, ((f"{name} (now)", one.score), *found)))
    return groups


def _page(state: State, others: Sequence[Reading], groups: Sequence[Bars]) -> str:
    parts = [paragraph(f"Benchmarks on {_name(state)}{_processor(state)}")]
    if not state.benchmarks:
        parts.append("none")
    else:
        parts.append(table([("  ", one.name, *_cells(one)) for one in state.benchmarks]))
    if groups:
        plain = "utf" not in (sys.stdout.encoding or "").lower()
        parts.append(terminal_bars(groups, terminal_width(), plain=plain))
    if others and not any(group.title.endswith(" by node") for group in groups):
        parts.append(paragraph("The other reports have no score of these benchmarks in the same unit."))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _cells(one: BenchmarkScore) -> tuple[str, str]:
    if one.score is None:
        return one.status, one.message
    words = ["kept on the node" if one.cached else f"{one.seconds:.1f} s"]
    if one.spread is not None:
        words.append(f"spread {100 * one.spread:.0f} % of {len(one.repetitions)}")
    load, neighbours = one.conditions.get("load_1min"), one.conditions.get("neighbours")
    if (cores := one.conditions.get("cores")) is not None:
        words.append(f"{cores} {unit_of(cores, 'cores')}")
    if isinstance(load, int | float):
        words.append(f"load {load:.1f}")
    if neighbours:
        words.append("1 other pilot" if neighbours == 1 else f"{neighbours} other pilots")
    return f"{number_text(one.score)} {one.unit}", ", ".join(words)


def _name(state: State) -> str:
    return state.host


def _processor(state: State) -> str:
    fact = state.facts.get("cpu.model")
    return f", {fact.value}" if fact is not None and fact.known else ""


def _write_plot(path: str, text: str) -> None:
    try:
        write_atomically(os.path.abspath(path), text.encode(), mode=0o644)
    except OSError as error:
        message = f"--plot {path}: the file cannot be written: {error.strerror}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "name a file in a directory of yours")) from error
