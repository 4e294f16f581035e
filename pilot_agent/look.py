"""The commands that look at a node: ``check``, ``probe`` and ``explain``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from pilot_agent import configure, render
from pilot_agent.codec import to_json
from pilot_agent.config import Config, load_config
from pilot_agent.configure import Given
from pilot_agent.files import write_atomically
from pilot_agent.host import Loaded
from pilot_agent.model import Failure, FailureKind, Json, PilotError, worst_failure
from pilot_agent.plan_page import name_of, plan_page, steps
from pilot_agent.printing import print_page, print_text
from pilot_agent.report import build_report
from pilot_agent.standalone import CHECK_STAGES, PROBE_STAGES, Subject, View, check, look
from pilot_agent.state import State


def run_check(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Judge the node and print the verdict; the exit code (design section 6, or Nagios's)."""
    for option, path in (("--html", parsed.html), ("--junit", parsed.junit)):
        if path == "-":
            raise PilotError(
                Failure(FailureKind.USAGE, "usage", f"{option} -: it writes to a file only", "name a file")
            )
    stages = [*CHECK_STAGES, *(["setup_late", "service"] if parsed.services else [])]
    stages += ["benchmark"] if parsed.benchmarks else []
    config, subjects = _subjects(parsed, given, environment)
    state = check(config, subjects, environment, stages=stages, view=View(parsed.root))
    report = build_report(state, finished=True)
    _write_html(parsed, report)
    _write_junit(parsed, report)
    return _print_check(parsed, state, report)


def answer_failure(parsed: argparse.Namespace, failure: Failure, environment: Mapping[str, str]) -> None:
    """A report of a check that could not be made, in every format that was asked for, as programs wait for one. What
    Nagios gets is one line, for the caller to write."""
    state = configure.new_state(load_config([]), environment, output="/")
    report = build_report(replace(state, failures=(failure,)), finished=True)
    for write in (_write_html, _write_junit):
        with contextlib.suppress(PilotError):
            write(parsed, report)
    if parsed.json:
        print_text(json.dumps(report, indent=2) + "\n")
    elif parsed.prometheus:
        print_text(prometheus_text(report))


def _subjects(
    parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]
) -> tuple[Config, tuple[Subject, ...]]:
    """The configuration of the probes, which run once for all, and each VO's own."""
    given = replace(given, requirements=tuple(parsed.require))
    whole = replace(given, files=(*given.files, *(f"vo={path}" for path in parsed.vo)))
    config = _with_profile(parsed, whole, environment)
    if len(parsed.vo) < 2:
        name = str(config.get("vo.name")) if config.origins["vo.name"] != ("defaults",) else ""
        return config, (Subject(name, config),)
    subjects = []
    for path in parsed.vo:
        own = _with_profile(parsed, replace(given, files=(*given.files, f"vo={path}")), environment)
        subjects.append(Subject(str(own.get("vo.name")), own))
    return config, tuple(_distinct(subjects, parsed.vo))


def _distinct(subjects: list[Subject], paths: list[str]) -> list[Subject]:
    """Two VOs of one name could not be told apart in a report: then they go by their files."""
    names = [subject.vo for subject in subjects]
    if len(set(names)) == len(names):
        return subjects
    return [Subject(path, subject.config) for subject, path in zip(subjects, paths, strict=True)]


def _with_profile(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> Config:
    config = configure.read_layers(given, environment)
    named = {name.partition(":")[0] for name in config.layers} - {"defaults", "command line"}
    profile = parsed.profile or ("none" if named else "pilot")
    if config.origins["checks.profile"] != ("defaults",) and not parsed.profile:
        return config
    return configure.read_layers(
        replace(given, assignments=(*given.assignments, f"checks.profile={profile}")), environment
    )


def _write_html(parsed: argparse.Namespace, report: dict[str, Json]) -> None:
    if parsed.html:
        from pilot_agent.output.html import html_page

        _write(parsed.html, html_page(report), "--html")


def _write_junit(parsed: argparse.Namespace, report: dict[str, Json]) -> None:
    if parsed.junit:
        from pilot_agent.output.junit import junit_xml

        _write(parsed.junit, junit_xml(report), "--junit")


def _write(path: str, text: str, option: str) -> None:
    if path == "-":
        return
    try:
        write_atomically(path, text.encode(), mode=0o644)
    except OSError as error:
        message = f"{option} {path}: the file cannot be written: {error.strerror}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "name a file in a directory of yours")) from error


def _print_check(parsed: argparse.Namespace, state: State, report: dict[str, Json]) -> int:
    failure = worst_failure(list(state.failures))
    code = failure.exit_code if failure else 0
    if parsed.nagios:
        from pilot_agent.output.nagios import nagios

        code, text = nagios(report)
    elif parsed.prometheus:
        text = prometheus_text(report)
    elif parsed.json:
        text = json.dumps(report, indent=2) + "\n"
    else:
        print_page(render.check_report(state, recorded=bool(parsed.root.strip("/"))))
        return code
    print_text(text)
    return code


def prometheus_text(report: dict[str, Json]) -> str:
    """The report as metrics."""
    from pilot_agent.output.prometheus import prometheus

    return prometheus(report)


def run_probe(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Print what the probes find; 0 when they ran."""
    config = configure.read_layers(given, environment)
    view = View(parsed.root, frozenset(parsed.names), parsed.record)
    if parsed.record and parsed.root.strip("/"):
        message = "--record keeps what this node tells, --root reads a recording"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "give one of them"))
    state = look(config, environment, stages=PROBE_STAGES if not parsed.names else PROBE_STAGES[:1], view=view)
    if parsed.json:
        print_text(json.dumps(build_report(state, finished=True), indent=2) + "\n")
    else:
        print_page(render.facts(state) + "\n")
    if parsed.record:
        told = "secrets were taken out of it by name and shape; read it before you give it away"
        os.write(2, f"pilot-agent: the node is recorded in {parsed.record}; {told}\n".encode())
    return 0


def run_explain(
    parsed: argparse.Namespace,
    given: Given,
    environment: Mapping[str, str],
    load: Callable[[Config], tuple[Loaded, Config]],
) -> int:
    """Print what ``run`` would do, or ``check`` with its options, and where every configured value comes from; nothing
    is done. Of several VOs each has its own plan; as JSON that is a list."""
    check = bool(parsed.check or parsed.vo or parsed.require or parsed.profile)
    subjects: tuple[Subject, ...] = (Subject("", configure.read_layers(given, environment)),)
    if check:
        _, subjects = _subjects(parsed, given, environment)
    answers, pages = [], []
    for subject in subjects:
        loaded, config = load(subject.config)
        pages.append(plan_page(config, loaded, check=check, vo=subject.vo))
        answers.append(_plan(subject.vo, config, loaded, check=check))
    if parsed.json:
        print_text(json.dumps(answers if len(answers) > 1 else answers[0], indent=2) + "\n")
    else:
        print_page("\n".join(pages))
    return 0


def _plan(vo: str, config: Config, loaded: Loaded, *, check: bool) -> dict[str, Json]:
    planned = steps(loaded, check=check)
    return {
        "command": "check" if check else "run",
        "vo": vo,
        "config": configure.explained(config),
        "plugins": to_json(loaded.plugins),
        "stages": [
            {"stage": step.stage, "does": step.does, "tasks": [f"{task.plugin}:{name_of(task)}" for task in step.tasks]}
            for step in planned
        ],
        "plan": to_json([task for step in planned for task in step.tasks]),
    }
