"""The parts of the page: verdicts, the node in brief, checks, CVMFS, containers, the timeline, and what else ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pilot_agent.output.html_values import fact_groups, with_unit
from pilot_agent.output.markup import Markup, joined, table, tag
from pilot_agent.output.reading import (
    NOT_THE_NODE,
    Candidate,
    CheckRow,
    Containers,
    FactRow,
    FitFor,
    Problem,
    Reading,
    Told,
    Ways,
)
from pilot_agent.output.timeline_chart import timeline_chart
from pilot_agent.output.words import clipped, number_text, one_line, seconds_text, shortened

T = TypeVar("T")
CHECK_ORDER = ("fail", "warn", "pass", "skip")
MARKS = {"pass": ("good", "✓ ok"), "fail": ("bad", "✗ fails"), "warn": ("warn", "! warns"), "skip": ("", "– skipped")}
COUNTED = {"fail": "failed", "warn": "warned", "pass": "passed", "skip": "skipped"}
BRIEF = (
    ("Cores for jobs", "cpu.usable"),
    ("Processor", "cpu.model"),
    ("Memory for jobs", "memory.usable_mib"),
    ("Free scratch space", "disk.workspace_free_mib"),
    ("GPUs", "gpu.count"),
    ("Operating system", "os.pretty_name"),
    ("Kernel", "os.kernel"),
    ("Architecture", "os.arch"),
    ("CPU level", "os.microarch"),
    ("glibc", "os.glibc"),
    ("User namespaces", "userns.usable"),
    ("FUSE mounts", "fuse.usable"),
    ("CVMFS repositories", "cvmfs.repositories"),
    ("Batch system", "batch.system"),
)
MOST_ROWS = 1000


def verdicts(report: Reading) -> Markup:
    """For each VO whether the node is fit, and if not, why and what to change."""
    cards = [_verdict(report, fit) for fit in report.fit]
    if report.problem and all(fit.fit for fit in report.fit):
        reason = [tag("h2", "✗ The check did not end well"), _problem(report.problem)]
        cards.append(tag("div", *reason, class_="verdict bad"))
    return joined(cards)


def _verdict(report: Reading, fit: FitFor) -> Markup:
    who = f"VO {shortened(one_line(fit.vo), 100)}: this" if fit.vo else "This"
    warned = [check for check in report.checks_of(fit.vo) if check.status == "warn"]
    if fit.fit:
        head = tag("h2", f"✓ {who} node is fit")
        many = f"{len(warned)} checks warn" if len(warned) > 1 else "one check warns"
        return tag("div", head, tag("p", f"But {many}: see below.") if warned else "", class_="verdict good")
    unclear = fit.problem is not None and fit.problem.kind in NOT_THE_NODE
    words = f"? {who} node may be fit or not: the check failed" if unclear else f"✗ {who} node is NOT fit"
    parts = [tag("h2", words)]
    if fit.problem:
        parts.append(_problem(fit.problem))
    said = fit.problem.message if fit.problem else ""
    others = [c for c in report.checks_of(fit.vo) if c.status == "fail" and not (said and said.endswith(c.message))]
    if others:
        parts.append(tag("h3", "Also to be changed" if fit.problem else "What fails"))
        parts.append(tag("ul", *(tag("li", _failed(check)) for check in others[:MOST_ROWS])))
    return tag("div", *parts, class_="verdict unclear" if unclear else "verdict bad")


def _problem(problem: Problem) -> Markup:
    parts = [tag("p", shortened(problem.message))]
    if problem.hint:
        parts.append(tag("div", tag("b", "What to change"), shortened(problem.hint), class_="change"))
    words = [f"who acts: {problem.who}" if problem.who else "", problem.kind, problem.code]
    words.append(f"stage {problem.stage}" if problem.stage else "")
    parts.append(tag("p", shortened(" · ".join(word for word in words if word), 400), class_="quiet small"))
    return joined(parts)


def _failed(check: CheckRow) -> Markup:
    hint = f" - {shortened(check.hint)}" if check.hint else ""
    return joined([tag("b", shortened(check.name, 100)), f": {shortened(check.message)}{hint}"])


def brief(report: Reading) -> Markup:
    """The node at a glance."""
    cells = [_glance(label, fact) for label, name in BRIEF if (fact := report.fact(name)) is not None]
    return section("node", "The node in brief", tag("dl", *cells, class_="brief")) if cells else Markup("")


def _glance(label: str, fact: FactRow) -> Markup:
    if fact.status == "known":
        value = shortened(with_unit(fact.value, fact.unit), 120)
        limited = fact.bounds and fact.bounds[0].number < fact.bounds[-1].number
        decided = fact.source if limited else ""
        why = f"limited by {decided}" if decided else fact.detail if fact.value is False else ""
    else:
        value, why = fact.status, fact.detail
    small = tag("small", clipped(why, 160)) if why else ""
    return tag("div", tag("dt", label), tag("dd", value, small))


def checks(report: Reading) -> Markup:
    """Every check, what fails first."""
    found = sorted(report.checks_together(), key=lambda check: CHECK_ORDER.index(check.status))
    several = any(check.vo for check in found)
    rows = []
    for check in found[:MOST_ROWS]:
        vo = [shortened(check.vo, 100) or "every VO"] if several else []
        hint = shortened(check.hint) if check.status != "pass" else ""
        rows.append([mark(*MARKS[check.status]), _check_name(check), *vo, shortened(check.message), hint])
    if not rows:
        return Markup("")
    counted = {status: sum(check.status == status for check in found) for status in CHECK_ORDER}
    caption = ", ".join(f"{count} {COUNTED[status]}" for status, count in counted.items() if count)
    heads = ["result", "check", *(["for VO"] if several else []), "what was found", "what to change"]
    return section("checks", "Checks", table(caption, heads, rows, kind="checks several" if several else "checks"))


def _check_name(check: CheckRow) -> Markup:
    inside = tag("span", " inside the image", class_="quiet small") if check.where == "image" else ""
    return joined([shortened(check.name, 100), inside])


def mark(kind: str, text: str) -> Markup:
    """A word on a coloured ground; the word alone says it too."""
    return tag("span", text, class_=f"mark {kind}".rstrip())


def containers(report: Reading) -> Markup:
    """How jobs would be contained; for each VO where they differ."""
    parts = _for_each_vo([(fit.vo, fit.containers) for fit in report.fit], report.containers, _containers)
    return section("containers", "Containers", *parts) if parts else Markup("")


def cvmfs(report: Reading) -> Markup:
    """By which way jobs would get CVMFS; for each VO where they differ."""
    parts = _for_each_vo([(fit.vo, fit.cvmfs) for fit in report.fit], report.cvmfs, _ways)
    return section("cvmfs", "CVMFS", *parts) if parts else Markup("")


def _for_each_vo(
    by_vo: Sequence[tuple[str, T | None]], whole: T | None, shown: Callable[[T, str], Markup]
) -> list[Markup]:
    """What each VO was told; what holds for the whole node where there is only one."""
    decided = [(vo, found) for vo, found in by_vo if found]
    if decided and (len(by_vo) > 1 or whole is None):
        return [shown(found, shortened(one_line(vo), 100)) for vo, found in decided]
    return [shown(whole, "")] if whole else []


def _ways(found: Ways, vo: str) -> Markup:
    rows = [
        (
            mark("good", "✓ taken") if way.state == "taken" else shortened(way.state, 60),
            shortened(f"{way.name} ({way.mode})" if way.mode else way.name, 100),
            shortened(way.reason),
        )
        for way in found.ways[:MOST_ROWS]
    ]
    ways = [table("Ways, the best first", ("state", "way", "why"), rows)] if rows else []
    return tag("div", *_decision(found, vo), *ways, class_="group")


def _decision(found: Containers | Ways, vo: str) -> list[Markup]:
    cell = f" ({shortened(found.cell, 200)})" if found.cell else ""
    said = tag("p", tag("b", shortened(found.decision, 60)), cell, f" - {shortened(found.reason)}")
    return [tag("h3", f"VO {vo}"), said] if vo else [said]


def _containers(found: Containers, vo: str) -> Markup:
    parts = _decision(found, vo)
    if found.runtime:
        parts.append(tag("p", "Runtime: ", tag("code", shortened(found.runtime, 400))))
    if found.default:
        parts.append(tag("p", "Image of jobs that name none: ", tag("code", shortened(found.default, 200))))
    rows = [
        (
            mark("good", "✓ taken") if candidate.taken else mark("", "– not taken"),
            shortened(candidate.platform, 100),
            tag("code", shortened(candidate.path, 400)),
            _why(candidate),
            ("yes" if candidate.proven else "no")
            + (f", {seconds_text(candidate.seconds)}" if candidate.seconds else ""),
        )
        for candidate in found.candidates[:MOST_ROWS]
    ]
    if rows:
        parts.append(table("Images that were tried", ("result", "platform", "candidate", "why", "a program ran"), rows))
    parts += _wishes(found)
    return tag("div", *parts, class_="group")


def _why(candidate: Candidate) -> Markup:
    seen = "; ".join(f"{shortened(name, 100)}: {shortened(text, 200)}" for name, text in candidate.seen[:MOST_ROWS])
    if candidate.taken or not seen:
        return joined([shortened(candidate.reason)])
    return joined([shortened(candidate.reason), tag("div", f"seen of it: {seen}", class_="quiet small")])


def _wishes(found: Containers) -> list[Markup]:
    """What jobs get beside their image, and who asked for it."""
    rows = [
        (
            mark("good", "✓ given") if wish.given else mark("", "– not given"),
            wish.kind,
            tag("code", shortened(wish.what, 400)),
            shortened(wish.asked_by, 200),
            shortened(wish.reason),
        )
        for wish in found.wishes[:MOST_ROWS]
    ]
    heads = ("result", "what", "which", "asked for by", "why not")
    return [table("What jobs get beside their image", heads, rows)] if rows else []


def facts(report: Reading) -> Markup:
    """All facts by group."""
    return section("facts", "Facts", fact_groups(report.facts)) if report.facts else Markup("")


def timeline(report: Reading) -> Markup:
    """The chart, and the same as a table for those who cannot see it."""
    if not report.spans:
        return Markup("")
    rows = [
        (
            shortened(span.what, 100),
            shortened(span.stage, 100),
            shortened(span.plugin, 100),
            f"{number_text(span.start)} s",
            seconds_text(span.seconds),
            shortened(f"{span.status}: {span.detail}" if span.detail else span.status, 600),
        )
        for span in sorted(report.spans, key=lambda span: span.start)[:MOST_ROWS]
    ]
    heads = ("what", "stage", "plugin", "began after", "took", "ended")
    listed = tag("details", tag("summary", "The timeline as a table"), table("Timeline", heads, rows), class_="twice")
    return section("timeline", "Timeline", timeline_chart(report.spans), listed)


def others(report: Reading) -> Markup:
    """Services, benchmarks, leftovers, plugins, configuration layers and the machine ad, each where there is any."""
    layers = tag("ol", *(tag("li", shortened(layer, 300)) for layer in report.layers[:MOST_ROWS]), class_="list")
    none = tag("p", "None: the built-in defaults applied.", class_="quiet")
    ad = table("Attributes of the machine ad", ("attribute", "value"), _attributes(report), kind="facts")
    return joined(
        [
            _told("jobs", "Jobs", ("jobs", "how many, how long", "more"), report.jobs),
            _told("services", "Services", ("service", "status", "more"), report.services),
            _benchmarks(report.benchmarks),
            _told("leftovers", "Leftovers", ("what could not be removed", "cause", "more"), report.leftovers),
            _told("plugins", "Plugins", ("plugin", "status", "more"), report.plugins),
            section("configuration", "Configuration layers, weakest first", layers if report.layers else none),
            section("ad", "Machine ad", tag("details", tag("summary", f"{len(report.attributes)} attributes"), ad))
            if report.attributes
            else Markup(""),
        ]
    )


def _attributes(report: Reading) -> list[tuple[str, str]]:
    return [(shortened(name, 100), shortened(value)) for name, value in report.attributes[:MOST_ROWS]]


def _benchmarks(found: Sequence[Told]) -> Markup:
    rows = [
        (
            shortened(one.name, 100),
            shortened(one.status or "no score" if one.number is None else f"{number_text(one.number)} {one.unit}", 200),
            _more(one),
        )
        for one in found[:MOST_ROWS]
    ]
    heads = ("benchmark", "score", "more")
    return section("benchmarks", "Benchmarks", table("What the node scored", heads, rows)) if rows else Markup("")


def _told(anchor: str, title: str, heads: tuple[str, str, str], found: Sequence[Told]) -> Markup:
    rows = [(shortened(one.name, 300), shortened(one.status, 600), _more(one)) for one in found[:MOST_ROWS]]
    return section(anchor, title, table(f"{len(found)} in all", heads, rows)) if rows else Markup("")


def _more(one: Told) -> str:
    return "; ".join(f"{name.replace('_', ' ')}: {shortened(text, 600)}" for name, text in one.words)


def section(anchor: str, title: str, *content: str) -> Markup:
    """A part of the page with its heading, that links can lead to."""
    return tag("section", tag("h2", title), *content, id=anchor)
